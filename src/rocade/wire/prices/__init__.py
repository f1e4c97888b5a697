"""Price lists on their way: signed heads, columnar deltas, sealed files, the state tree. Layout: docs/price-lists.md.

The hub packs and seals (`pack`, `seal_blob`, `Head`), a point of sale opens and applies (`open_blob`, `unpack_blocks`,
`changed_leaves`, `Tree`). What a price is, and what a leaf is made of, stands in `core.prices`.
"""

from __future__ import annotations

from rocade.wire.prices.leaves import HASH_BYTES, Leaves, changed_leaves
from rocade.wire.prices.letters import EpochLetter, WrappedKey, open_key, read_letter, write_letter
from rocade.wire.prices.marks import Mark, SealedMarks, open_marks, seal_marks
from rocade.wire.prices.model import (
    ACK_TYPE,
    HEAD_TYPE,
    KEY_TYPE,
    Blob,
    Delta,
    Descriptions,
    Entries,
    Head,
    Ints,
    Part,
    Priced,
    Release,
)
from rocade.wire.prices.packing import File, pack
from rocade.wire.prices.sealing import check_blob, open_blob, seal_blob, unwrap_key, wrap_key
from rocade.wire.prices.tree import WIDTH, Tree
from rocade.wire.prices.unpacking import CODES, Limits, unpack, unpack_blocks

__all__ = [
    "ACK_TYPE",
    "CODES",
    "HASH_BYTES",
    "HEAD_TYPE",
    "KEY_TYPE",
    "WIDTH",
    "Blob",
    "Delta",
    "Descriptions",
    "Entries",
    "EpochLetter",
    "File",
    "Head",
    "Ints",
    "Leaves",
    "Limits",
    "Mark",
    "Part",
    "Priced",
    "Release",
    "SealedMarks",
    "Tree",
    "WrappedKey",
    "changed_leaves",
    "check_blob",
    "open_blob",
    "open_key",
    "open_marks",
    "pack",
    "read_letter",
    "seal_blob",
    "seal_marks",
    "unpack",
    "unpack_blocks",
    "unwrap_key",
    "wrap_key",
    "write_letter",
]
