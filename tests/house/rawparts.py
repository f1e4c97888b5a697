"""History files as they lie on the disk, without the engine: decrypted, their blocks unpacked, so that a search finds what is there.

An encrypted file: "ENC", version, algorithm, key's fingerprint, the initial counter at byte 23, 64 bytes in all, then AES-256-CTR.
A column's file: blocks of 16 bytes checksum, method, packed size with head (u32), unpacked size (u32), content. Codecs are undone
as far as bytes are compressed; differences (Delta, T64) stay, so look for columns that have none.
Source: ClickHouse, IO/FileEncryptionCommon, Compression/CompressionInfo.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import zstandard
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

HEAD_BYTES, COUNTER_AT, CHECKSUM_BYTES = 64, 23, 16
NONE, LZ4, ZSTD, MULTIPLE = 0x02, 0x82, 0x90, 0x91


def files(directory: Path, key: bytes) -> Iterator[tuple[Path, bytes]]:
    """Every file below, decrypted if it is encrypted."""
    for path in sorted(directory.rglob("*")):
        try:
            content = path.read_bytes() if path.is_file() else b""
        except FileNotFoundError:
            continue  # merged away meanwhile
        yield path, decrypted(content, key) if content.startswith(b"ENC") else content


def holding(directory: Path, key: bytes, needles: Iterable[bytes]) -> set[bytes]:
    """Those of the byte strings that stand in some file below, as it lies there, decrypted, or unpacked."""
    wanted, found = set(needles), set[bytes]()
    for _, content in files(directory, key):
        plain = b"".join(blocks(content))
        found |= {needle for needle in wanted - found if needle in content or needle in plain}
    return found


def decrypted(content: bytes, key: bytes) -> bytes:
    counter = content[COUNTER_AT : COUNTER_AT + 16]
    return Cipher(algorithms.AES(key), modes.CTR(counter)).decryptor().update(content[HEAD_BYTES:])


def blocks(content: bytes) -> Iterator[bytes]:
    """The blocks of a column's file, unpacked; nothing where this is no such file."""
    at = 0
    while at + CHECKSUM_BYTES + 9 <= len(content):
        method, packed, size = struct.unpack_from("<BII", content, at + CHECKSUM_BYTES)
        begin, end = at + CHECKSUM_BYTES + 9, at + CHECKSUM_BYTES + packed
        if method not in (NONE, LZ4, ZSTD, MULTIPLE) or packed < 9 or end > len(content):
            return
        yield _unpacked(method, content[begin:end], size)
        at = end


def _unpacked(method: int, body: bytes, size: int) -> bytes:
    if method == MULTIPLE:  # count, methods in order of packing, then the last one's block
        count = body[0]
        method, _, size = struct.unpack_from("<BII", body, 1 + count)
        return _unpacked(method, body[1 + count + 9 :], size)
    if method == ZSTD:
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=size)
    return body
