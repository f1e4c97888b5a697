"""What the keeper of a log could do to it, each found by somebody who holds nothing but what was published: a table of attacks.

The keeper here has everything: database, files, the key that signs heads. A witness has the region's root certificate and what
it read over HTTP before. What the proofs held by third persons say after each attack is asked too.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from hashlib import sha256

import msgspec
import pytest
from tests.trust.authority.proofs.conftest import Publisher, entry

from rocade.core.errors import Refused
from rocade.core.ports import AuditEntry
from rocade.trust.authority.audit import Line
from rocade.trust.authority.heads import Head, sign_head
from rocade.trust.identity import proof
from rocade.trust.identity.keys import read_private
from rocade.trust.identity.witness import Witness

type Attack = Callable[[Publisher], Awaitable[object]]
SIZE = 300


def lie(number: int) -> AuditEntry:
    return entry(number, "test.lie")


async def edit_row(p: Publisher) -> None:
    body = msgspec.json.encode(Line(7, entry(7, "test.lie")))
    await p.database.pool.execute("UPDATE audit_entry SET body = $1 WHERE position = 7", body)


async def swap_rows(p: Publisher) -> None:
    for was, becomes in ((7, -1), (8, 7), (-1, 8)):
        await p.database.pool.execute("UPDATE audit_entry SET position = $2 WHERE position = $1", was, becomes)


async def drop_row(p: Publisher) -> None:
    await p.database.pool.execute("DELETE FROM audit_entry WHERE position = 7")
    await p.database.pool.execute("UPDATE audit_entry SET position = -position - 1 WHERE position > 7")
    await p.database.pool.execute("UPDATE audit_entry SET position = -position - 2 WHERE position < 0")


async def truncate_rows(p: Publisher) -> None:
    await p.database.pool.execute("DELETE FROM audit_entry WHERE position >= 290")


def signed_again(change: Callable[[list[AuditEntry]], object], more: int = 0) -> Attack:
    """The whole history written anew after a change, with its tree and properly signed heads, and gone on with."""

    async def attack(p: Publisher) -> None:
        await p.rewrite(change)
        if more:
            await p.write([entry(number) for number in range(more)])

    return attack


def swap(entries: list[AuditEntry]) -> None:
    entries[7], entries[8] = entries[8], entries[7]


async def date_ahead(p: Publisher) -> None:
    p.clock.ahead_us = 3_600_000_000
    await p.write([entry(1)])
    p.clock.ahead_us = 0


ATTACKS: dict[str, tuple[str, Attack]] = {
    # what stands in the tables is changed, heads are as they were
    "edit": ("witness.entry.changed", edit_row),
    "swap": ("witness.entry.changed", swap_rows),
    "drop": ("witness.entry.changed", drop_row),
    "truncate": ("audit.nodes", truncate_rows),
    # all is rewritten and signed again, as only the keeper can
    "edit and sign again": ("witness.head.forked", signed_again(lambda all_: all_.__setitem__(7, lie(7)))),
    "swap and sign again": ("witness.head.forked", signed_again(swap)),
    "drop and sign again": ("witness.head.shrunk", signed_again(lambda all_: all_.pop(7))),
    "truncate and sign again": ("witness.head.shrunk", signed_again(lambda all_: all_.__delitem__(slice(290, None)))),
    "edit, sign again, go on": ("witness.head.forked", signed_again(lambda all_: all_.__setitem__(7, lie(7)), 9)),
    "swap, sign again, go on": ("witness.head.forked", signed_again(swap, 9)),
    "drop, sign again, go on": ("witness.head.forked", signed_again(lambda all_: all_.pop(7), 9)),
    "drop the last, sign again, go on": ("witness.head.forked", signed_again(lambda all_: all_.pop(), 9)),
    "insert and sign again": ("witness.head.forked", signed_again(lambda all_: all_.insert(7, lie(7)))),
    "a head from the future": ("witness.head.future", date_ahead),
}  # fmt: skip


async def watch(witness: Witness, published: Publisher) -> None:
    await witness.look(published.fetch)
    await witness.compare(published.fetch)


@pytest.mark.parametrize("name", ATTACKS)
async def test_from_published_material_alone_a_witness_finds(name: str, published: Publisher) -> None:
    code, attack = ATTACKS[name]
    await published.write([entry(number) for number in range(SIZE)])
    witness = published.witness()
    await watch(witness, published)
    before = witness.last_signed
    held = await published.proofs.entry(8)  # somebody holds the proof of a good entry
    await attack(published)
    with pytest.raises(Refused) as caught:
        await watch(witness, published)
    assert caught.value.code == code
    assert "position" not in caught.value.facts or caught.value.facts["position"] == 7
    assert witness.last_signed == before, "what was refused is never signed"
    if code.startswith("witness."):
        assert json.loads((published.directory / "witness/refused").read_text().splitlines()[-1])["code"] == code
    assert proof.verify(held, published.root), "a proof once given holds whatever is done to the log"
    await watch_again_refuses(witness, published, code)


async def watch_again_refuses(witness: Witness, published: Publisher, code: str) -> None:
    with pytest.raises(Refused) as caught:
        await watch(witness, published)
    assert caught.value.code == code


async def test_a_fork_shown_to_two_is_a_proof_against_the_keeper_that_anybody_can_check(published: Publisher) -> None:
    await published.write([entry(number) for number in range(SIZE)])
    witness = published.witness()
    await watch(witness, published)
    await published.rewrite(lambda entries: entries.__setitem__(7, entry(7, "test.lie")))
    with pytest.raises(Refused, match=r"witness\.head\.forked"):
        await watch(witness, published)
    evidence = (published.directory / f"witness/fork-{SIZE}.json").read_bytes()
    assert proof.verify(evidence, published.root)[0].startswith("THE LOG WAS FORKED")
    harmless = json.loads(evidence)
    harmless["new"] = harmless["old"]
    with pytest.raises(Refused, match=r"proof\.fork"):
        proof.verify(json.dumps(harmless).encode(), published.root)
    foreign = sign_head(Head(SIZE, "00" * 32, 1), read_private(published.directory / "witness/key.pem"))
    harmless["new"] = json.loads(foreign)
    with pytest.raises(Refused, match=r"proof\.signer"):
        proof.verify(json.dumps(harmless).encode(), published.root)


async def test_an_entry_that_was_edited_is_not_what_its_published_path_leads_to(published: Publisher) -> None:
    """Who was shown an entry needs its bytes and the published path, nothing more."""
    await published.write([entry(number) for number in range(SIZE)])
    shown = msgspec.json.encode(Line(7, entry(7)))
    found = json.loads(await published.fetch("/proofs/inclusion/7"))
    assert found["leaf"] == sha256(b"\x00" + shown).hexdigest()
    await edit_row(published)
    found = json.loads(await published.fetch("/proofs/inclusion/7"))
    assert found["leaf"] != sha256(b"\x00" + shown).hexdigest()
    for position in (7, 8):  # the keeper can prove neither the edited entry nor its neighbours any more
        with pytest.raises(Refused, match=r"proof\.path"):
            await published.proofs.entry(position)
