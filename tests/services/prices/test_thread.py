"""One file published: entries in the database, files on disk, a signed head, and a holder who opens all of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from tests.services.prices.conftest import DAY_US, LIST, NOW_US, SetClock, new_holder, publish

from rocade.services.prices import Lists
from rocade.trust.identity import envelope
from rocade.trust.identity.keys import PrivateKey, key_id
from rocade.wire.prices import (
    HEAD_TYPE,
    KEY_TYPE,
    Head,
    Tree,
    changed_leaves,
    open_blob,
    open_key,
    open_marks,
    read_letter,
    unpack,
)

FIRST = "ref;price;label\n7701;12,50;Filter\n7702;3.00;Belt\n7703;1 200,00;Pump\n"


async def test_a_published_file_reaches_a_holder_by_files_keys_and_head_alone(
    lists: Lists, tmp_path: Path, root_key: PrivateKey, clock: SetClock
) -> None:
    await publish(lists, tmp_path / "f", FIRST)
    clock.us += DAY_US
    await publish(lists, tmp_path / "f", FIRST.replace("12,50", "13,10") + "7704;9.99;Bulb\n")

    holder = new_holder()
    await lists.announce_keys("FR-1", [(holder.public_key().public_bytes_raw(), clock.us + DAY_US)])
    letter = read_letter(await lists.wrap("FR-1", LIST))
    root = root_key.public_key()
    der = envelope.unseal(KEY_TYPE, letter.signers[0].encode(), {key_id(root).hex(): root})
    signer = load_der_public_key(der)
    assert isinstance(signer, ec.EllipticCurvePublicKey)
    signed = await lists.head(LIST)
    head = msgspec.json.decode(envelope.unseal(HEAD_TYPE, signed, {key_id(signer).hex(): signer}), type=Head)
    keys = {one.epoch: open_key(one, [holder]) for one in letter.keys}

    tree, prices = Tree(), np.empty(0, np.int64)
    for blob in (head.snapshot,) if head.snapshot.to_seq == head.seq else (head.snapshot, head.blob):
        delta = unpack(open_blob(blob, await lists.blob(blob.sha256), keys[blob.epoch], LIST), prices)
        tree.update(*changed_leaves(delta, tree.leaves))
    assert tree.root.hex() == head.state_root
    assert head.seq == 2
    assert head.parts == 4
    assert len(open_marks(letter.marks[0], [holder], "FR-1")) == 48


@pytest.mark.parametrize(
    ("at_us", "known", "price"),
    [(NOW_US, None, 1250), (NOW_US + DAY_US, None, 1310), (NOW_US + DAY_US, 1, 1250), (NOW_US + 5, 2, 1250)],
)
async def test_the_hub_answers_a_price_at_an_instant_as_known_at_a_number(
    lists: Lists, tmp_path: Path, clock: SetClock, at_us: int, known: int | None, price: int
) -> None:
    await publish(lists, tmp_path / "f", FIRST)
    clock.us += DAY_US
    await publish(lists, tmp_path / "f", FIRST.replace("12,50", "13,10"))
    assert (await lists.price(LIST, "7701", at_us, known)).price_minor == price
