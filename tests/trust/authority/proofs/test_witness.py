"""Witnesses: what they sign, what the region takes of it, and who may read what without signing in."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.trust.authority.proofs.conftest import Publisher, entry

from rocade.core.errors import Corrupt, Refused
from rocade.core.ports import AuditEntry
from rocade.trust.authority.cosigning import read_witnesses
from rocade.trust.identity import envelope, proof
from rocade.trust.identity.keys import key_id, new_key, read_private
from rocade.trust.identity.tree_heads import COSIGNATURE_TYPE, Cosignature
from rocade.trust.identity.witness import Witness


async def test_a_proof_carries_what_a_witness_signed_and_can_be_asked_for_it(published: Publisher) -> None:
    await published.write([entry(number) for number in range(20)])
    witness, other = published.witness(), published.witness("other")
    await give(published, await witness.look(published.fetch))
    await published.write([entry(number) for number in range(20)])
    await give(published, await witness.look(published.fetch))
    await published.write([entry(number) for number in range(3)])
    keys = [
        proof.read_trust((published.directory / name / "witness.pem").read_bytes()) for name in ("witness", "other")
    ]
    seen, unseen = ([key] for key in keys)
    made = await published.proofs.entry(30)
    said = proof.verify(made, published.root, witnesses=seen, now_us=published.clock.now_us())
    assert "number 30 of the 40" in said[0], "the head that was witnessed, though there is a newer one"
    assert "saw this head" in said[-1]
    with pytest.raises(Refused, match=r"proof\.witness"):
        proof.verify(made, published.root, witnesses=[*seen, *unseen])
    unwitnessed = await published.proofs.entry(41)
    assert proof.verify(unwitnessed, published.root)
    with pytest.raises(Refused, match=r"proof\.witness"):
        proof.verify(unwitnessed, published.root, witnesses=seen)
    grown = await published.fetch("/proofs/consistency?from=20&to=40")
    assert "all 20 entries" in proof.verify(grown, published.root, witnesses=seen)[0]
    await give(published, await other.look(published.fetch))
    assert proof.verify(await published.proofs.entry(41), published.root, witnesses=unseen)
    assert await witness.compare(published.fetch) == 40
    await witness.look(published.fetch)
    assert await witness.compare(published.fetch) == 43


async def give(published: Publisher, cosignature: bytes) -> None:
    answer = await published.client.post("/proofs/cosignatures", content=cosignature)
    assert answer.status_code == 200, answer.text


def signed(published: Publisher, saw: Cosignature, *, by: str = "witness", kind: str = COSIGNATURE_TYPE) -> bytes:
    key = read_private(published.directory / by / "key.pem") if by else new_key()
    return envelope.seal(kind, msgspec.json.encode(saw), key)


async def test_a_cosignature_that_is_not_one_is_refused_and_audited(published: Publisher) -> None:
    await published.write([entry(number) for number in range(20)])
    published.witness()
    now_us, root = published.clock.now_us(), (await published.proofs.head()).head.root
    good = Cosignature(20, root, now_us)
    for code, content in {
        "witness": signed(published, good, by=""),
        "head": signed(published, Cosignature(20, "00" * 32, now_us)),
        "future": signed(published, Cosignature(20, root, now_us + 3_600_000_000)),
        "malformed": b"{}",
    }.items():
        await refuse(published, code, content)
    await refuse(published, "head", signed(published, Cosignature(19, root, now_us)))
    await refuse(published, "witness", signed(published, good, kind="text/plain"))
    await refuse(published, "malformed", b"x" * 5000)
    await refuse(published, "malformed", b"[" * 2000 + b"]" * 2000)
    assert (await published.proofs.head()).cosignatures == ()
    await give(published, signed(published, good))
    assert len((await published.proofs.head()).cosignatures) == 1


async def test_a_cosignature_is_kept_under_the_name_of_who_signed_it(published: Publisher) -> None:
    """An id in front that signed nothing, by an algorithm nobody checks, takes no other witness's place."""
    await published.write([entry(number) for number in range(20)])
    published.witness(), published.witness("other")
    saw = Cosignature(20, (await published.proofs.head()).head.root, published.clock.now_us())
    mine = key_id(read_private(published.directory / "witness/key.pem").public_key()).hex()
    made = json.loads(signed(published, saw, by="other"))
    made["signatures"].insert(0, {"keyid": mine, "sig": "", "algorithm": "none"})
    answer = await published.client.post("/proofs/cosignatures", content=json.dumps(made).encode())
    assert answer.json() == {"witness": "other"}
    await give(published, signed(published, saw))
    seen = proof.read_key((published.directory / "witness/witness.pem").read_bytes())
    assert proof.verify(await published.proofs.entry(7), published.root, witnesses=[seen])


async def refuse(published: Publisher, code: str, content: bytes) -> None:
    published.notebook.entries.clear()
    answer = await published.client.post("/proofs/cosignatures", content=content)
    assert answer.status_code in {400, 403}
    assert answer.json()["code"] == f"audit.cosignature.{code}"
    assert [(one.action, one.reason) for one in published.notebook.entries] == [
        ("audit.cosign", f"audit.cosignature.{code}")
    ]


async def test_what_needs_no_sign_in_holds_hashes_and_an_entry_needs_one(published: Publisher) -> None:
    await published.write([AuditEntry(1, "person:17", "test.act", f"vehicle:{n}") for n in range(300)])
    for path in ("/proofs/head", "/proofs/head?size=300", "/proofs/inclusion/4", "/proofs/tile/0/0", "/proofs/tile/0/1",
                 "/proofs/tile/1/0"):  # fmt: skip
        content = await published.fetch(path)
        assert b"person:17" not in content
        assert b"vehicle" not in content
        assert base64.b64encode(b"person:17")[:8] not in content
    whole, end = [await published.client.get(f"/proofs/tile/0/{number}") for number in (0, 1)]
    assert (len(whole.content), "immutable" in whole.headers["cache-control"]) == (256 * 32, True)
    assert (len(end.content), end.headers["cache-control"]) == (44 * 32, "no-store")
    answer = await published.client.get("/v1/audit/4/proof")
    assert (answer.status_code, answer.json()["code"]) == (401, "access.missing")
    for path, status in (("/proofs/inclusion/300", 404), ("/proofs/consistency?from=7", 404), ("/proofs/tile/0/9", 404),
                         ("/proofs/consistency", 400), ("/proofs/inclusion/-1", 404), (f"/proofs/head?size={1 << 70}", 400)):  # fmt: skip
        assert (await published.client.get(path)).status_code == status, path


async def test_a_witness_takes_heads_of_its_region_only_and_begins_where_it_ended(published: Publisher) -> None:
    await published.write([entry(number) for number in range(20)])
    witness = published.witness()
    assert witness.last is None
    await witness.look(published.fetch)
    again = Witness(published.directory / "witness", published.root, published.clock)
    assert again.last == witness.last
    await again.look(published.fetch)
    assert (published.directory / "witness/seen").read_bytes().count(b"\n") == 1, "one head is kept once"
    good = json.loads(await published.fetch("/proofs/head"))

    for change, code in (
        ({"signers": []}, "witness.head.signer"),
        ({"head": json.loads(envelope.seal("text/plain", b"{}", new_key()))}, "witness.head.signer"),
        ({"head": None}, "witness.head.signer"),
    ):

        async def answer(_: str, change: dict[str, object] = change) -> bytes:
            return json.dumps({**good, **change}).encode()

        with pytest.raises(Refused) as caught:
            await again.look(answer)
        assert caught.value.code == code
    for what in (nothing, brackets):
        with pytest.raises(Refused, match=r"witness\.head\.malformed"):
            await again.look(what)
    (published.directory / "witness/seen").write_text("rubbish\n")
    with pytest.raises(Corrupt, match=r"witness\.seen"):
        await again.look(published.fetch)


async def nothing(_: str) -> bytes:
    return b"<html>"


async def brackets(_: str) -> bytes:
    return b'{"more":' + b"[" * 200_000 + b"]" * 200_000 + b"}"


async def test_a_head_a_crash_cut_off_in_the_file_was_never_signed(published: Publisher) -> None:
    await published.write([entry(number) for number in range(20)])
    witness = published.witness()
    await witness.look(published.fetch)
    with (published.directory / "witness/seen").open("ab") as file:
        file.write(b'{"payloadType":"application')
    await published.write([entry(number) for number in range(20)])
    again = Witness(published.directory / "witness", published.root, published.clock)
    await again.look(published.fetch)
    assert again.last is not None
    assert again.last.size == 40
    await again.look(published.fetch)


async def test_a_verifier_takes_no_head_from_the_future(published: Publisher) -> None:
    published.clock.ahead_us = 3_600_000_000
    await published.write([entry(number) for number in range(3)])
    made, now_us = await published.proofs.entry(1), published.clock.now_us() - 3_600_000_000
    with pytest.raises(Refused, match=r"proof\.future"):
        proof.verify(made, published.root, now_us=now_us)
    assert proof.verify(made, published.root, now_us=now_us + 3_600_000_000)
    published.clock.ahead_us = 0
    await published.write([entry(number) for number in range(3)])  # set right: the next head is not waited for
    assert (await published.proofs.head()).head.size == 7
    body = await published.database.pool.fetchval("SELECT body FROM audit_entry WHERE position = 6")
    assert b"audit.head.future" in body, "and that there was such a head stands in the log"
    grown = await published.fetch("/proofs/consistency?from=3&to=7")
    with pytest.raises(Refused, match=r"proof\.future"):
        proof.verify(grown, published.root, now_us=now_us)


def test_a_witness_whose_key_has_a_turned_bit_is_none(tmp_path: Path) -> None:
    file = tmp_path / "dealer.pem"
    whole = new_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    file.write_bytes(whole)
    good, dropped = read_witnesses(tmp_path).keys(), 0
    for bit in range(0, len(whole) * 8, 3):
        turned = bytearray(whole)
        turned[bit // 8] ^= 1 << bit % 8
        file.write_bytes(turned)
        found = read_witnesses(tmp_path).keys()
        assert found in (good, set()), bit
        dropped += not found
    assert dropped > 300, "what it signs is refused from then on, and that is in the audit log"
