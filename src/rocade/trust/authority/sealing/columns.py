"""Personal columns: what PostgreSQL holds of people and vehicles is sealed before it gets there and found by blind indexes.

Flow: a store names its `Column` and hands over (owner, row, value) -> one key an owner and purpose, fetched for all rows at
once -> AES-256-GCM whose associated data bind column, owner and row, so that no value serves in another place. What is
looked up stands beside it as a blind index: HMAC-SHA256 under a key of the region, 16 bytes for a whole value, 8 for each
ending of a number that people search by its last characters, 2 for the first letters of a name's words.

Opening gives None where the key was destroyed (its owner was erased). Refuses: `seal.broken` for a value that was moved or
changed, `seal.erased` for a new value of an owner who was erased. What the indexes tell who has the disk alone: docs/decisions/0056-personal-columns.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import cast

import msgspec

from rocade.core.errors import Misconfigured, Refused
from rocade.fabric.database import Database
from rocade.trust.authority.sealing.keys import Keys
from rocade.trust.authority.sealing.model import REGION, Group, Name
from rocade.trust.authority.sealing.seals import aad, blind, open_sealed, seal_many

_INDEX: Name = (REGION, Group.INDEX)
SHORTEST_ENDING = 4
ENDING_BYTES = 8
NAME_BYTES = 2
NAME_LETTERS = 3
SCHEMA = 1


class Column(msgspec.Struct, frozen=True):
    """A sealed column: `name` is `table.column` and stands in what is sealed; `group` is the purpose of its keys."""

    name: str
    group: Group


type Row[T] = tuple[int, int, T]
"""Owner (reference, person's number, or `REGION`), row (a number that tells rows of one owner apart), value."""
type Ask = Callable[[Iterable[Name]], Awaitable[dict[Name, bytes]]]


class Index:
    """The region's blind indexes. Case matters to `exact`, not to the others."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def exact(self, column: str, text: str) -> bytes:
        """16 bytes that are equal where the texts are, within one column."""
        return blind(self._key, f"{column}={text}")

    def endings(self, column: str, text: str) -> bytes:
        """A mark for each ending of at least four characters, one behind the other; `ending` is looked for in them."""
        return b"".join(self.ending(column, text[at:]) for at in range(len(text) - SHORTEST_ENDING + 1))

    def ending(self, column: str, text: str) -> bytes:
        return blind(self._key, f"{column}~{text.casefold()}")[:ENDING_BYTES]

    def beginnings(self, column: str, text: str) -> bytes:
        """Marks of the first letters of each word: short on purpose, so that many names share each."""
        return b"".join(sorted({self._beginning(column, part) for part in _beginnings(text)}))

    def beginning(self, column: str, text: str) -> list[bytes]:
        """What the marks of a name hold where its words begin like this; more names may, so look at those found."""
        return [self._beginning(column, part) for part in _asked(text)]

    def _beginning(self, column: str, part: str) -> bytes:
        return blind(self._key, f"{column}^{part}")[:NAME_BYTES]


class Columns:
    """Seals and opens values of personal columns with the keys that a database was opened with.

    Raises: Misconfigured `seal.unset` at the first use where there are none.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def keys(self) -> Keys:
        """Of the region this database was opened for."""
        return self._keys

    @property
    def _keys(self) -> Keys:
        if self._database.keyring is None:
            raise Misconfigured("seal.unset", "this database was opened without keys: personal columns cannot be read")
        return cast(Keys, self._database.keyring)

    async def index(self) -> Index:
        """Raises: Unavailable `custody.*`."""
        key = self._keys.held(*_INDEX)
        return Index(key if key is not None else (await self._keys.ensure([_INDEX]))[_INDEX])

    async def seal(self, column: Column, rows: Sequence[Row[bytes]]) -> list[bytes]:
        """Raises: Unavailable `custody.*`; Refused `seal.erased` for an owner whose keys were destroyed."""
        keys = await self._keys_of(column, rows, self._keys.ensure)
        if any((owner, column.group) not in keys for owner, _, _ in rows):
            raise Refused("seal.erased", "whom this belongs to was erased; nothing is kept of him any more")
        return seal_many(
            [(keys[owner, column.group], plain, aad(owner, column.name, SCHEMA, row)) for owner, row, plain in rows]
        )

    async def open(self, column: Column, rows: Sequence[Row[bytes]]) -> list[bytes | None]:
        """None where the key is destroyed. Raises: Corrupt `seal.broken`, Unavailable `custody.*`."""
        keys = await self._keys_of(column, rows, self._keys.fetch)
        return [
            None if (key := keys.get((owner, column.group))) is None
            else open_sealed(key, sealed, aad(owner, column.name, SCHEMA, row))
            for owner, row, sealed in rows
        ]  # fmt: skip

    async def seal_text(self, column: Column, rows: Sequence[Row[str]]) -> list[bytes]:
        return await self.seal(column, [(owner, row, text.encode()) for owner, row, text in rows])

    async def open_text(self, column: Column, rows: Sequence[Row[bytes]]) -> list[str]:
        """As `open`; '' where the key is destroyed."""
        return [(plain or b"").decode() for plain in await self.open(column, rows)]

    async def _keys_of(self, column: Column, rows: Sequence[Row[bytes]], ask: Ask) -> dict[Name, bytes]:
        """Keys of these rows' owners; of no rows nobody is asked."""
        return await ask({(owner, column.group) for owner, _, _ in rows}) if rows else {}


def begins(name: str, asked: str) -> bool:
    """Whether each word asked for begins a word of the name; ideographs stand for themselves anywhere."""
    words = _words(name)
    return all(
        any(word.startswith(one) or (_is_ideograph(one[0]) and one in word) for word in words) for one in _words(asked)
    )


def _is_ideograph(letter: str) -> bool:
    return "\u3040" <= letter <= "\u9fff" or "\uac00" <= letter <= "\ud7a3" or letter >= "\U00020000"


def _words(text: str) -> list[str]:
    return "".join(letter if letter.isalnum() else " " for letter in text.casefold()).split()


def _beginnings(text: str) -> Iterable[str]:
    """Of each word its first one, two and three letters; of names written without blanks every letter."""
    for word in _words(text):
        yield from (word[:length] for length in range(1, NAME_LETTERS + 1))
        yield from (letter for letter in word if _is_ideograph(letter))


def _asked(text: str) -> list[str]:
    return [word[:1] if _is_ideograph(word[0]) else word[:NAME_LETTERS] for word in _words(text)]
