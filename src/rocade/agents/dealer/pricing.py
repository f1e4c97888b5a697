"""The price lists of all hubs as one: which list is whose, and answers in the form that the API, pages and commands show.

A list is named as its hub names it; where two hubs use one name, `hub/list` says which is meant.
Refuses: `prices.list.unknown`, `dealer.list.which`, and what the store refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from rocade.agents.dealer.prices import Changed, Held, PartCard, Price, PriceStore, Successors
from rocade.core.errors import Misconfigured, Refused
from rocade.core.ports import Clock
from rocade.core.prices import WITHDRAWN, Change, Description
from rocade.trust.identity.directory import load_root
from rocade.trust.identity.keys import PublicKey

LARGE_BYTES = 1 << 20
"""Price files of a list whose first load needs more memory than the agent should keep."""

type OpenStore = Callable[[Path, str, Clock], Any]


def open_store(place: Path, hub: str, clock: Clock) -> PriceStore:
    """The price store of one hub below DIR. Raises: Misconfigured `trust.root.missing`; Unavailable `prices.store.*`."""
    trust = place / "hubs" / hub / "trust.pem"
    return PriceStore(place / "prices" / f"{hub}.sqlite3", lambda: _root_key(trust), clock, LARGE_BYTES)


class Prices:
    """Reads only; what is written comes through a hub's `Following`."""

    def __init__(self, stores: Mapping[str, Any]) -> None:
        self._stores: Mapping[str, PriceStore] = stores

    def lists(self) -> list[dict[str, Any]]:
        """Every list held, with where it stands."""
        return [_held(hub, one) for hub, store in self._stores.items() for one in store.heads()]

    def names(self) -> list[str]:
        """What to call each list: its own name, with the hub's in front where another hub uses it too."""
        all_lists = [(hub, one.list) for hub, store in self._stores.items() for one in store.heads()]
        plain = [name for _, name in all_lists]
        return [name if plain.count(name) == 1 else f"{hub}/{name}" for hub, name in all_lists]

    def only(self) -> str:
        """The list's name where there is one. Raises: Refused `dealer.list.which`, `prices.list.unknown`."""
        names = self.names()
        if not names:
            raise Refused("prices.list.unknown", "this point of sale holds no price list yet")
        if len(names) > 1:
            raise Refused("dealer.list.which", f"say which list: {', '.join(names)}")
        return names[0]

    def price(self, name: str, ref: str, at_us: int, known: int | None = None) -> Price:
        store, list_id = self._find(name)
        return store.price(list_id, ref, at_us, known)

    def prices(self, name: str, refs: Sequence[str], at_us: int) -> dict[str, Price | None]:
        """Many prices at one instant; None where the list has no such part, or no price for it yet."""
        store, list_id = self._find(name)
        found = store.prices(list_id, refs, at_us)
        return {ref: found.get(ref) for ref in refs}

    def part(self, name: str, ref: str) -> PartCard:
        store, list_id = self._find(name)
        return store.part(list_id, ref)

    def successors(self, name: str, ref: str) -> Successors:
        store, list_id = self._find(name)
        return store.successors(list_id, ref)

    def search(self, name: str, text: str, count: int) -> list[PartCard]:
        store, list_id = self._find(name)
        return store.search(list_id, text, count)

    def history(self, name: str, ref: str) -> list[Change]:
        store, list_id = self._find(name)
        return store.history(list_id, ref)

    def steps(self, name: str, ref: str) -> list[tuple[int, int | None, str, int]]:
        """The price over time as known now: (from when, price or None, currency, number), by growing instant."""
        newest: dict[int, tuple[int, int | None, str, int]] = {}
        for change in self.history(name, ref):
            for entry in change.entries:
                price = None if entry.price_minor == WITHDRAWN else entry.price_minor
                newest[entry.valid_from_us] = entry.valid_from_us, price, change.currency, change.seq
        return [newest[at_us] for at_us in sorted(newest)]

    def entries(self, name: str, ref: str) -> list[dict[str, Any]]:
        """Every entry there ever was for a part's price, in the order of the releases that gave them."""
        return [
            _entry(entry.valid_from_us, entry.price_minor, change)
            for change in self.history(name, ref)
            for entry in change.entries
        ]

    def changed(self, name: str, number: int) -> list[dict[str, Any]]:
        """What one release did to prices, as rows."""
        return [
            {
                "ref": one.ref,
                "before_minor": one.before_minor,
                **_entry(entry.valid_from_us, entry.price_minor, one.change),
            }
            for one in self.changes(name, number)
            for entry in one.change.entries
        ]

    def changes(self, name: str, number: int, limit: int | None = None) -> list[Changed]:
        store, list_id = self._find(name)
        return store.changes(list_id, number, limit)

    def all_prices(self, name: str, at_us: int) -> Iterator[tuple[Description, Price]]:
        """Every part with a price at an instant, in the order of the list."""
        store, list_id = self._find(name)
        return store.all_prices(list_id, at_us)

    def prove(self, name: str, ref: str, at_us: int) -> bytes:
        store, list_id = self._find(name)
        return store.prove(list_id, ref, at_us)

    def now_us(self, name: str) -> int:
        """Now, never before the newest head was signed: a dealer's clock that stands still shows no old price."""
        store, _ = self._find(name)
        return store.now_us()

    def clock_behind_us(self) -> int:
        return max((store.clock_behind_us() for store in self._stores.values()), default=0)

    def held(self, name: str) -> Held:
        store, list_id = self._find(name)
        return next(one for one in store.heads() if one.list == list_id)

    def holder(self, name: str) -> tuple[str, str]:
        """The hub that gave us a list, and the list's own name. Raises: as `price`."""
        store, list_id = self._find(name)
        return next(hub for hub, one in self._stores.items() if one is store), list_id

    def _find(self, name: str) -> tuple[PriceStore, str]:
        """Raises: Refused `prices.list.unknown`, `dealer.list.which`."""
        hub, _, plain = name.rpartition("/")
        holders = [
            store
            for key, store in self._stores.items()
            if hub in ("", key) and any(h.list == plain for h in store.heads())
        ]
        if not holders:
            raise Refused("prices.list.unknown", "this point of sale holds no price list of that name")
        if len(holders) > 1:
            raise Refused("dealer.list.which", "several hubs have a list of this name; write hub/list")
        return holders[0], plain


def _entry(valid_from_us: int, price_minor: int, change: Change) -> dict[str, Any]:
    price = None if price_minor == WITHDRAWN else price_minor
    return {"number": change.seq, "valid_from_us": valid_from_us, "price_minor": price, "currency": change.currency}


def _held(hub: str, one: Held) -> dict[str, Any]:
    head = one.head
    return {
        "hub": hub, "list": one.list, "brand": head.brand, "country": head.country, "currency": head.currency,
        "kind": head.kind, "number": one.seq, "parts": head.parts, "effective_us": head.effective_us,
        "signed_us": head.signed_us, "applied_us": one.applied_us, "state_root": head.state_root,
    }  # fmt: skip


def _root_key(trust: Path) -> PublicKey:
    key = load_root(trust).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Misconfigured("trust.root.missing", "the root's key is on no curve")
    return key
