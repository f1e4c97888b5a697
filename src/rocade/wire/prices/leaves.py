"""Leaves of many parts at once: what `core.prices.leaf_of` says of one part, for all that a delta touches.

The loop over (part, release) is what a first load of 500,000 references waits for; all that columns can do is done
before it, and it does nothing but join and hash.
"""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocade.core.prices import SEPARATOR
from rocade.wire.prices.model import Delta, Descriptions, Ints, first_rows

type Leaves = NDArray[np.uint8]
"""Shape: (parts, 32)."""
HASH_BYTES = 32


def changed_leaves(delta: Delta, before: Leaves) -> tuple[Ints, Leaves]:
    """The parts a delta touches, by growing index, and their leaves after it.

    `before` are all leaves before it, by index; a part beyond them is new.
    """
    index, records = _records(delta)
    starts = first_rows(index)
    touched = index[starts]
    seeds = [b"\x00"] * len(touched)
    known = np.flatnonzero(touched < len(before))
    for at, leaf in zip(known.tolist(), _pieces(before[touched[known]], HASH_BYTES), strict=True):
        seeds[at] = b"\x02" + leaf
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


def _records(delta: Delta) -> tuple[Ints, list[bytes]]:
    """The record of each (part, release), by growing key, and its part's index."""
    described, priced = delta.descriptions, delta.entries
    span = delta.to_seq - delta.from_seq + 1
    text_keys = described.index * span + (described.seq - delta.from_seq)
    entry_keys = priced.index * span + (priced.seq - delta.from_seq)
    firsts = first_rows(entry_keys)
    keys = np.union1d(text_keys, entry_keys[firsts])
    index, seqs = keys // span, keys % span + delta.from_seq

    texts = _texts(described)
    prices = _pieces(np.stack([priced.valid_from_us, priced.price_minor], axis=1).astype(">i8"), 16)
    if len(firsts) < len(prices):
        ends = [*firsts[1:].tolist(), len(prices)]
        prices = [b"".join(prices[low:high]) for low, high in zip(firsts.tolist(), ends, strict=True)]
    texts = _spread(texts, np.searchsorted(keys, text_keys), len(keys))
    prices = _spread(prices, np.searchsorted(keys, entry_keys[firsts]), len(keys))
    return index, list(map(b"".join, zip(_fronts(delta, seqs, texts), texts, prices, strict=True)))


def _texts(described: Descriptions) -> list[bytes]:
    columns = (described.ref, described.family, described.label, described.superseded_by)
    return [text.encode() for text in map(SEPARATOR.join, zip(*columns, strict=True))]


def _fronts(delta: Delta, seqs: Ints, texts: list[bytes]) -> list[bytes]:
    """What each record begins with: number, currency, length of its text."""
    releases = np.frombuffer(
        b"".join(struct.pack(">q3s", r.seq, r.currency.encode()) for r in delta.releases), np.uint8
    )
    lengths = np.fromiter(map(len, texts), ">u4", len(texts)).view(np.uint8).reshape(-1, 4)
    return _pieces(np.concatenate([releases.reshape(-1, 11)[seqs - delta.releases[0].seq], lengths], axis=1), 15)


def _spread(pieces: list[bytes], places: Ints, count: int) -> list[bytes]:
    """The pieces at their places, nothing elsewhere."""
    if len(pieces) == count:
        return pieces
    spread = [b""] * count
    for at, piece in zip(places.tolist(), pieces, strict=True):
        spread[at] = piece
    return spread


def _pieces(rows: NDArray[Any], width: int) -> list[bytes]:
    """Each row's bytes."""
    return np.frombuffer(rows.tobytes(), f"V{width}").tolist()
