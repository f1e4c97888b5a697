"""Finds what was sent in what lies on a disk: texts, positions and amounts, in every form they could stand in.

Forms of a text: UTF-8 and UTF-16 in small and capital letters, percent-encoded, hexadecimal, base64 at each of its three
offsets. Forms of a number: decimal text, float64 and float32, integers scaled by powers of ten in 32 and 64 bits (both byte
orders), zigzag varints. A form of four bytes occurs by chance in a gigabyte of random bytes: it counts when two samples
that follow each other, or a latitude and its longitude, stand side by side. Zstandard frames are opened and searched too.

One pass with numpy: of each form the four bytes that are rarest; two of them at every place through a table, the others and
then the whole form at the few places left.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import msgspec
import numpy as np
import zstandard

MAGIC = b"\x28\xb5\x2f\xfd"
OPENED_BYTES = 8 << 20
SHORTEST = 5
BLOCK = 64 << 20


def forms_of_text(text: str) -> dict[str, bytes]:
    """Every form of a text by its name."""
    found: dict[str, bytes] = {}
    for case, said in (("", text), (" small", text.lower()), (" capital", text.upper())):
        plain = said.encode()
        found[f"utf-8{case}"] = plain
        found[f"utf-16le{case}"] = said.encode("utf-16-le")
        found[f"utf-16be{case}"] = said.encode("utf-16-be")
        found[f"hex{case}"] = plain.hex().encode()
        found[f"HEX{case}"] = plain.hex().upper().encode()
        found[f"json{case}"] = said.encode("ascii", "backslashreplace")
        found[f"percent{case}"] = quote(said).encode()
        for offset in range(3):
            coded = base64.b64encode(bytes(offset) + plain)
            inner = coded[(0, 2, 3)[offset] : len(coded) - (0, 3, 2)[(offset + len(plain)) % 3]]
            found[f"base64/{offset}{case}"] = inner
            found[f"base64url/{offset}{case}"] = inner.translate(bytes.maketrans(b"+/", b"-_"))
    return {name: form for name, form in found.items() if len(form) >= SHORTEST}


def forms_of_track(track: Sequence[tuple[float, float]]) -> dict[str, bytes]:
    """Every form of the samples (latitude, longitude) of a drive by its name."""
    found: dict[str, bytes] = {}
    for at, (latitude, longitude) in enumerate(track):
        for axis, value in (("latitude", latitude), ("longitude", longitude)):
            found |= {f"{axis}[{at}] {name}": form for name, form in _forms_of_number(value).items()}
    pairs: list[tuple[str, float, float]] = []
    for at, (one, next_) in enumerate(pairwise(track)):
        pairs += [(f"latitude[{at}, {at + 1}]", one[0], next_[0]), (f"longitude[{at}, {at + 1}]", one[1], next_[1])]
    for at, (latitude, longitude) in enumerate(track):
        pairs += [(f"both[{at}]", latitude, longitude), (f"both[{at}] turned", longitude, latitude)]
    for what, first, second in pairs:
        for order in "<>":
            found[f"{what} float32{order}"] = struct.pack(f"{order}2f", first, second)
            for decimals in (5, 6, 7):
                scaled = round(first * 10**decimals), round(second * 10**decimals)
                found[f"{what} int32{order} {decimals}"] = struct.pack(f"{order}2i", *scaled)
    return found


def forms_of_amounts(amounts: Mapping[str, float]) -> dict[str, bytes]:
    """Every form of what was measured or paid, by its name; integers that occur by chance, being small, are left out."""
    found: dict[str, bytes] = {}
    for name, value in amounts.items():
        found[f"{name}: text"] = f"{value:.12g}".encode()
        for decimals in (0, 3, 6, 7):
            scaled = round(value * 10**decimals)
            if scaled < 1 << 32 and (decimals or scaled < 1 << 28):
                continue
            found[f"{name}: msgpack {decimals}"] = msgspec.msgpack.encode(scaled)
            for order in "<>":
                found[f"{name}: int64{order} {decimals}"] = struct.pack(f"{order}q", scaled)
        for order in "<>":
            found[f"{name}: float64{order}"] = struct.pack(f"{order}d", value)
    for (name, first), (_, second) in pairwise(amounts.items()):
        for order in "<>":
            found[f"{name}: float32{order} beside the next"] = struct.pack(f"{order}2f", first, second)
    return found


def _forms_of_number(value: float) -> Iterator[tuple[str, bytes]] | Mapping[str, bytes]:
    found = {"text": f"{value:.5f}".encode()[:-1], "comma": f"{value:.7f}".replace(".", ",").encode()[:-1]}
    for order in "<>":
        found[f"float64{order}"] = struct.pack(f"{order}d", value)
        for decimals in (5, 6, 7, 9):
            found[f"int64{order} {decimals}"] = struct.pack(f"{order}q", round(value * 10**decimals))
    found["varint 9"] = _varint(round(value * 1e9))
    return found


def _varint(value: int) -> bytes:
    rest, found = (value << 1) ^ (value >> 63), b""
    while rest > 0x7F:
        found += bytes([rest & 0x7F | 0x80])
        rest >>= 7
    return found + bytes([rest])


class Search:
    """Looks for all forms at once. `forms`: what was sent and in which form, by a name that says so."""

    def __init__(self, forms: Mapping[str, bytes]) -> None:
        self._names: dict[bytes, list[str]] = {}
        for name, form in forms.items():
            self._names.setdefault(form, []).append(name)
        self._by_mark: dict[int, list[tuple[int, bytes]]] = {}
        for form in self._names:
            at = _rarest(form)
            self._by_mark.setdefault(int.from_bytes(form[at : at + 4], "little"), []).append((at, form))
        self._is_begun = np.zeros(1 << 16, bool)
        self._is_begun[[mark & 0xFFFF for mark in self._by_mark]] = True
        self._marks = np.array(sorted(self._by_mark), np.uint32)
        self.searched_bytes = 0

    def bytes(self, data: bytes | memoryview) -> set[str]:
        """Names of the forms that stand in these bytes, those in Zstandard frames too."""
        found: set[str] = set()
        whole = memoryview(data)
        for at in range(0, len(whole), BLOCK):
            found |= self._block(bytes(whole[at : at + BLOCK + 256]))
        return found

    def _block(self, data: bytes) -> set[str]:
        self.searched_bytes += len(data)
        found: set[str] = set()
        octets = np.frombuffer(data, np.uint8)
        if len(octets) < SHORTEST:
            return found
        for offset in (0, 1):
            twos = octets[offset : offset + (len(octets) - offset) // 2 * 2].view("<u2")
            places = np.flatnonzero(self._is_begun[twos]) * 2 + offset
            places = places[places <= len(octets) - 4]
            fours = octets[places[:, None] + np.arange(4)].copy().view("<u4")[:, 0]
            for place in places[np.isin(fours, self._marks)].tolist():
                for at, form in self._by_mark[int.from_bytes(data[place : place + 4], "little")]:
                    if place >= at and data.startswith(form, place - at):
                        found.update(self._names[form])
        place = data.find(MAGIC)
        while place >= 0:
            if (opened := _opened(data[place : place + OPENED_BYTES])) is not None:
                found |= {f"{name} (compressed)" for name in self._block(opened)}
            place = data.find(MAGIC, place + 1)
        return found

    def folder(self, root: Path, without: Iterable[Path] = ()) -> dict[str, set[str]]:
        """What is found in which file under a folder; names of files and folders are searched too."""
        found: dict[str, set[str]] = {}
        left_out = set(without)
        for path in sorted(root.rglob("*")):
            if left_out & {path, *path.parents}:
                continue
            hits = self.bytes(str(path.relative_to(root)).encode())
            if path.is_file():
                hits |= self.bytes(path.read_bytes())
            if hits:
                found[str(path.relative_to(root))] = hits
        return found


def _rarest(form: bytes) -> int:
    """Where the four bytes of a form are that occur least in files: disks are full of zeros and blanks."""
    return max(range(len(form) - 3), key=lambda at: len(set(form[at : at + 4]) - {0, 0x20, 0xFF}))


def _opened(data: bytes) -> bytes | None:
    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except zstandard.ZstdError:
        return None
