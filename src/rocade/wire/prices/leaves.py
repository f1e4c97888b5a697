"""Leaves of many parts at once: what `core.prices.leaf_of` says of one part, for all that a delta touches.

The loop over (part, release) is what a first load of 500,000 references waits for; all that columns can do is done
before it, and it does nothing but join and hash.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from rocade.core.prices import SEPARATOR
from rocade.wire.prices.model import Delta, Ints

type Leaves = NDArray[np.uint8]
"""Shape: (parts, 32)."""
HASH_BYTES = 32


def changed_leaves(delta: Delta, before: Leaves) -> tuple[Ints, Leaves]:
    """The parts a delta touches, by growing index, and their leaves after it.

    `before` are all leaves before it, by index; a part beyond them is new.
    """
    index, heads, texts, entries = _records(delta)
    starts = np.flatnonzero(np.r_[True, index[1:] != index[:-1]]) if len(index) else index
    touched = index[starts]
    known = np.flatnonzero(touched < len(before))
    seeds: list[bytes] = [b"\x00"] * len(touched)
    old = before[touched[known]].tobytes()
    for place, at in enumerate(known.tolist()):
        seeds[at] = b"\x02" + old[place * HASH_BYTES : (place + 1) * HASH_BYTES]
    records = [a + b + c for a, b, c in zip(heads, texts, entries, strict=True)]
    if len(touched) == len(records):
        hashed = [sha256(seed + record).digest() for seed, record in zip(seeds, records, strict=True)]
    else:
        hashed = []
        for seed, low, high in zip(seeds, starts.tolist(), [*starts[1:].tolist(), len(records)], strict=True):
            leaf = sha256(seed + records[low]).digest()
            for record in records[low + 1 : high]:
                leaf = sha256(b"\x02" + leaf + record).digest()
            hashed.append(leaf)
    return touched, np.frombuffer(b"".join(hashed), np.uint8).reshape(-1, HASH_BYTES)


def _records(delta: Delta) -> tuple[Ints, list[bytes], list[bytes], list[bytes]]:
    """One row for each (part, release) by growing key: index, and the three pieces of its record."""
    described, priced = delta.descriptions, delta.entries
    span = delta.to_seq - delta.from_seq + 1
    text_keys = described.index * span + (described.seq - delta.from_seq)
    entry_keys = priced.index * span + (priced.seq - delta.from_seq)
    firsts = np.flatnonzero(np.r_[True, entry_keys[1:] != entry_keys[:-1]]) if len(entry_keys) else entry_keys
    keys = np.union1d(text_keys, entry_keys[firsts])
    index, seqs = keys // span, (keys % span + delta.from_seq).tolist()

    texts = [b""] * len(keys)
    rows = zip(described.ref, described.family, described.label, described.superseded_by, strict=True)
    encoded = [SEPARATOR.join(row).encode() for row in rows]
    for at, text in zip(np.searchsorted(keys, text_keys).tolist(), encoded, strict=True):
        texts[at] = text
    packed = np.stack([priced.valid_from_us, priced.price_minor], axis=1).astype(">i8").tobytes()
    entries = [b""] * len(keys)
    ends = [*(firsts[1:] * 16).tolist(), len(packed)]
    for at, low, high in zip(
        np.searchsorted(keys, entry_keys[firsts]).tolist(), (firsts * 16).tolist(), ends, strict=False
    ):
        entries[at] = packed[low:high]

    fronts: Mapping[int, bytes] = {r.seq: struct.pack(">q3s", r.seq, r.currency.encode()) for r in delta.releases}
    lengths = np.fromiter(map(len, texts), ">u4", len(texts)).tobytes()
    heads = [fronts[seq] + lengths[4 * at : 4 * at + 4] for at, seq in enumerate(seqs)]
    return index, heads, texts, entries
