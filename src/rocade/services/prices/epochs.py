"""Who may open a list's files: the points of sale that sell or service its brand in its country, by keys wrapped for each.

A list's files are sealed once for all with the key of its epoch. Whoever is entitled gets the keys of the epochs that the
present head's files were sealed in. When one of an epoch's holders is entitled no more, the next release begins a new epoch
(`turn` does so at once), whose key he is not given: what he has he keeps, what comes he cannot open.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from rocade.core.errors import Refused
from rocade.services.prices import errors, store
from rocade.services.prices.acting import Acts
from rocade.services.prices.marks import marks_of, read_pattern
from rocade.services.prices.model import PriceList
from rocade.wire.prices import EpochLetter, Head, Mark, WrappedKey, seal_marks, wrap_key, write_letter

KEYS_LIMIT = 4
SALT_BYTES = 32


class Epochs(Acts):
    """The acts on epochs and their keys."""

    def entitled(self, about: PriceList) -> list[str]:
        """Points of sale that a list is for, now."""
        return self.sites.of_brand(about.brand, self.clock.now_us(), about.country)

    def is_entitled(self, site: str, about: PriceList) -> bool:
        found = self.sites.site(site)
        return (
            found is not None
            and found.country == about.country
            and self.sites.has_brand(site, about.brand, self.clock.now_us())
        )

    async def lists_of(self, site: str) -> list[PriceList]:
        """Lists that a point of sale is entitled to."""
        return [one for one in await store.lists(self.pool) if self.is_entitled(site, one)]

    async def announce_keys(self, site: str, keys: Sequence[tuple[bytes, int]]) -> bool:
        """Take the encryption keys of a point of sale (raw X25519, end), in place of those it announced before.

        Returns whether they are others; every agent says its keys again whenever it connects.
        Raises: Refused `prices.encryption.malformed`.
        """
        now_us = self.clock.now_us()
        good = [(key, end_us) for key, end_us in keys if end_us > now_us]
        if not 1 <= len(keys) <= KEYS_LIMIT or any(len(key) != 32 or not 0 < end < 1 << 62 for key, end in keys):
            raise errors.bad_keys()
        for key, _ in good:
            _load(key)
        if {*good} == {*await store.announced(self.pool, site)}:
            return False
        async with self.acting(f"dealer:{site}", "prices.keys", f"site:{site}") as connection:
            await store.set_keys(connection, site, good, now_us)
        self.note("prices.keys", f"dealer:{site}", f"site:{site}", keys=len(good))
        return True

    async def wrap(self, site: str, list_id: str) -> bytes:
        """The letter to a point of sale with the keys and marks of a list: the body of `down/epoch`.

        Raises: Refused `prices.list.unknown`, `prices.entitlement.missing`, `prices.encryption.missing`.
        """
        about = await self.find(list_id)
        try:
            if not self.is_entitled(site, about):
                raise errors.not_entitled()
            raw = await store.keys_of(self.pool, site, self.clock.now_us())
            if not raw:
                raise errors.no_key()
        except Refused as refusal:
            self.note_refusal(f"dealer:{site}", "prices.wrap", f"list:{list_id}", refusal)
            raise
        holders = [_load(key) for key in raw]
        signed = await store.head(self.pool, about.number)
        salts = self.kept_salts.get(about.number, {})
        if signed is None or _epochs_of(signed) - salts.keys():
            salts = self.kept_salts[about.number] = await store.salts(self.pool, about.number)
        wanted = _epochs_of(signed) if signed else set(salts)
        keys = [
            (epoch, self.signing.epoch_key(list_id, epoch, salts[epoch])) for epoch in sorted(wanted & salts.keys())
        ]
        wrapped = tuple(
            WrappedKey(list_id, epoch, tuple(wrap_key(key, to, list_id, epoch) for to in holders))
            for epoch, key in keys
        )
        await store.add_epoch_sites(self.pool, about.number, about.epoch, [site])
        drawn = await self._marks(about, site)
        sealed = (seal_marks(drawn, holders, list_id, site),) if drawn else ()
        return write_letter(EpochLetter(wrapped, (self.signing.statement,), sealed))

    async def _marks(self, about: PriceList, site: str) -> tuple[Mark, ...]:
        """What names this holder; one that happens to be a part is left out."""
        pattern = self.kept_patterns.get(about.number)
        if pattern is None:
            content = await store.pattern(self.pool, about.number)
            if content is None:
                return ()
            pattern = self.kept_patterns[about.number] = read_pattern(content)
        drawn = marks_of(self.signing, pattern, about.id, site)
        real = await store.parts_among(self.pool, about.number, [one.ref for one in drawn])
        return tuple(one for one in drawn if one.ref not in real)

    async def turn(self, list_id: str, actor: str, reason: str) -> int:
        """Begin a new epoch now: the next release's files are sealed with a key that only those entitled then are given."""
        about = await self.find(list_id)
        async with self.acting(actor, "prices.epoch", f"list:{list_id}") as connection:
            await store.lock_list(connection, about.number)
            epoch = max(await store.salts(connection, about.number), default=0) + 1
            await self._begin(connection, about, epoch, self._new_salt(), reason)
            await store.set_epoch(connection, about.number, epoch)
            await self.record("prices.epoch", actor, f"list:{list_id}", epoch=epoch, why=reason)
        return epoch

    async def epoch_for_release(self, about: PriceList) -> tuple[int, bytes, bool]:
        """(epoch, salt, is it new) for the next release's files."""
        salts = await store.salts(self.pool, about.number)
        if about.epoch and about.epoch in salts:
            left = await store.epoch_sites(self.pool, about.number, about.epoch) - {*self.entitled(about)}
            if not left:
                return about.epoch, salts[about.epoch], False
        return max(salts, default=0) + 1, self._new_salt(), True

    async def _begin(self, connection: Any, about: PriceList, epoch: int, salt: bytes, reason: str) -> None:
        await store.add_epoch(connection, about.number, epoch, salt, self.clock.now_us(), reason)
        await store.add_epoch_sites(connection, about.number, epoch, self.entitled(about))

    def _new_salt(self) -> bytes:
        return self.random.bits(8 * SALT_BYTES).to_bytes(SALT_BYTES)


def _load(key: bytes) -> X25519PublicKey:
    try:
        return X25519PublicKey.from_public_bytes(key)
    except ValueError:
        raise errors.bad_keys() from None


def _epochs_of(signed: bytes) -> set[int]:
    """Epochs that a head's files were sealed in."""
    head = payload_of(signed)
    return {head.epoch, head.blob.epoch, head.snapshot.epoch, *(one.epoch for one in head.skips)}


def payload_of(signed: bytes) -> Head:
    """A head of our own; who reads somebody else's checks its signature."""
    import base64

    import msgspec

    sealed = msgspec.json.decode(signed)
    return msgspec.json.decode(base64.b64decode(sealed["payload"]), type=Head)
