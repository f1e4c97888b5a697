"""Keys for tests that are not about keys: the same for the same name in every process, and no table or file behind them."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence

import msgspec

from rocade.fabric.database import Database
from rocade.trust.authority.naming import Names
from rocade.trust.authority.sealing.columns import Columns
from rocade.trust.authority.store import CertificateRow

type Name = tuple[int, int]


class DerivedKeys:
    """What sealed columns ask of a keyring."""

    def held(self, owner: int, group: int) -> bytes:
        return hmac.digest(b"tests", f"{owner} {group}".encode(), "sha256")

    async def fetch(self, names: Iterable[Name]) -> dict[Name, bytes]:
        return {name: self.held(*name) for name in names}

    async def ensure(self, names: Iterable[Name]) -> dict[Name, bytes]:
        return await self.fetch(names)


def keyed(database: Database) -> Database:
    """A database that was connected by hand, with keys."""
    database.keyring = DerivedKeys()
    return database


async def named(database: Database, rows: Sequence[CertificateRow]) -> list[CertificateRow]:
    """Certificates as the authority keeps them: a vehicle's number sealed."""
    names = await Names(Columns(database)).keep(row.identity for row in rows)
    return [
        msgspec.structs.replace(row, identity=name.identity, identity_sealed=name.sealed, identity_endings=name.endings)
        for row, name in zip(rows, names, strict=True)
    ]
