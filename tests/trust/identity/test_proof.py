"""One verifier for every proof: what is shown must be what was signed, whole and unchanged; all else is refused with its code."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pymerkle
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.agents.dealer.prices.stand import BEGIN_US, DAY_US, LIST, Stand

from rocade.app.cli import main
from rocade.core.errors import Misconfigured, Refused
from rocade.core.identifiers import Identity
from rocade.core.ports import SystemClock, SystemRandom
from rocade.trust.authority.heads import HEAD_TYPE, KEY_TYPE, Head
from rocade.trust.authority.region import create_region, issue_directory
from rocade.trust.identity import directory, envelope, proof, proof_files, trees
from rocade.trust.identity.keys import new_key

ROOT_TYPE = "application/vnd.rocade.receipt-root+json"
NOW = BEGIN_US + 10 * DAY_US


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Stand:
    """Part 7 has a price, a correction, another name and a withdrawal; five numbers in all."""
    stand = Stand(tmp_path_factory.mktemp("prices"), 700)
    stand.apply()
    stand.publish([(7, BEGIN_US + DAY_US, 5000)])
    stand.publish([(7, BEGIN_US, 4000)], [stand.part(7, label="RENOMMÉ")])
    stand.publish([(8, BEGIN_US + DAY_US, 1)])
    stand.publish([(7, BEGIN_US + 5 * DAY_US, None)])
    stand.apply()
    return stand


def proven(stand: Stand, day: int = 2, known: int | None = None, index: int = 7) -> bytes:
    return stand.store.prove(LIST, stand.ref(index), BEGIN_US + day * DAY_US, known)


@pytest.mark.parametrize(
    ("day", "known", "says"),
    [(0, None, "costs 40.00 EUR"), (2, None, "costs 50.00 EUR"), (2, 2, "costs 50.00 EUR"), (5, None, "is withdrawn"), (5, 4, "costs 50.00 EUR")],
)  # fmt: skip
def test_a_price_is_proven_by_signer_and_by_root(stand: Stand, day: int, known: int | None, says: str) -> None:
    for key in (stand.signing, stand.root):
        sentences = proof.verify(proven(stand, day, known), key.public_key())
        assert says in sentences[0]
        assert f"as known at number {known or 5}" in sentences[0]
        assert "All 4 changes" in sentences[2]


def test_every_part_of_a_list_can_be_proven(stand: Stand) -> None:
    for index in range(0, 700, 60):
        assert proof.verify(proven(stand, 2, None, index), stand.root.public_key())


type Change = Callable[[dict[str, Any]], None]


def set_to(*where: Any, to: Any) -> Change:
    def change(file: dict[str, Any]) -> None:
        for step in where[:-1]:
            file = file[step]
        file[where[-1]] = to

    return change


FORGERIES: dict[str, tuple[str, Change]] = {
    "another price": ("price", set_to("price_minor", to=1)),
    "another currency": ("price", set_to("currency", to="CHF")),
    "another instant": ("price", set_to("at_us", to=BEGIN_US)),
    "an instant before all prices": ("price", set_to("at_us", to=0)),
    "an instant beyond all calendars": ("price", set_to("at_us", to=2**62)),
    "another number": ("price", set_to("known_seq", to=1)),
    "a number beyond the head": ("malformed", set_to("known_seq", to=9)),
    "another part": ("list", set_to("ref", to="X")),
    "another list": ("list", set_to("list", to="it-retail")),
    "another place": ("path", set_to("index", to=6)),
    "a place outside": ("path", set_to("index", to=700)),
    "a place before": ("path", set_to("index", to=-1)),
    "a price rewritten in a change": ("path", set_to("changes", 1, 2, 0, 1, to=1)),
    "an entry moved in time": ("path", set_to("changes", 1, 2, 0, 0, to=BEGIN_US)),
    "another currency in a change": ("path", set_to("changes", 1, 1, to="USD")),
    "a longer currency": ("malformed", set_to("changes", 1, 1, to="EURO")),
    "a change left out": ("path", lambda file: file["changes"].pop()),
    "a correction left out": ("path", lambda file: file["changes"].pop(2)),
    "no change": ("malformed", set_to("changes", to=[])),
    "changes the wrong way round": ("malformed", lambda file: file["changes"].reverse()),
    "a change twice": ("malformed", lambda file: file["changes"].append(file["changes"][-1])),
    "a change after the head": ("malformed", lambda file: file["changes"].append([9, "EUR", []])),
    "another label": ("path", set_to("changes", 0, 3, 2, to="OTHER")),
    "text across the fields": ("malformed", set_to("changes", 0, 3, 1, to="A\x1fB")),
    "a number too large": ("malformed", set_to("changes", 1, 0, to=2**70)),
    "a shorter path": ("path", lambda file: file.update(path=base64.b64encode(base64.b64decode(file["path"])[:-32]).decode())),
    "a longer path": ("path", lambda file: file.update(path=base64.b64encode(base64.b64decode(file["path"]) + bytes(32)).decode())),
    "a path of other hashes": ("path", lambda file: file.update(path=base64.b64encode(bytes(len(base64.b64decode(file["path"])))).decode())),
    "a path that is no base64": ("malformed", set_to("path", to="%%%")),
    "no head": ("signer", set_to("head", to={})),
    "another signature": ("signer", set_to("head", "signatures", 0, "sig", to="MEUCIQ==")),
    "another payload": ("signer", set_to("head", "payload", to="e30=")),
    "another type of statement": ("signer", set_to("head", "payloadType", to="text/plain")),
    "another type of proof": ("malformed", set_to("type", to="rocade.miracle")),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forged_price_proof_is_refused_for(stand: Stand, what: str) -> None:
    code, change = FORGERIES[what]
    file = json.loads(proven(stand))
    change(file)
    for key in (stand.signing, stand.root):
        with pytest.raises(Refused) as caught:
            proof.verify(json.dumps(file).encode(), key.public_key())
        assert caught.value.code == f"proof.{code}"


def test_a_proof_under_an_unknown_key_is_refused(stand: Stand) -> None:
    for content in (proven(stand), proven(stand).replace(b'"signers": [', b'"none": [')):
        with pytest.raises(Refused) as caught:
            proof.verify(content, new_key().public_key())
        assert caught.value.code == "proof.signer"
    foreign = json.loads(proven(stand))  # a stranger's root vouches for the signer, the key given does not
    public = stand.signing.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    foreign["signers"] = [json.loads(envelope.seal(KEY_TYPE, public, new_key()))]
    with pytest.raises(Refused, match="signer"):
        proof.verify(json.dumps(foreign).encode(), stand.root.public_key())


@settings(max_examples=150, deadline=None, derandomize=True)  # another instant asked is another true answer
@given(st.binary(max_size=200), st.integers(0, 5000), st.binary(min_size=1, max_size=3))
def test_noise_is_refused(stand: Stand, noise: bytes, at: int, other: bytes) -> None:
    key = stand.root.public_key()
    with pytest.raises(Refused):
        proof.verify(noise, key)
    good = proven(stand)
    at %= len(good)
    damaged = good[:at] + other + good[at + len(other) :]
    try:
        said = proof.verify(damaged, key)
    except Refused:
        return
    assert said[0] == proof.verify(good, key)[0]  # only what nobody reads was touched


# --- trees of RFC 6962: audit entries and receipts ---


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 100])
def test_paths_are_those_of_rfc_6962(size: int) -> None:
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    contents = [b"entry %d" % at for at in range(size)]
    for content in contents:
        tree.append_entry(content)
    leaves = [sha256(b"\x00" + content).digest() for content in contents]
    for index in range(size):
        path = trees.path_of(leaves, index)
        assert trees.root_of(leaves[index], index, size, path) == tree.get_root()
        for wrong in (path + bytes(32), path[:-32] if path else bytes(32), path[:-1] if path else b"x"):
            with pytest.raises(Refused):
                trees.root_of(leaves[index], index, size, wrong)


def test_an_audit_entry_is_proven() -> None:
    root, key = new_key(), new_key()
    contents = [f'[{at},{{"action":"trust.revoke"}}]'.encode() for at in range(13)]
    leaves = [sha256(b"\x00" + content).digest() for content in contents]
    top = trees.root_of(leaves[0], 0, 13, trees.path_of(leaves, 0))
    head = envelope.seal(HEAD_TYPE, msgspec.json.encode(Head(13, top.hex(), NOW)), key)
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    statement = envelope.seal(KEY_TYPE, public, root)
    file = proof_files.inclusion_proof(
        "audit entry", contents[5], 5, trees.path_of(leaves, 5), head, statements=[statement]
    )
    for trusted in (root, key):
        said = proof.verify(file, trusted.public_key())
        assert "number 5 of the 13" in said[0]
        assert "trust.revoke" in said[1]
    for changed in (
        proof_files.inclusion_proof(
            "audit entry", contents[6], 5, trees.path_of(leaves, 5), head, statements=[statement]
        ),
        proof_files.inclusion_proof(
            "audit entry", contents[5], 6, trees.path_of(leaves, 5), head, statements=[statement]
        ),
        proof_files.inclusion_proof(
            "audit entry", contents[5], 5, trees.path_of(leaves, 6), head, statements=[statement]
        ),
    ):
        with pytest.raises(Refused) as caught:
            proof.verify(changed, root.public_key())
        assert caught.value.code == "proof.path"
    with pytest.raises(Refused, match="signer"):  # a tree head is no receipt root
        proof.verify(proof_files.inclusion_proof("receipt", contents[5], 5, b"", head), key.public_key())


def test_a_receipt_is_proven_by_the_certificate_of_its_signer(tmp_path: Path) -> None:
    """The hub's service certificate comes along; only the region's root certificate is trusted."""
    region = create_region(tmp_path / "trust", "eu", "example.test", SystemClock(), SystemRandom())
    issue_directory(region, tmp_path / "exchange", Identity("example.test", "eu", "service", "exchange"))
    key, leaf = directory.load_key(tmp_path / "exchange"), directory.load_leaf(tmp_path / "exchange")
    root = directory.load_root(tmp_path / "exchange/trust.pem")
    issuers = (tmp_path / "exchange/issuers.json").read_bytes()
    at_us = SystemClock().now_us()
    receipt = b'{"message_id":"m-1","kind":"received"}'
    payload = {"hub": "eu", "commit": 1, "size": 1, "root": sha256(b"\x00" + receipt).hexdigest(), "at_us": at_us}
    head = envelope.seal(ROOT_TYPE, msgspec.json.encode(payload), key)
    chain = leaf.public_bytes(Encoding.PEM).decode()
    file = proof_files.inclusion_proof("receipt", receipt, 0, b"", head, chains=[chain], issuers=issuers)
    assert "m-1" in proof.verify(file, root)[1]
    assert proof.verify(file, leaf)  # the signer's own certificate does as well
    with pytest.raises(Refused, match="signer"):
        proof.verify(file, new_key().public_key())
    late = envelope.seal(ROOT_TYPE, msgspec.json.encode(payload | {"at_us": at_us + 10**17}), key)
    with pytest.raises(Refused, match="in force"):
        proof.verify(
            proof_files.inclusion_proof("receipt", receipt, 0, b"", late, chains=[chain], issuers=issuers), root
        )
    issue_directory(region, tmp_path / "other", Identity("example.test", "eu", "service", "telemetry"))
    stranger = directory.load_key(tmp_path / "other")
    chain = directory.load_leaf(tmp_path / "other").public_bytes(Encoding.PEM).decode()
    head = envelope.seal(ROOT_TYPE, msgspec.json.encode(payload), stranger)
    with pytest.raises(Refused) as caught:
        proof.verify(
            proof_files.inclusion_proof("receipt", receipt, 0, b"", head, chains=[chain], issuers=issuers), root
        )
    assert caught.value.code == "proof.signer"


# --- the command ---


def test_rocade_verify_says_what_is_proven_and_its_exit_code_whether(stand: Stand, tmp_path: Path) -> None:
    good, bad, key = tmp_path / "good.json", tmp_path / "bad.json", tmp_path / "root.pem"
    good.write_bytes(proven(stand))
    bad.write_bytes(proven(stand).replace(b'"price_minor": 5000', b'"price_minor": 4999'))
    key.write_bytes(stand.root.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    said = CliRunner().invoke(main, ["verify", str(good), "--key", str(key)])
    assert said.exit_code == 0
    assert "costs 50.00 EUR" in said.output
    said = CliRunner().invoke(main, ["verify", str(bad), "--key", str(key)])
    assert said.exit_code == 1
    assert "[proof.price]" in said.output
    assert CliRunner().invoke(main, ["verify", str(tmp_path / "none"), "--key", str(key)]).exit_code == 2
    key.write_bytes(b"-----BEGIN NOTHING-----")
    said = CliRunner().invoke(main, ["verify", str(good), "--key", str(key)])
    assert "[proof.key]" in said.output


def test_only_p256_is_trusted() -> None:
    other = ec.generate_private_key(ec.SECP384R1()).public_key()
    with pytest.raises(Misconfigured):
        proof.read_trust(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
