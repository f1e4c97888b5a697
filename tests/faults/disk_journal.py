"""A vehicle's journal on a disk that fails: `python disk_journal.py PATH MODE` appends batches and prints each number that it was given back.

MODE short: no file may grow beyond 200 kB (a write then is cut short); sync: run under strace, which makes fsync fail.
"""

from __future__ import annotations

import resource
import signal
import sys
from pathlib import Path

import numpy as np

from rocade.agents.vehicle.journal import Journal
from rocade.core.errors import RocadeError
from rocade.core.ports import SystemClock, SystemRandom
from rocade.wire.batch import Batch, Clock, Column


def main() -> int:
    path, mode = Path(sys.argv[1]), sys.argv[2]
    journal = Journal(path, SystemClock(), SystemRandom())
    if mode == "short":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    print("ready", flush=True)
    for number in range(400):
        times = np.arange(200, dtype=np.int64) * 1_000_000 + number
        values = np.random.default_rng(number).uniform(0, 100, 200)
        try:
            (sequence,) = journal.append([(Batch(0, 0, 0, [Clock(times)], [Column(1, 0, values)]), 200)])
        except RocadeError as error:
            print("refused", error.code, flush=True)
            return 0
        print(sequence, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
