"""How the authority's tables name a party: a vehicle's number is sealed, everybody else stands in clear.

The column `identity` of a vehicle's certificate or claim code is its URI with the number's blind index in its place: equal for
one vehicle, so that everything is looked up, counted and locked by it as before, and of the kind it says. The number
itself stands beside it, sealed with the region's key and bound to that blind index; an operator's lists open it. People find
a vehicle there by the last characters of its number, from four on.
Dealers, partners, services, stations and operators are named by organisations and functions; their URIs stand in the audit log.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import asyncpg
import msgspec

from rocade.trust.authority import store
from rocade.trust.authority.sealing import REGION, Group
from rocade.trust.authority.sealing.columns import SHORTEST_ENDING, Column, Columns, Index
from rocade.trust.authority.sealing.older import Older

IDENTITY = Column("certificate.identity", Group.IDENTITY)
SEALED_KIND = "vehicle"


class Kept(msgspec.Struct, frozen=True):
    """How one party stands in a table; the last two are None for who is no vehicle."""

    identity: str
    sealed: bytes | None = None
    endings: bytes | None = None


class Names:
    """Party URIs into what tables hold, and back."""

    def __init__(self, columns: Columns) -> None:
        self._sealing = columns

    async def find(self, uri: str) -> str:
        """What the column `identity` holds of this party."""
        return _blinded(uri, await self._sealing.index()) if _is_sealed(uri) else uri

    async def keep(self, uris: Iterable[str]) -> list[Kept]:
        """Everything the columns hold of these parties, in order."""
        parties = list(uris)
        if not any(map(_is_sealed, parties)):
            return [Kept(uri) for uri in parties]
        index = await self._sealing.index()
        blinded = {uri: _blinded(uri, index) for uri in parties if _is_sealed(uri)}
        rows = [(REGION, _row(name), uri) for uri, name in blinded.items()]
        sealed = dict(zip(blinded, await self._sealing.seal_text(IDENTITY, rows), strict=True))
        return [
            Kept(blinded[uri], sealed[uri], index.endings(IDENTITY.name, _id(uri))) if uri in blinded else Kept(uri)
            for uri in parties
        ]

    async def tell(self, kept: Sequence[tuple[str, bytes | None]]) -> list[str]:
        """URIs of what stands in `identity` and `identity_sealed`, in order."""
        at = [place for place, (_, sealed) in enumerate(kept) if sealed is not None]
        told = [identity for identity, _ in kept]
        rows = [(REGION, _row(kept[place][0]), kept[place][1] or b"") for place in at]
        for place, uri in zip(at, await self._sealing.open_text(IDENTITY, rows), strict=True):
            told[place] = uri
        return told

    async def ending(self, text: str) -> bytes:
        """What the endings of a vehicle's number hold that ends like this; for less than four characters nothing does."""
        if len(text) < SHORTEST_ENDING:
            return b"\xff" * 64
        return (await self._sealing.index()).ending(IDENTITY.name, text)


def _is_sealed(uri: str) -> bool:
    parts = uri.split("/")
    return len(parts) == 6 and parts[4] == SEALED_KIND


def _id(uri: str) -> str:
    return uri.rpartition("/")[2]


def _blinded(uri: str, index: Index) -> str:
    return f"{uri.rpartition('/')[0]}/{index.exact(IDENTITY.name, uri).hex()}"


def _row(blinded: str) -> int:
    return int(_id(blinded)[:16], 16)


async def _seal_older(connection: asyncpg.Connection, columns: Columns) -> int:
    names = Names(columns)
    certificates, claims = await store.unsealed_certificates(connection), await store.unsealed_claims(connection)
    kept = await names.keep(uri for _, uri in certificates)
    await store.seal_certificates(
        connection,
        [
            (serial, name.identity, name.sealed or b"", name.endings or b"")
            for (serial, _), name in zip(certificates, kept, strict=True)
        ],
    )
    kept = await names.keep(uri for _, uri in claims)
    await store.seal_claims(
        connection,
        [(digest, name.identity, name.sealed or b"") for (digest, _), name in zip(claims, kept, strict=True)],
    )
    return len(certificates) + len(claims)


OLDER = (Older(IDENTITY.name, ("certificate", "claim_code"), _seal_older),)
