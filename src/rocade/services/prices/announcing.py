"""What the line to points of sale asks of price lists: the signed heads, who may have them, their letters, what they say back.

6,500 points of sale ask at once after a cut: heads are read again only when a release was added, who is entitled is worked out
once a second, and a letter costs one query and the wrapping. What all of them say back within a moment is one statement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from rocade.core.errors import Refused
from rocade.services.prices import store
from rocade.services.prices.epochs import Epochs, payload_of
from rocade.services.prices.model import PriceList

STATES = ("fetched", "applied", "refused")
READERS_FOR_S = 1.0
CODE_LIMIT = 64
INSTANT_LIMIT_US = 1 << 62


class Said(msgspec.Struct, frozen=True):
    """A point of sale about a release of a list."""

    site: str
    list_id: str
    seq: int
    state: str
    code: str
    at_us: int


class Announcing(Epochs):
    """Heads down, acknowledgements up."""

    _number = -1
    _heads: Mapping[str, bytes] = {}
    _abouts: Mapping[str, PriceList] = {}
    _readers: dict[str, tuple[float, tuple[str, ...]]] | None = None

    async def signed_heads(self) -> Mapping[str, bytes]:
        """The signed head of every list that was ever released."""
        number = await store.last_number(self.pool)
        if number != self._number:
            self._heads = {list_id: head for _, list_id, head in await store.heads_after(self.pool, 0)}
            self._abouts = {one.id: one for one in await store.lists(self.pool)}
            self._number = number
        return self._heads

    async def readers(self, list_id: str) -> Sequence[str]:
        """Points of sale that a list is for, as of a second ago at most."""
        await self.signed_heads()
        about = self._abouts.get(list_id)
        if about is None:
            return ()
        if self._readers is None:
            self._readers = {}
        now_s = self.clock.monotonic_s()
        known = self._readers.get(list_id)
        if known is None or now_s - known[0] > READERS_FOR_S:
            known = self._readers[list_id] = now_s, tuple(self.entitled(about))
        return known[1]

    async def heads_for(self, site: str) -> list[bytes]:
        """The heads of the lists a point of sale is entitled to."""
        heads = await self.signed_heads()
        return [head for list_id, head in heads.items() if self.is_entitled(site, self._abouts[list_id])]

    async def letters(self, site: str, only: str = "") -> list[bytes]:
        """Letters with the keys of every list a point of sale is entitled to, or of one; none before it announced a key."""
        found = []
        for list_id in (only,) if only else tuple(await self.signed_heads()):
            about = self._abouts.get(list_id)
            if about is not None and self.is_entitled(site, about):
                try:
                    found.append(await self.wrap(site, list_id))
                except Refused as refusal:
                    if refusal.code != "prices.encryption.missing":
                        raise
        return found

    def epoch_of(self, signed: bytes) -> int:
        """The epoch whose key a head's newest file was sealed with: who has the key of another only needs a letter first."""
        return payload_of(signed).blob.epoch

    async def acknowledge(self, said: Sequence[Said]) -> None:
        """Note how far points of sale say they have come. What names no list or no state is passed over."""
        await self.signed_heads()
        rows: dict[tuple[int, str, int], tuple[str, str, int]] = {}
        for one in said:
            about = self._abouts.get(one.list_id)
            if (
                about is None
                or one.state not in STATES
                or not 0 < one.seq < 1 << 31
                or not 0 <= one.at_us < INSTANT_LIMIT_US
            ):
                continue
            key = about.number, one.site, one.seq
            if key not in rows or rows[key][0] != "applied":
                rows[key] = one.state, one.code[:CODE_LIMIT].replace("\x00", ""), one.at_us
        if rows:
            await store.add_acks(self.pool, [(*key, *row) for key, row in sorted(rows.items())])
