"""The journal: what was appended is there after kill -9, numbers are never used twice, limits drop nothing in silence."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.clocks import SetClock

from rocade.agents.vehicle.journal import Journal, Limits
from rocade.core.errors import Corrupt, Refused, Unavailable
from rocade.core.ports import SystemRandom
from rocade.wire.batch import Batch, Clock, Column, check_many


def batch(rows: int = 100, seed: int = 0) -> tuple[Batch, int]:
    values = np.random.default_rng(seed).integers(-(2**60), 2**60, rows)
    return Batch(0, 0, 0, [Clock(1_700_000_000_000_000 + np.arange(rows) * 1_000_000)], [Column(1, 0, values)]), rows


def test_numbers_go_on_and_the_epoch_stays(tmp_path: Path) -> None:
    clock = SetClock()
    with Journal(tmp_path / "j", clock, SystemRandom()) as journal:
        epoch = journal.epoch
        assert journal.append([batch(), batch()], {"log": 2}) == range(1, 3)
        journal.acknowledge([1])
    with Journal(tmp_path / "j", clock, SystemRandom()) as journal:
        assert (journal.epoch, journal.next_sequence, journal.position("log")) == (epoch, 3, 2)
        assert [entry.sequence for entry in journal.waiting(0, 9)] == [2]
        journal.acknowledge([2, 2, 1, 77])
        assert (journal.acknowledged_batches, journal.acknowledged_points) == (2, 200)
    with Journal(tmp_path / "other", clock, SystemRandom()) as journal:
        assert journal.epoch != epoch
        assert journal.epoch > 0


def test_a_batch_that_cannot_be_packed_changes_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", SetClock(), SystemRandom()) as journal:
        bad = Batch(0, 0, 0, [Clock(np.array([1, 2]))], [Column(1, 0, np.array([1]))])
        with pytest.raises(Refused):
            journal.append([batch(), (bad, 1)], {"log": 9})
        assert (journal.next_sequence, journal.count_waiting(), journal.position("log")) == (1, 0, 0)


def test_beyond_its_limit_the_oldest_is_dropped_counted_and_its_number_declared_spent(tmp_path: Path) -> None:
    limits = Limits(waiting_bytes=5000)
    with Journal(tmp_path / "j", SetClock(), SystemRandom(), limits) as journal:
        for seed in range(12):
            journal.append([batch(seed=seed)])
        entries = journal.waiting(0, 99)
        assert [entry.sequence for entry in entries] == list(range(1, 13))
        points = check_many([entry.body for entry in entries]).points.tolist()
        dropped = points.count(0)
        assert points == [0] * dropped + [100] * (12 - dropped)
        assert 5 < dropped < 12
        assert journal.dropped_points == 100 * dropped
        assert journal.waiting_bytes == sum(len(entry.body) for entry in entries) < 6000


def test_old_data_is_dropped_and_old_acknowledged_data_forgotten(tmp_path: Path) -> None:
    clock = SetClock()
    with Journal(tmp_path / "j", clock, SystemRandom(), Limits(waiting_age_s=3600, kept_age_s=600)) as journal:
        journal.append([batch(), batch()])
        journal.acknowledge([2])
        clock.move(4000)
        journal.append([batch()])
        assert check_many([entry.body for entry in journal.waiting(0, 9)]).points.tolist() == [0, 100]
        assert journal.dropped_points == 100
        assert journal.ask_again([(2, 2)]) == [2]
        assert check_many([entry.body for entry in journal.waiting(1, 1)]).points.tolist() == [0]


def test_acknowledged_batches_are_kept_for_a_resend_up_to_their_limit(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", SetClock(), SystemRandom(), Limits(kept_bytes=4000)) as journal:
        journal.append([batch(seed=seed) for seed in range(10)])
        journal.acknowledge(range(1, 11))
        kept = journal._db.execute("SELECT count(*), sum(size) FROM batch").fetchone()
        assert 0 < kept[0] < 10
        assert kept[1] <= 4000
        assert journal.dropped_points == 0
        assert journal.ask_again([(10, 10)]) == [10]
        assert check_many([journal.waiting(0, 1)[0].body]).points.tolist() == [100]
        assert len(journal.ask_again([(0, 10**12)])) <= 10


def test_a_batch_acknowledged_twice_counts_once_and_one_refused_for_good_is_not_sent_again(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", SetClock(), SystemRandom()) as journal:
        journal.append([batch() for _ in range(4)])
        journal.acknowledge([1, 2])
        journal.set_aside(3, "0x99 made up")
        assert journal.ask_again([(1, 9)]) == [1, 2, 4]
        assert [entry.sequence for entry in journal.waiting(0, 9)] == [1, 2, 4]
        assert [journal.newest_waiting(before) for before in (9, 4, 1)] == [4, 2, None]
        assert (journal.acknowledged_batches, journal.acknowledged_points) == (2, 200)
        journal.acknowledge([1, 2, 4])
        assert (journal.acknowledged_batches, journal.acknowledged_points, journal.waiting_bytes) == (3, 300, 0)
        journal._db.execute("DELETE FROM batch WHERE sequence = 1")
        assert journal.ask_again([(1, 1)]) == [1]
        journal.acknowledge([1])
        assert (journal.acknowledged_batches, journal.acknowledged_points) == (3, 300)


def test_a_full_disk_is_said_plainly_and_nothing_is_half_written(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", SetClock(), SystemRandom()) as journal:
        journal.append([batch()])
        pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
        journal._db.execute(f"PRAGMA max_page_count = {pages + 1}")
        with pytest.raises(Unavailable) as full:
            journal.append([batch(5000, seed) for seed in range(5)], {"log": 1})
        assert full.value.code == "journal.full"
        assert (journal.next_sequence, journal.position("log"), journal.count_waiting()) == (2, 0, 1)
        journal._db.execute("PRAGMA max_page_count = 1000000")
        assert journal.append([batch()]) == range(2, 3)


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"not a database at all" * 500)
    with pytest.raises(Corrupt) as damaged:
        Journal(tmp_path / "j", SetClock(), SystemRandom())
    assert damaged.value.code == "journal.damaged"


WRITER = """
import sys
from pathlib import Path
import numpy as np
from rocade.agents.vehicle.journal import Journal
from rocade.core.ports import SystemClock, SystemRandom
from rocade.wire.batch import Batch, Clock, Column
journal = Journal(Path(sys.argv[1]), SystemClock(), SystemRandom())
place = journal.position("source")
while True:
    made = Batch(0, 0, 0, [Clock(np.arange(20) * 1000 + 1)], [Column(1, 0, np.full(20, place))])
    journal.append([(made, 20)], {"source": place + 1})
    print(place + 1, flush=True)
    place += 1
    if place % 3 == 0:
        journal.acknowledge([place - 1])
"""


@pytest.mark.parametrize("kills", [6])
def test_after_kill_9_everything_reported_is_there_once_and_in_order(
    tmp_path: Path, kills: int, record_property: Callable[[str, object], None]
) -> None:
    random = np.random.default_rng(20)
    for _ in range(kills):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "j")], stdout=subprocess.PIPE)
        assert writer.stdout
        first = writer.stdout.readline()
        time.sleep(float(random.uniform(0.0, 0.25)))
        os.kill(writer.pid, signal.SIGKILL)
        reported = int([first, *writer.stdout.read().split()][-1])
        writer.wait()
    record_property("batches", reported)
    with Journal(tmp_path / "j", SetClock(), SystemRandom()) as journal:
        position = journal.position("source")
        assert position >= reported >= kills
        assert journal.next_sequence == position + 1
        rows = journal._db.execute("SELECT sequence, body FROM batch ORDER BY sequence").fetchall()
        assert [row[0] for row in rows] == list(range(1, position + 1))
        assert check_many([row[1] for row in rows]).sequence.tolist() == list(range(1, position + 1))


OLD_SCHEMA = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE position (source TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE batch (
    sequence INTEGER PRIMARY KEY, state INTEGER NOT NULL, made_us INTEGER NOT NULL, start_us INTEGER NOT NULL,
    points INTEGER NOT NULL, size INTEGER NOT NULL, reason TEXT NOT NULL DEFAULT '', body BLOB NOT NULL);
INSERT INTO fact VALUES ('epoch', 77), ('next', 5), ('dropped_points', 2);
INSERT INTO position VALUES ('log', 9);
INSERT INTO batch VALUES (4, 0, 1, 1, 3, 3, '', x'616263');
"""


def test_a_journal_from_before_there_were_checksums_goes_on_with_them(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "j") as old:
        old.executescript(OLD_SCHEMA)
    old.close()
    for _ in range(2):
        with Journal(tmp_path / "j", SetClock(), SystemRandom()) as journal:
            assert (journal.epoch, journal.next_sequence, journal.position("log")) == (77, 5, 9)
            assert [(entry.sequence, entry.body) for entry in journal.waiting(0, 9)] == [(4, b"abc")]
    for change, said in (
        ("UPDATE position SET value = 6", "a row of position has changed"),
        ("UPDATE fact SET value = 6 WHERE name = 'next'", "a row of fact has changed"),
        ("DELETE FROM fact WHERE name = 'next'", "next number is gone"),
    ):
        shutil.copy(tmp_path / "j", tmp_path / "changed")
        with sqlite3.connect(tmp_path / "changed") as hand:
            hand.execute(change)
        hand.close()
        with pytest.raises(Corrupt, match=said):
            Journal(tmp_path / "changed", SetClock(), SystemRandom())
    shutil.copy(tmp_path / "j", tmp_path / "changed")
    with Journal(tmp_path / "changed", SetClock(), SystemRandom()):  # what was refused holds no lock
        pass
