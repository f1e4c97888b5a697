"""What whoever seals needs of a keyring, and where a service that has a database finds it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, cast

from rocade.fabric.database import Database
from rocade.trust.authority.sealing.keyring import Keyring
from rocade.trust.authority.sealing.model import Name


class Keys(Protocol):
    """Keys by (owner, group); the words are `Keyring`'s."""

    def held(self, owner: int, group: int, /) -> bytes | None: ...

    async def fetch(self, names: Iterable[Name], /) -> dict[Name, bytes]: ...

    async def ensure(self, names: Iterable[Name], /) -> dict[Name, bytes]: ...


def keyring_of(database: Database) -> Keyring:
    """The keyring that whoever opened the region hung on its database."""
    assert database.keyring is not None, "a region that holds data has its keyring"
    return cast(Keyring, database.keyring)
