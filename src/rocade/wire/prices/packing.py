"""Delta -> bytes. The layout is in docs/price-lists.md; reading is in `unpacking`.

Rows are cut into blocks between parts, so that a reader of a long snapshot holds one block at a time. A price is written as
its difference to the part's price before: at `from_seq` for its first row, the row before for the others.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from rocade.core.prices import WITHDRAWN
from rocade.wire.prices.columns import Compressor, zigzag
from rocade.wire.prices.model import Delta, Descriptions, Entries, Ints, Release, first_rows

MAGIC = b"RPL1"
MAX_BLOCK_ROWS = 65_536
"""What a reader takes."""
BLOCK_ROWS = 16_384
"""What a writer puts into a block, but for a part that has more of its own: a reader's memory is this many texts."""
LEVEL = 9


class Block(msgspec.Struct, frozen=True, array_like=True):
    """A range of parts in columns; planes of numbers, (size, bytes) of texts."""

    descriptions: int
    entries: int
    part: list[bytes]
    part_seq: list[bytes]
    ref: tuple[int, bytes]
    label: tuple[int, bytes]
    superseded_by: tuple[int, bytes]
    families: tuple[int, int, bytes]
    """How many different ones there are, then their texts."""
    family: list[bytes]
    index: list[bytes]
    seq: list[bytes]
    instants: list[int]
    """The valid-from instants that are not their release's own."""
    instant: list[bytes]
    """0 = the release's own, n = the n-th of `instants`."""
    price: list[bytes]
    withdrawn: int
    withdrawn_at: list[bytes]


class File(msgspec.Struct, frozen=True, array_like=True):
    """What follows the magic bytes, in MessagePack."""

    list_id: str
    from_seq: int
    to_seq: int
    releases: tuple[Release, ...]
    blocks: list[bytes]


def pack(delta: Delta, previous: Ints, level: int = LEVEL) -> bytes:
    """The bytes of a delta.

    `previous`: by index, the price at `from_seq` of every part there was then (greatest valid_from, then seq).
    """
    compressor = Compressor(level)
    blocks = [msgspec.msgpack.encode(_block(one, previous, compressor)) for one in _cut(delta)]
    file = File(delta.list_id, delta.from_seq, delta.to_seq, delta.releases, blocks)
    return MAGIC + msgspec.msgpack.encode(file)


def _cut(delta: Delta) -> Iterator[Delta]:
    """Deltas of about `BLOCK_ROWS` rows that share no part."""
    described, priced = delta.descriptions, delta.entries
    parts, rows = np.unique(np.concatenate([described.index, priced.index]), return_counts=True)
    ends = np.cumsum(rows)
    at = 0
    while at < len(parts):
        done = int(ends[at - 1]) if at else 0
        until = max(int(np.searchsorted(ends, done + BLOCK_ROWS, "right")), at + 1)
        low, high = parts[at], parts[until - 1] + 1
        a, b = np.searchsorted(described.index, [low, high])
        c, d = np.searchsorted(priced.index, [low, high])
        cut = described.cut(int(a), int(b)), priced.cut(int(c), int(d))
        yield Delta(delta.list_id, delta.from_seq, delta.to_seq, delta.releases, *cut)
        at = until


def _block(delta: Delta, previous: Ints, compressor: Compressor) -> Block:
    described, priced = delta.descriptions, delta.entries
    families, family = _dictionary(described)
    instants, instant = _instants(delta)
    withdrawn = np.flatnonzero(priced.price_minor == WITHDRAWN)
    texts, planes = compressor.texts, compressor.planes
    return Block(
        descriptions=len(described),
        entries=len(priced),
        part=planes(np.diff(described.index, prepend=0)),
        part_seq=planes(described.seq - delta.from_seq - 1),
        ref=texts(described.ref),
        label=texts(described.label),
        superseded_by=texts(described.superseded_by),
        families=(len(families), *texts(families)),
        family=planes(family),
        index=planes(np.diff(priced.index, prepend=0)),
        seq=planes(priced.seq - delta.from_seq - 1),
        instants=instants,
        instant=planes(instant),
        price=planes(zigzag(differences(priced, previous))),
        withdrawn=len(withdrawn),
        withdrawn_at=planes(np.diff(withdrawn, prepend=0)),
    )


def differences(priced: Entries, previous: Ints) -> Ints:
    """Each price minus the part's one before; a withdrawn or unknown price counts as 0."""
    values = np.where(priced.price_minor == WITHDRAWN, 0, priced.price_minor)
    before = np.roll(values, 1)
    firsts = first_rows(priced.index)
    before[firsts] = prices_before(priced.index[firsts], previous)
    return values - before


def prices_before(index: Ints, previous: Ints) -> Ints:
    """What the first difference of these parts is taken from."""
    known = index < len(previous)
    before = np.zeros(len(index), np.int64)
    before[known] = previous[index[known]]
    before[before == WITHDRAWN] = 0
    return before


def _dictionary(described: Descriptions) -> tuple[list[str], Ints]:
    """Families once each, and each row's number among them."""
    numbers: dict[str, int] = {}
    codes = [numbers.setdefault(family, len(numbers)) for family in described.family]
    return list(numbers), np.array(codes, np.int64)


def _instants(delta: Delta) -> tuple[list[int], Ints]:
    own = np.array([release.effective_us for release in delta.releases], np.int64)
    priced = delta.entries
    codes = np.zeros(len(priced), np.int64)
    other = np.flatnonzero(priced.valid_from_us != own[priced.seq - delta.from_seq - 1]) if len(priced) else codes
    instants, numbers = np.unique(priced.valid_from_us[other], return_inverse=True)
    codes[other] = numbers + 1
    return instants.tolist(), codes
