"""What turned bits did to a database's write-ahead file between a power cut and the next start, found before SQLite reads it.

SQLite chains a checksum through the frames (header and page) of `NAME-wal`, stops at the first that does not fit and takes the rest for
a write that a power cut ended: one bit that turned while the machine was off would take every later transaction with it, in silence.
Flow: hold the database alone -> check the chain -> what stops it at a frame?
- One turned bit: the checksum is linear, so all bits of a frame are tried at once. The bit is turned back. Where several would do
  (the checksum cannot tell high bits of some words apart) the page stays as it is and the chain is closed over it: the rows' own sums find
  the bit. If the page's number may be among them, the file is refused. Where nothing behind proves that
  the frame was flushed and the structure would not hold so, it was a write that was cut off, which can look like a turned bit.
- More than that: damage if what lies behind proves that it was flushed (`Proof`).
- Otherwise a write that was cut off and never acknowledged: SQLite forgets it, rightly.
Not told from a cut: in the last transaction more than one bit, or one that may be several and breaks the structure. No cost while the
file is in use; at a start after a kill 10 ms.
Raises: sqlite3.DatabaseError for damage, sqlite3.OperationalError or OSError where the disk does not do.
Source: https://www.sqlite.org/fileformat2.html#walformat, docs/disks.md.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

log = logging.getLogger(__name__)
_HEADER, _FRAME, _VERSION = 32, 24, 3_007_000
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}
"""And in which order the checksums take the bytes of a word."""
_BUSY = 5

type Words = npt.NDArray[np.uint32]


class Proof(Protocol):
    """What proves that a transaction reached the disk before the next was begun."""

    def behind(self, frames: Frames, first: int) -> int:
        """How far what was surely flushed reaches behind a frame that does not fit; 0 = nothing proves that anything was."""

    def before(self, connection: sqlite3.Connection) -> int:
        """How far the database reaches as SQLite has it, when it stops where the chain breaks."""


class EachFlushed:
    """Every transaction is flushed (synchronous=FULL): one that was begun proves all that ended before it."""

    def behind(self, frames: Frames, first: int) -> int:
        is_over = False
        for frame in range(first + 1, frames.count):
            if frames.is_sound[frame] and is_over:
                return 1
            is_over = bool(frames.is_sound[frame] and frames.is_end(frame))
        return 0

    def before(self, _: sqlite3.Connection) -> int:
        return 0


def mend(path: Path, proof: Proof) -> None:
    """Put right what one turned bit did to the write-ahead file of a database nobody else has open. Raises: as the module says."""
    ahead = path.with_name(path.name + "-wal")
    if not path.exists() or not path.stat().st_size or not ahead.exists():
        return
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as alone:
        alone.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)
        alone.execute("PRAGMA locking_mode = EXCLUSIVE")
        try:
            alone.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == _BUSY:
                return  # its process lives: nothing was cut, and who opens it is told so
            raise
        content = bytearray(ahead.read_bytes())
        page_bytes = alone.execute("PRAGMA page_size").fetchone()[0]
        turned, promised, is_guessed = _mend(content, page_bytes, proof)
        if promised > proof.before(alone):
            raise sqlite3.DatabaseError(f"{ahead.name} has changed, and what was flushed later lies behind that place")
        if is_guessed and not _holds(bytearray(path.read_bytes()), content, page_bytes):
            return
        if turned:
            _replace(ahead, content)
            log.error("turned bits in %s: %s; put right", ahead.name, ", ".join(turned))


def _holds(image: bytearray, ahead: bytearray, page_bytes: int) -> bool:
    """Whether the structure of the database is whole with the transactions of a write-ahead file."""
    frames = _read_frames(ahead, EachFlushed())
    if frames is None:
        return False
    for number, page in frames.committed_pages():
        at = (number - 1) * page_bytes
        image.extend(bytes(max(0, at - len(image))))
        image[at : at + page_bytes] = page
    image[18:20] = b"\x01\x01"  # an image in memory has no write-ahead file
    with closing(sqlite3.connect(":memory:")) as held:
        try:
            held.deserialize(bytes(image))
            return bool(held.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",))
        except sqlite3.DatabaseError:
            return False


class Frames:
    """A write-ahead file as arrays: one row a frame. Changes go to the bytes it was made of."""

    def __init__(
        self, content: bytearray, order: str, page_bytes: int, salts: Words, start: Words, proof: Proof
    ) -> None:
        self.count = (len(content) - _HEADER) // (_FRAME + page_bytes)
        region = memoryview(content)[_HEADER : _HEADER + self.count * (_FRAME + page_bytes)]
        self._fields = np.frombuffer(region, ">u4").reshape(self.count, -1)[:, :6]
        """Page, pages of the database after a commit or 0, two salts, two sums."""
        self._words = np.frombuffer(region, f"{order}u4").reshape(self.count, -1)
        self._salts, self._start, self._proof = salts, start, proof
        self.is_header_turned = self.is_guessed = False
        self._weights, self._power = _weights((page_bytes + 8) // 4)
        self.check()

    def check(self) -> None:
        """Compare each frame with the sum stored in the one before: is_sound, and what its own sum should be."""
        self._sums = self._fields[:, 4:].astype(np.uint32)
        before = np.vstack([self._start, self._sums[:-1]])
        self._expected = before @ self._power + self._summed() @ self._weights
        self.salt_bits = np.bitwise_count(self._fields[:, 2:4].astype(np.uint32) ^ self._salts).sum(1)
        self.is_sound = (self._expected == self._sums).all(1) & (self.salt_bits == 0)

    def _summed(self, frames: slice = slice(None)) -> Words:
        """What the checksum is of: the first two fields of the frame's header, and the page."""
        words = self._words[frames]
        return np.hstack([words[:, :2], words[:, 6:]]).astype(np.uint32)

    def turn_back(self, frame: int) -> bool:
        """Make a frame sound if one turned bit explains why it is not. Raises: sqlite3.DatabaseError."""
        lacking = self._sums[frame] - self._expected[frame]
        is_followed = frame + 1 < self.count and bool(self.is_sound[frame + 1])
        if lacking.any():
            if self.salt_bits[frame]:
                return False
            bits = self._candidates(frame, lacking)
            is_in_sum = not is_followed and int(np.bitwise_count(self._sums[frame] ^ self._expected[frame]).sum()) == 1
            if len(bits) == 1 and not is_in_sum:
                self._words[frame, bits[0, 0]] ^= 1 << int(bits[0, 1])
            elif len(bits) and (bits[:, 0] < 2).any():
                raise sqlite3.DatabaseError("a bit of its write-ahead file has changed, and it cannot be said which")
            elif not len(bits) and not is_in_sum:
                return False
            else:
                self.is_guessed |= not self._proof.behind(self, frame)
        elif self.salt_bits[frame] != 1:
            return False
        self._close(frame)
        self.check()
        return True

    def _candidates(self, frame: int, lacking: Words) -> npt.NDArray[np.int64]:
        """(word of the frame, bit) of all single bits that, turned, make up for what the sum lacks."""
        bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
        is_set = (self._summed(slice(frame, frame + 1))[0][:, None] & bits) != 0
        steps = np.where(is_set, ~bits + np.uint32(1), bits)
        one, other = self._weights.T[:, :, None]
        found: npt.NDArray[np.int64] = np.argwhere((one * steps == lacking[0]) & (other * steps == lacking[1]))
        found[:, 0] += np.where(found[:, 0] < 2, 0, 4)
        number, is_number = self._words[frame, 0], found[:, 0] == 0
        can_be: npt.NDArray[np.bool_] = is_number if number == 0 else ~is_number | (bits[found[:, 1]] != number)
        return found[can_be]  # no page has the number 0: as where a power cut took the sector with it

    def _close(self, first: int) -> None:
        """Close the chain over a frame as it is now, through all that follow it."""
        sums = self._start if first == 0 else self._sums[first - 1]
        parts = self._summed() @ self._weights
        for frame in range(first, self.count):
            if frame > first and not self.is_sound[frame]:
                break
            sums = sums @ self._power + parts[frame]
            self._fields[frame, 2:4], self._fields[frame, 4:] = self._salts, sums

    def committed_pages(self) -> Iterator[tuple[int, bytes]]:
        """(number, page) of every frame of the transactions that ended before the chain breaks."""
        sound = self.count if self.is_sound.all() else int(self.is_sound.argmin())
        for frame in range(self.last_end(sound) + 1):
            yield int(self._fields[frame, 0]), self.page(frame)

    def is_end(self, frame: int) -> bool:
        """Whether a transaction ends with this frame."""
        return bool(self._fields[frame, 1])

    def last_end(self, until: int) -> int:
        """The last frame before `until` that ends a transaction; -1 if none does."""
        ends = np.flatnonzero(self._fields[: max(until, 0), 1])
        return int(ends[-1]) if len(ends) else -1

    def page(self, frame: int) -> bytes:
        return self._words[frame, 6:].tobytes()


def _mend(content: bytearray, page_bytes: int, proof: Proof) -> tuple[list[str], int, bool]:
    """Turn bits back. Return (where, how far what was flushed reaches behind what cannot be turned back, whether it may be that
    no bit turned).
    """
    turned = list[str]()
    second = _HEADER + _FRAME + page_bytes
    frames = _read_frames(content, proof) if len(content) >= second else None
    if frames is None and len(content) < second + _FRAME + page_bytes:
        return turned, 0, False
    if frames is None:
        order = "<" if sys.byteorder == "little" else ">"
        salts = np.frombuffer(content, ">u4", 2, second + 8).astype(np.uint32)
        frames = Frames(content, order, page_bytes, salts, np.zeros(2, np.uint32), proof)
        return turned, proof.behind(frames, -1), False
    if frames.is_header_turned:
        turned.append("its header")
    while not frames.is_sound.all():
        first = int(frames.is_sound.argmin())
        if not frames.turn_back(first):
            return turned, proof.behind(frames, first), frames.is_guessed
        turned.append(f"frame {first}")
    return turned, 0, frames.is_guessed


def _read_frames(content: bytearray, proof: Proof) -> Frames | None:
    """The frames under the header as it is or, if it does not hold, with the one bit turned that makes it and the first frame hold."""
    for bit in range(-1, _HEADER * 8):
        header = content[:_HEADER]
        if bit >= 0:
            header[bit // 8] ^= 1 << bit % 8
        magic, version, page_bytes, _, *ends = np.frombuffer(header, ">u4").astype(np.uint32)
        order, salts, start = _MAGIC.get(int(magic)), np.array(ends[:2]), np.array(ends[2:])
        if order is None or version != _VERSION or not (512 <= page_bytes <= 65536 and page_bytes.bit_count() == 1):
            continue
        if (np.frombuffer(header, f"{order}u4", 6).astype(np.uint32) @ _weights(6)[0] != start).any():
            continue
        frames = Frames(content, order, int(page_bytes), salts, start, proof)
        if bit < 0 or (frames.count and frames.is_sound[0]):
            frames.is_header_turned = bit >= 0
            content[:_HEADER] = header
            return frames
    return None


@cache
def _weights(count: int) -> tuple[Words, Words]:
    """What each word of `count` adds to the two sums, and what becomes of the sums before them (rows: of which sum).

    The sums of a pair of words: a += word + b; b += other + a.
    """
    rows, power = list[tuple[int, int]](), ((1, 0), (0, 1))
    for _ in range(count // 2):
        (aa, ab), (ba, bb) = power
        rows += [(ba, bb), (aa + ba, ab + bb)]
        power = ((aa + ba, ab + bb), (aa + 2 * ba, ab + 2 * bb))
    array = np.array([[number % (1 << 32) for number in row] for row in [*rows[::-1], *power]], np.uint32)
    return array[:-2], array[-2:]


def _replace(file: Path, content: bytearray) -> None:
    """Whole or not at all."""
    beside = file.with_name(f"{file.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, file.stat().st_mode & 0o777)
    with os.fdopen(descriptor, "wb") as writer:
        writer.write(content)
        writer.flush()
        os.fsync(writer.fileno())
    beside.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
