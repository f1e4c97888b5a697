"""Columns of whole numbers and of texts as small byte strings: byte planes and zstd, every size known before unfolding.

Numbers are cut into planes (all lowest bytes, then all next ones, as many as the greatest needs), each compressed alone,
because a gap's first byte and a price's second have nothing in common. Texts are joined by line feeds.
Refuses: Refused `prices.delta.compression`, `.size`, `.text`; nothing is allocated beyond the count the block declared.
"""

from __future__ import annotations

import numpy as np
import zstandard

from rocade.core.errors import Refused
from rocade.wire.prices.model import Ints

MAX_TEXT_BYTES = 1024
"""Of one text; a column may have this times its rows, and never more than `MAX_COLUMN_BYTES`."""
MAX_COLUMN_BYTES = 16 << 20
_decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_COLUMN_BYTES)


class Compressor:
    """zstd without the frame's optional fields: a daily delta has some ten frames."""

    def __init__(self, level: int) -> None:
        self._zstd = zstandard.ZstdCompressor(level=level, write_content_size=False, write_checksum=False)

    def planes(self, values: Ints) -> list[bytes]:
        """Numbers >= 0 as planes."""
        width = (int(values.max()).bit_length() + 7) // 8 if len(values) else 0
        split = np.ascontiguousarray(values.astype("<u8").view(np.uint8).reshape(-1, 8).T[:width])
        return [self._zstd.compress(plane.tobytes()) for plane in split]

    def texts(self, values: list[str]) -> tuple[int, bytes]:
        """The size unfolded, and the bytes; a column of empty texts has none."""
        if not any(values):
            return 0, b""
        plain = "\n".join(values).encode()
        return len(plain), self._zstd.compress(plain)


def read_planes(planes: list[bytes], count: int) -> Ints:
    """The numbers of `count` rows."""
    if len(planes) > 8:
        raise Refused("prices.delta.size", "a number has more than eight bytes")
    values = np.zeros((count, 8), np.uint8)
    for at, plane in enumerate(planes):
        values[:, at] = np.frombuffer(_unfold(plane, count), np.uint8)
    return values.reshape(-1).view("<i8").astype(np.int64, copy=False)


def read_texts(size: int, folded: bytes, count: int) -> list[str]:
    """The texts of `count` rows."""
    if not 0 <= size <= min(MAX_COLUMN_BYTES, count * (MAX_TEXT_BYTES + 1)):
        raise Refused("prices.delta.size", "a column of texts is larger than its rows may be")
    try:
        plain = _unfold(folded, size).decode()
    except UnicodeDecodeError:
        raise Refused("prices.delta.text", "a text is not UTF-8") from None
    values = plain.split("\n") if size else [""] * count
    if len(values) != count:
        raise Refused("prices.delta.size", "a column of texts has not as many rows as declared")
    return values


def zigzag(values: Ints) -> Ints:
    """Small numbers of either sign as small numbers >= 0."""
    return (values << 1) ^ (values >> 63)


def unzigzag(values: Ints) -> Ints:
    return (values >> 1) ^ -(values & 1)


def _unfold(folded: bytes, size: int) -> bytes:
    try:
        if size == 0:
            if folded:
                raise Refused("prices.delta.size", "a column without rows has bytes")
            return b""
        if zstandard.frame_content_size(folded) not in {size, -1}:
            raise Refused("prices.delta.size", "a column is larger than declared")
        plain: bytes = _decompressor.decompress(folded, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError:
        raise Refused("prices.delta.compression", "a column is not one whole zstd frame of its size") from None
    if len(plain) != size:
        raise Refused("prices.delta.size", "a column is smaller than declared")
    return plain
