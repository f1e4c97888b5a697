"""The use cases of price lists in one class: lists, drafts, releases, keys, who has come how far, prices at an instant."""

from __future__ import annotations

from rocade.services.prices import errors, store
from rocade.services.prices.announcing import Announcing
from rocade.services.prices.model import Price, PriceList, Progress, Released, Site, check_list
from rocade.services.prices.releasing import Releasing
from rocade.services.prices.tracing import Tracing


class Lists(Releasing, Announcing, Tracing):
    """Price lists of one region."""

    async def add(self, id: str, brand: str, country: str, currency: str, kind: str, actor: str) -> PriceList:
        """Make an empty list. Raises: Refused `prices.list.malformed`, `prices.list.exists`."""
        check_list(id, brand, country, currency, kind)
        made = PriceList(0, id, brand, country, currency, kind, self.clock.now_us(), 0, 0, 0)  # type: ignore[arg-type]  # checked above
        async with self.acting(actor, "prices.add", f"list:{id}") as connection:
            if not await store.add_list(connection, made, actor):
                raise errors.list_exists()
            await self.record(
                "prices.add", actor, f"list:{id}", brand=brand, country=country, currency=currency, kind=kind
            )
        return await self.find(id)

    async def lists(self) -> list[PriceList]:
        return await store.lists(self.pool)

    async def releases(self, list_id: str, before: int = 1 << 30, limit: int = 100) -> list[Released]:
        """The newest first."""
        return await store.releases(self.pool, (await self.find(list_id)).number, before, limit)

    async def head(self, list_id: str) -> bytes:
        """The signed head. Raises: Refused `prices.list.unknown` (also before its first release)."""
        signed = await store.head(self.pool, (await self.find(list_id)).number)
        if signed is None:
            raise errors.list_unknown()
        return signed

    async def blob(self, sha256: str) -> bytes:
        """A sealed file. Raises: Refused `prices.blob.unknown`."""
        found = await self.shelf.read(sha256)
        if found is None:
            raise errors.blob_unknown()
        return found

    async def price(self, list_id: str, ref: str, at_us: int, known_seq: int | None = None) -> Price:
        """The price of a reference at an instant, as known at a number of the list (None = the last).

        Raises: Refused `prices.reference.unknown`, `prices.list.unknown`.
        """
        about = await self.find(list_id)
        found = await store.price(self.pool, about.number, ref, at_us, about.seq if known_seq is None else known_seq)
        if found is None:
            raise errors.price_unknown()
        return found

    async def progress(self, list_id: str, seq: int | None = None) -> Progress:
        """How far a release (None = the last) has come among those entitled now."""
        about = await self.find(list_id)
        return await store.progress(self.pool, about.number, about.seq if seq is None else seq, self.entitled(about))

    async def holders(self, list_id: str, after: str = "", limit: int = 100) -> list[Site]:
        """How far each point of sale that ever acknowledged has come."""
        return await store.sites(self.pool, (await self.find(list_id)).number, after, limit)

    async def sweep(self) -> int:
        """Remove files that nothing names."""
        return self.shelf.sweep(await store.blob_names(self.pool), self.clock.now_us())
