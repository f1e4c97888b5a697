"""Who may open a list's files: by brand and country, by epoch; and what points of sale say back."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.notebook import Notebook
from tests.services.prices.conftest import DAY_US, LIST, SITES, SetClock, publish

from rocade.core.errors import Refused
from rocade.services.dealers import Dealers, SiteTable
from rocade.services.prices import Lists, Said
from rocade.services.prices.epochs import payload_of
from rocade.wire.prices import EpochLetter, open_blob, open_key, open_marks, read_letter

FIRST = "ref;price;label\n" + "".join(f"77{at:04d};{10 + at}.00;Part {at}\n" for at in range(40))


async def joined(lists: Lists, site: str) -> X25519PrivateKey:
    """A point of sale whose agent has announced its key."""
    key = X25519PrivateKey.generate()
    await lists.announce_keys(site, [(key.public_key().public_bytes_raw(), lists.clock.now_us() + 90 * DAY_US)])
    return key


async def letter_of(lists: Lists, site: str) -> EpochLetter:
    return read_letter(await lists.wrap(site, LIST))


@pytest.mark.parametrize("site", ["DE-1", "FR-9", "FR-unknown", ""])
async def test_a_list_is_not_for_another_country_another_brand_or_a_stranger(
    lists: Lists, tmp_path: Path, site: str, audit: Notebook
) -> None:
    await publish(lists, tmp_path / "f", FIRST)
    await joined(lists, site)
    with pytest.raises(Refused) as refused:
        await lists.wrap(site, LIST)
    assert refused.value.code == "prices.entitlement.missing"
    assert audit.refusals == ["prices.entitlement.missing"]
    assert await lists.letters(site) == []
    assert await lists.heads_for(site) == []


async def test_a_point_of_sale_without_a_good_key_gets_no_letter(lists: Lists, tmp_path: Path, clock: SetClock) -> None:
    await publish(lists, tmp_path / "f", FIRST)
    with pytest.raises(Refused, match=r"prices\.encryption\.missing"):
        await lists.wrap("FR-1", LIST)
    await joined(lists, "FR-1")
    assert await lists.letters("FR-1")
    clock.us += 91 * DAY_US
    assert await lists.letters("FR-1") == []


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [(b"short", 1 << 60)],
        [(bytes(32), 0)],
        [(bytes(32), 1 << 62)],
        [(bytes([at]) * 32, 1 << 60) for at in range(5)],
    ],
)
async def test_keys_that_are_none_are_refused(lists: Lists, keys: list[tuple[bytes, int]]) -> None:
    with pytest.raises(Refused, match=r"prices\.encryption\.malformed"):
        await lists.announce_keys("FR-1", keys)


async def test_a_letter_is_opened_by_each_key_of_its_holder_and_by_nobody_elses(lists: Lists, tmp_path: Path) -> None:
    await publish(lists, tmp_path / "f", FIRST)
    old, new, other = (X25519PrivateKey.generate() for _ in range(3))
    end_us = lists.clock.now_us() + DAY_US
    await lists.announce_keys("FR-1", [(one.public_key().public_bytes_raw(), end_us) for one in (old, new)])
    letter = await letter_of(lists, "FR-1")
    assert open_key(letter.keys[0], [old]) == open_key(letter.keys[0], [new])
    assert open_marks(letter.marks[0], [old], "FR-1") == open_marks(letter.marks[0], [new], "FR-1")
    for refused in (lambda: open_key(letter.keys[0], [other]), lambda: open_marks(letter.marks[0], [other], "FR-1")):
        with pytest.raises(Refused):
            refused()
    with pytest.raises(Refused):
        open_marks(letter.marks[0], [old], "FR-2")


async def test_who_leaves_is_cut_off_at_the_next_release(
    lists: Lists, tmp_path: Path, dealers: Dealers, sites: SiteTable, clock: SetClock
) -> None:
    """He keeps what he had; what comes is sealed with a key he is not given."""
    await publish(lists, tmp_path / "f", FIRST)
    keys = {site: await joined(lists, site) for site in SITES}
    letters = {site: await letter_of(lists, site) for site in SITES}
    held = {one.epoch: open_key(one, [keys["FR-2"]]) for one in letters["FR-2"].keys}

    clock.us += DAY_US
    await dealers.end_brand("FR-2", "renault")
    clock.us += DAY_US
    await sites.refresh()
    with pytest.raises(Refused, match=r"prices\.entitlement\.missing"):
        await lists.wrap("FR-2", LIST)
    await publish(lists, tmp_path / "f", FIRST.replace("10.00", "10.50"))

    head = payload_of(await lists.head(LIST))
    assert head.epoch == 2
    files = [head.blob, head.snapshot, *head.skips]
    assert {one.epoch for one in files if one.to_seq == 2} == {2}
    with pytest.raises(Refused, match=r"prices\.blob\.sealed"):
        open_blob(head.blob, await lists.blob(head.blob.sha256), held[1], LIST)
    fresh = {one.epoch: open_key(one, [keys["FR-1"]]) for one in (await letter_of(lists, "FR-1")).keys}
    assert open_blob(head.blob, await lists.blob(head.blob.sha256), fresh[2], LIST)
    await publish(lists, tmp_path / "f", FIRST)
    assert payload_of(await lists.head(LIST)).epoch == 2, "one leaving, one new epoch"


async def test_an_operator_turns_the_epoch_at_once(lists: Lists, tmp_path: Path) -> None:
    await publish(lists, tmp_path / "f", FIRST)
    assert await lists.turn(LIST, "person:1", "a key was lost") == 2
    await publish(lists, tmp_path / "f", FIRST.replace("10.00", "10.50"))
    assert payload_of(await lists.head(LIST)).blob.epoch == 2


async def test_heads_are_for_those_entitled_and_progress_counts_them(lists: Lists, tmp_path: Path) -> None:
    await publish(lists, tmp_path / "f", FIRST)
    assert list(await lists.readers(LIST)) == [*SITES]
    assert await lists.heads_for("FR-1") == [await lists.head(LIST)]
    said = [
        Said("FR-1", LIST, 1, "fetched", "", 1), Said("FR-1", LIST, 1, "applied", "", 2), Said("FR-1", LIST, 1, "fetched", "", 3),
        Said("FR-2", LIST, 1, "refused", "prices.state.mismatch", 4), Said("FR-3", LIST, 1, "fetched", "", 5),
        Said("DE-1", LIST, 1, "applied", "", 6), Said("FR-3", "no-such", 1, "applied", "", 6), Said("FR-3", LIST, 0, "applied", "", 6),
        Said("FR-3", LIST, 1, "dreamt", "", 6),
    ]  # fmt: skip
    await lists.acknowledge(said)
    await lists.acknowledge([Said("FR-1", LIST, 1, "fetched", "", 9)])
    progress = await lists.progress(LIST)
    assert (progress.entitled, progress.fetched, progress.applied, progress.refused) == (3, 2, 1, 1)
    assert [(one.site, one.applied_seq, one.code) for one in await lists.holders(LIST)] == [
        ("DE-1", 1, ""), ("FR-1", 1, ""), ("FR-2", 0, "prices.state.mismatch"), ("FR-3", 0, ""),
    ]  # fmt: skip
