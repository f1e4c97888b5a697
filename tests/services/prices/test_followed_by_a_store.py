"""What the hub publishes, followed by the store that points of sale have: day by day, after weeks away, as a newcomer, over epochs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.services.prices.conftest import DAY_US, LIST, NOW_US, SITES, SetClock, publish

from rocade.agents.dealer.prices import PriceStore
from rocade.core.errors import Unavailable
from rocade.services.dealers import Dealers, SiteTable
from rocade.services.prices import Lists
from rocade.services.prices.epochs import payload_of
from rocade.trust.identity.keys import PrivateKey

PARTS = 20_000
lines = (f"77{at:05d};{10 + at * 7919 % 9_000}.00;{at * 2_654_435_761 % (1 << 32):x}\n" for at in range(PARTS))
WHOLE = "ref;price;label\n" + "".join(lines)


class Keyring:
    def __init__(self) -> None:
        self.private_keys = [X25519PrivateKey.generate()]


class Holder:
    """A point of sale without its line: letters and heads are handed over, files are fetched."""

    def __init__(self, lists: Lists, site: str, path: Path, root: PrivateKey, clock: SetClock) -> None:
        self.lists, self.site, self.keyring, self.fetched = lists, site, Keyring(), list[str]()
        self.store = PriceStore(path, root.public_key, clock)

    async def join(self) -> None:
        raw = self.keyring.private_keys[0].public_key().public_bytes_raw()
        await self.lists.announce_keys(self.site, [(raw, self.lists.clock.now_us() + 300 * DAY_US)])
        await self.letters()

    async def letters(self) -> None:
        for letter in await self.lists.letters(self.site):
            self.store.keep_epoch(letter, self.keyring)

    async def follow(self) -> int:
        """Apply the newest head; how many files that took."""
        head = await self.lists.head(LIST)
        told = payload_of(head)
        files = {one.sha256: await self.lists.blob(one.sha256) for one in (told.blob, told.snapshot, *told.skips)}
        before = len(self.fetched)

        def fetch(name: str) -> bytes:
            self.fetched.append(name)
            return files[name]

        applied = self.store.apply(head, fetch)
        assert applied.state_root == told.state_root
        return len(self.fetched) - before


@pytest.fixture
def holder(lists: Lists, tmp_path: Path, root_key: PrivateKey, clock: SetClock) -> Callable[[str], Holder]:
    return lambda site: Holder(lists, site, tmp_path / f"{site}.sqlite3", root_key, clock)


async def test_one_who_is_there_one_who_was_away_and_a_newcomer_hold_the_same_list(
    lists: Lists, tmp_path: Path, clock: SetClock, holder: Callable[[str], Holder]
) -> None:
    await publish(lists, tmp_path / "f", WHOLE)
    daily, away, newcomer = (holder(site) for site in SITES)
    await daily.join()
    await away.join()
    await daily.follow()
    await away.follow()
    for day in (1, 2, 9, 10, 20, 34):
        clock.us = NOW_US + day * DAY_US
        await publish(lists, tmp_path / "f", f"ref;price\n77{day:05d};1.25\n770{day:04d}X;7.00\n", mode="changes")
        assert await daily.follow() == 1
        if day == 10:
            assert await away.follow() == 1, "one skip over three releases"
    assert await away.follow() <= 2
    await newcomer.join()
    assert await newcomer.follow() <= 2, "a snapshot and a skip"
    for one in (daily, away, newcomer):
        assert one.store.verify_all() == {LIST: ""}
        assert one.store.price(LIST, "7700009", clock.us).price_minor == 125
        for known in (1, 4, 7):
            hub = await lists.price(LIST, "7700010", clock.us, known)
            assert one.store.price(LIST, "7700010", clock.us, known).price_minor == hub.price_minor


async def test_a_holder_over_epochs_needs_each_letter_and_one_who_left_stays_where_he_was(
    lists: Lists, tmp_path: Path, clock: SetClock, holder: Callable[[str], Holder], dealers: Dealers, sites: SiteTable
) -> None:
    await publish(lists, tmp_path / "f", WHOLE)
    stays, leaves = holder("FR-1"), holder("FR-2")
    for one in (stays, leaves):
        with pytest.raises(Unavailable, match=r"prices\.epoch\.missing"):
            await one.follow()
        await one.join()
        await one.follow()
    clock.us += DAY_US
    await dealers.end_brand("FR-2", "renault")
    clock.us += DAY_US
    await sites.refresh()
    await publish(lists, tmp_path / "f", "ref;price\n7700001;1.25\n", mode="changes")
    for one in (stays, leaves):
        with pytest.raises(Unavailable, match=r"prices\.epoch\.missing"):
            await one.follow()
        await one.letters()
    await stays.follow()
    assert stays.store.price(LIST, "7700001", clock.us).price_minor == 125
    with pytest.raises(Unavailable, match=r"prices\.epoch\.missing"):
        await leaves.follow()
    assert leaves.store.price(LIST, "7700001", clock.us).price_minor != 125
