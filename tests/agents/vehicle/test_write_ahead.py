"""A journal whose process was killed: a turned bit in its write-ahead file loses nothing in silence, a write cut off is no damage."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections import Counter
from contextlib import suppress
from errno import ENOSPC
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from tests.power_cut import SECTOR, torn

from rocade.agents.sqlite.write_ahead import _holds, _mend, mend
from rocade.agents.vehicle.journal import Entry, Journal
from rocade.agents.vehicle.numbers_given import NumbersGiven
from rocade.core.errors import Corrupt, Unavailable
from rocade.core.ports import SystemClock, SystemRandom
from rocade.wire.batch import Batch, Clock, Column

type Seen = tuple[object, dict[int, Entry]]
PAGE, HEADER = 4096, 32
FRAME = 24 + PAGE
SLOW = [pytest.mark.slow, pytest.mark.timeout(900)]


def batch(seed: int, rows: int = 60) -> tuple[Batch, int]:
    values = np.random.default_rng(seed).integers(-(2**60), 2**60, rows)
    return Batch(0, 0, 0, [Clock(1_700_000_000_000_000 + np.arange(rows) * 1_000_000)], [Column(1, 0, values)]), rows


def whole_frames(ahead: bytes) -> int:
    """How many frames SQLite reads: the format's page, word by word."""

    def chained(sums: tuple[int, int], data: bytes) -> tuple[int, int]:
        for at in range(0, len(data), 8):
            one, other = (int.from_bytes(data[at + half : at + half + 4], "little") for half in (0, 4))
            one = (sums[0] + one + sums[1]) % 2**32
            sums = one, (sums[1] + other + one) % 2**32
        return sums

    def sums_at(at: int) -> tuple[int, int]:
        return int.from_bytes(ahead[at : at + 4]), int.from_bytes(ahead[at + 4 : at + 8])

    sums = chained((0, 0), ahead[:24])
    if sums != sums_at(24):
        return 0
    for number, at in enumerate(range(HEADER, len(ahead) - FRAME + 1, FRAME)):
        sums = chained(chained(sums, ahead[at : at + 8]), ahead[at + 24 : at + FRAME])
        if ahead[at + 8 : at + 16] != ahead[16:24] or sums != sums_at(at + 16):
            return number
    return (len(ahead) - HEADER) // FRAME


class Killed:
    """The files of a journal as a kill leaves them, and how they were after each step: an append, or marks of acknowledgement."""

    def __init__(self, place: Path, appends: int, *, used_before: int = 0, most_rows: int = 600) -> None:
        self._file, self._ahead = place / "journal.db", place / "journal.db-wal"
        self.aheads, self.seen, self.flushed = list[bytes](), list[Seen](), list[int]()
        place.mkdir()
        with Journal(self._file, SystemClock(), SystemRandom()) as journal:
            for seed in range(used_before):
                journal.append([batch(seed, 500)])
            if used_before:
                journal._db.execute("PRAGMA wal_checkpoint(RESTART)")  # the next frame is the first again
            for seed in range(appends):
                self.flushed.append(len(self.seen))
                (sequence,) = journal.append([batch(seed, most_rows * (seed % 4 + 1) // 4)], {"log": seed})
                self._step(journal)
                for number in (sequence - 1, sequence)[: (seed + 2) % 3]:
                    journal.acknowledge([number])
                    self._step(journal)
            self.kept = self._file.read_bytes()
        self.ahead, self.ends = self.aheads[-1], [HEADER + whole_frames(ahead) * FRAME for ahead in self.aheads]
        shutil.rmtree(place)

    def _step(self, journal: Journal) -> None:
        self.aheads.append(self._ahead.read_bytes())
        self.seen.append(see(journal))

    @property
    def last_append(self) -> int:
        """Where the last append begins: behind it nothing proves that anything was flushed."""
        return self.ends[self.flushed[-1] - 1]

    def before_last_append(self) -> list[Seen]:
        """How the journal was then, and since, but for the end."""
        return self.seen[self.flushed[-1] - 1 : -1]

    def start(self, ahead: bytes | bytearray) -> Seen:
        """What the next start finds with this write-ahead file."""
        with TemporaryDirectory() as place:
            file = Path(place) / "journal.db"
            file.write_bytes(self.kept)
            Path(f"{file}-wal").write_bytes(ahead)
            with Journal(file, SystemClock(), SystemRandom()) as journal:
                return see(journal)


def see(journal: Journal) -> Seen:
    entries = {entry.sequence: entry for entry in journal.waiting(0, 1000)}
    return (journal.epoch, journal.next_sequence, journal.position("log")), entries


@pytest.fixture(scope="module", params=[0, 40], ids=["new file", "used before"])
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    found = Killed(tmp_path_factory.mktemp("killed") / "j", 6, used_before=request.param)
    assert (len(found.ahead) > found.ends[-1]) == (request.param > 0), "frames of an earlier round lie behind"
    return found


def turned(ahead: bytes, bit: int) -> bytearray:
    changed = bytearray(ahead)
    changed[bit // 8] ^= 1 << bit % 8
    return changed


@pytest.mark.parametrize("stride", [160_001, pytest.param(401, marks=SLOW)])
def test_a_bit_that_turned_after_a_kill_loses_nothing_in_silence(killed: Killed, stride: int) -> None:
    seed, outcomes = int(os.environ.get("ROCADE_SEED") or 5), Counter[str]()
    print(f"seed {seed}")
    dice, (facts, whole) = Random(seed), killed.seen[-1]
    heads = [at * 8 + dice.randrange(24 * 8) for at in range(HEADER, killed.ends[-1], FRAME)]
    pages = range(HEADER * 8 + dice.randrange(stride), killed.ends[-1] * 8, stride)
    for bit in [*range(0, HEADER * 8, max(1, stride // 8000)), *heads, *pages]:
        try:
            seen, entries = killed.start(turned(killed.ahead, bit))
        except Corrupt as error:
            outcomes[error.code] += 1
            continue
        if bit >= killed.last_append * 8 and (seen, entries) in killed.before_last_append():
            outcomes["taken for a cut"] += 1
            continue
        assert (seen, entries.keys()) == (facts, whole.keys()), f"bit {bit}"
        changed = [entry for entry in entries.values() if entry != whole[entry.sequence]]
        assert len(changed) <= 1, f"bit {bit}"
        assert all(entry.points == 0 for entry in changed), f"bit {bit}: told as spent"
        outcomes["one batch told as spent" if changed else "all there"] += 1
    print(dict(outcomes))
    assert outcomes.keys() <= {"all there", "one batch told as spent", "journal.damaged", "taken for a cut"}
    assert outcomes["all there"] > outcomes.total() // 2
    assert outcomes["taken for a cut"] <= -(-outcomes.total() // 100), "one of the few that are tried by default"


@pytest.mark.parametrize(("first", "stride"), [(0, 4001), *(pytest.param(first, 4, marks=SLOW) for first in range(4))])
def test_every_bit_is_turned_back_or_its_page_is_kept_for_the_rows_to_find_it_or_it_is_refused(
    tmp_path: Path, first: int, stride: int
) -> None:
    killed, outcomes = Killed(tmp_path / "j", 2, used_before=1), Counter[str]()
    ahead = killed.ahead[: killed.ends[-1]]
    for bit in range(first, len(ahead) * 8, stride):
        changed = turned(ahead, bit)
        try:
            where, promised, _ = _mend(changed, PAGE, NumbersGiven())
        except sqlite3.DatabaseError:
            outcomes["journal.damaged"] += 1
            continue
        assert (len(where), promised) == (1, 0), f"bit {bit}"
        if changed == ahead:
            outcomes["turned back"] += 1
            continue
        assert _mend(bytearray(changed), PAGE, NumbersGiven()) == ([], 0, False), f"bit {bit}"
        frame, byte = divmod(bit // 8 - HEADER, FRAME)
        assert byte >= 16, f"bit {bit}: a page's number is never in doubt"
        page = slice(HEADER + frame * FRAME + 24, HEADER + (frame + 1) * FRAME)
        assert changed[page] in (ahead[page], turned(ahead, bit)[page]), f"bit {bit}"
        outcomes["kept"] += 1
    print(dict(outcomes))
    assert outcomes["turned back"] > 2 * (outcomes["kept"] + outcomes["journal.damaged"])


def test_a_page_s_number_that_became_0_is_turned_back(killed: Killed) -> None:
    """It looks so, too, where a power cut took the sector with its number and nothing else that stood there."""
    tried = 0
    for at in range(HEADER, killed.ends[-1], FRAME):
        number = int.from_bytes(killed.ahead[at : at + 4])
        if number.bit_count() == 1:
            changed = bytearray(killed.ahead)
            changed[at : at + 4] = bytes(4)
            _mend(changed, PAGE, NumbersGiven())
            assert changed == killed.ahead, f"page {number}"
            tried += 1
    assert tried > 5


def test_a_write_that_was_cut_off_at_any_place_is_no_damage(killed: Killed) -> None:
    """Between the frames and within; a file that ends there, and one that goes on with nothing or with what was there before."""
    for cut in range(killed.ends[0], killed.ends[-1], FRAME // 2):
        step = sum(end <= cut for end in killed.ends) - 1
        rest = (b"", bytes(len(killed.ahead) - cut), killed.aheads[0][cut:])[cut // (FRAME // 2) % 3]
        assert killed.start(killed.ahead[:cut] + rest) == killed.seen[step], f"cut at {cut}"


@pytest.mark.parametrize("times", [1, pytest.param(200, marks=SLOW)])
def test_what_was_not_flushed_reaches_the_disk_in_any_order_and_is_no_damage(killed: Killed, times: int) -> None:
    """An append, and marks before it: all but one frame of them, then each sector of them or not."""
    seed = int(os.environ.get("ROCADE_SEED") or 3)
    print(f"seed {seed}")
    dice = Random(seed)
    for last, step in zip(killed.flushed, killed.flushed[1:], strict=False):
        before, after = killed.aheads[last], killed.aheads[step]
        before += bytes(max(0, len(after) - len(before)))
        cases = [(range(at, at + FRAME), 0.0) for at in range(killed.ends[last], killed.ends[step], FRAME)]
        for missing, share in [*cases, *[(range(killed.ends[last], killed.ends[step]), 0.1)] * times]:
            ahead = bytearray(after)
            for at in range(missing.start, missing.stop, SECTOR):
                if share == 0.0 or dice.random() < share:
                    gone = slice(at, min(at + SECTOR, missing.stop))
                    ahead[gone] = before[gone]
            assert killed.start(ahead) in killed.seen[last : step + 1], f"step {step}, {missing}"


def test_a_bit_that_turned_before_what_a_power_cut_took_is_turned_back_all_the_same(killed: Killed) -> None:
    """The numbers behind the cut are held against what is there once the bit is turned back."""
    for last, step in zip(killed.flushed, killed.flushed[1:], strict=False):
        before, after = killed.aheads[last], killed.aheads[step]
        before += bytes(max(0, len(after) - len(before)))
        for at in range(killed.ends[last], killed.ends[step], FRAME):
            ahead = turned(after, (HEADER + FRAME + 24 + 400) * 8)
            ahead[at : at + FRAME] = before[at : at + FRAME]
            assert killed.start(ahead) in killed.seen[last : step + 1], f"step {step}, {at}"


@pytest.mark.slow
def test_what_may_be_one_of_several_bits_and_breaks_the_structure_is_a_cut_in_the_last_append(killed: Killed) -> None:
    """A page that a power cut tore may lack what one of some bits would give; refused, all that waits would be set aside."""
    cuts = 0
    for bit in range(killed.last_append * 8 + 7, killed.ends[-1] * 8, 67):
        changed = turned(killed.ahead, bit)
        closed = bytearray(changed)
        with suppress(sqlite3.DatabaseError):  # where it may be the page's number it is refused
            if not _mend(closed, PAGE, NumbersGiven())[2]:
                continue
        if closed != changed and not _holds(bytearray(killed.kept), closed, PAGE):
            assert killed.start(changed) in killed.before_last_append(), f"bit {bit}"
            cuts += 1
    assert cuts


@pytest.mark.parametrize("journals", [15, pytest.param(100, marks=SLOW)])
def test_a_power_cut_soon_after_another_is_no_damage(tmp_path: Path, journals: int) -> None:
    """SQLite goes on over what the first one left: behind what the second left lie whole frames of before, of the same round."""
    seed = int(os.environ.get("ROCADE_SEED") or 2)
    print(f"seed {seed}")
    dice = Random(seed)
    for number in range(journals):
        folder, stored, ahead = tmp_path / f"{number}.0", b"", b""
        may_be = list[Seen]()
        for cut in range(8):
            file, was_ahead = folder / "journal.db", Path(f"{folder}/journal.db-wal")
            folder.mkdir()
            if stored:
                file.write_bytes(stored)
                was_ahead.write_bytes(ahead)
            with Journal(file, SystemClock(), SystemRandom()) as journal:
                seen = see(journal)
                assert seen in may_be or not may_be, f"journal {number}, cut {cut}"
                before, may_be = ahead, [*may_be, seen]
                for step in range(last := 2 if cut else 6):
                    journal.append([batch(dice.randrange(99), dice.choice((60, 900)))], {"log": dice.randrange(99)})
                    may_be.append(see(journal))
                    if step == last - 1:
                        break  # this one is not flushed
                    before, may_be = was_ahead.read_bytes(), may_be[-1:]
                    for entry in journal.waiting(0, dice.randrange(4)):
                        journal.acknowledge([entry.sequence])
                        may_be.append(see(journal))
                stored, after = file.read_bytes(), was_ahead.read_bytes()
            assert len(after) < 900 * FRAME, "nothing was moved into the database yet"
            ahead, folder = torn(before, after, dice), tmp_path / f"{number}.{cut + 1}"


def test_more_than_a_bit_is_damage_if_appended_batches_lie_behind_it(killed: Killed) -> None:
    """A sector that came back as another. In the last append and behind it that is what a cut looks like, too."""
    first, *_, last = killed.flushed
    for at in [0, *range(-(-killed.ends[first] // SECTOR) * SECTOR, killed.ends[last - 1] - SECTOR, 5 * SECTOR)]:
        ahead = bytearray(killed.ahead)
        ahead[at : at + SECTOR] = Random(at).randbytes(SECTOR)
        with pytest.raises(Corrupt, match="flushed later lies behind"):
            killed.start(ahead)
    ahead = bytearray(killed.aheads[last])
    ahead[killed.ends[last - 1] + 100 : killed.ends[last - 1] + SECTOR] = bytes(SECTOR - 100)
    assert killed.start(ahead) == killed.seen[last - 1]


def test_a_disk_that_is_full_keeps_the_journal_as_it_is_and_an_empty_file_begins_anew(
    killed: Killed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_full(_: int) -> None:
        raise OSError(ENOSPC, "No space left on device")

    file, ahead = tmp_path / "journal.db", tmp_path / "journal.db-wal"
    content = turned(killed.ahead, 99_968)
    file.write_bytes(killed.kept)
    ahead.write_bytes(content)
    with monkeypatch.context() as filling:
        filling.setattr(os, "fsync", is_full)
        with pytest.raises(Unavailable, match=r"journal\.full"):
            Journal(file, SystemClock(), SystemRandom())
    assert ahead.read_bytes() == content
    file.write_bytes(b"")
    with Journal(file, SystemClock(), SystemRandom()) as journal:
        assert journal.next_sequence == 1


def test_a_journal_in_use_is_left_alone(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.db", SystemClock(), SystemRandom()) as journal:
        journal.append([batch(1)])
        ahead = tmp_path / "journal.db-wal"
        content = turned(ahead.read_bytes(), 99_999)
        ahead.write_bytes(content)
        mend(tmp_path / "journal.db", NumbersGiven())
        assert ahead.read_bytes() == content
