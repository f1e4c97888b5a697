"""Prices at the point of sale, measured: first load, a day's apply, look-ups, catching up, memory, kill -9.

    python benchmarks/dealer_prices.py [--full]     500,000 references, 200 kills; without --full 50,000 and 20

The press publishes 41 days of 10,000 random changes and writes heads and files to disk; a process of its own,
which holds nothing but the price store, applies them: what it says of time and memory is the store's alone. Wall seconds, CPU seconds in
the notes printed. Peers in the same run: the same rows put into a plain SQLite table with a key on the reference, which proves nothing and
knows no past, and a SELECT on it.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

import price_kills
import price_lists
from parts import figure
from rocade.agents.dealer.prices import PriceStore
from rocade.trust.identity.keys import new_key
from rocade.wire.prices import Delta

SEED = 20_261_122
LIST = "fr-retail"
DAYS = 12
LOOKS = 200_000
NOW_US = price_lists.BEGIN_US + 400 * price_lists.DAY_US
type Figure = dict[str, object]


class Told(msgspec.Struct):
    """What the child says; pairs are wall and CPU seconds."""

    first_load: tuple[float, float]
    applies: list[tuple[float, float]]
    look_now: tuple[float, float]
    look_any: tuple[float, float]
    look_batch: tuple[float, float]
    look_p99_us: float
    prove: tuple[float, float]
    proof_bytes: int
    catch_up_bytes: int
    catch_up: tuple[float, float]
    verify_all: tuple[float, float]
    peak_mib: float
    file_mb: float


class Begun(msgspec.Struct):
    start: tuple[float, float]
    resident_mib: float


def timed(act: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - wall, time.process_time() - cpu


def resident_mib(what: str = "VmRSS") -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) / 1024


# --- the child: a process with a price store and nothing else ---


def follow(directory: Path) -> Told:
    """Apply what lies in the directory; say how long each step took."""
    heads: list[bytes] = msgspec.msgpack.decode((directory / "heads").read_bytes())
    store = price_kills.open_store(directory, "template")

    def apply(number: int) -> Callable[[], object]:
        return lambda: store.apply(heads[number - 1], lambda name: (directory / "blobs" / name).read_bytes())

    first_load = timed(apply(1))
    applies = [timed(apply(number)) for number in range(2, DAYS + 1)]
    chance = random.Random(SEED)
    refs = [part.ref for part, _ in store.all_prices(LIST, NOW_US)]
    asked = chance.choices(refs, k=LOOKS)
    days = [price_lists.BEGIN_US + chance.randrange(DAYS * price_lists.DAY_US) for _ in asked]
    plan = store.plan(heads[DAYS + 29])
    told = Told(
        first_load=first_load,
        applies=applies,
        look_now=min(timed(lambda: look(store, asked)) for _ in range(3)),
        look_any=min(timed(lambda: look_at(store, asked, days)) for _ in range(3)),
        look_batch=min(timed(lambda: store.prices(LIST, asked, NOW_US)) for _ in range(3)),
        look_p99_us=slowest(store, asked[:50_000], days),
        prove=timed(lambda: [store.prove(LIST, ref, NOW_US) for ref in asked[:200]]),
        proof_bytes=len(store.prove(LIST, asked[0], NOW_US)),
        catch_up_bytes=plan.size_bytes,
        catch_up=timed(apply(DAYS + 30)),
        verify_all=timed(lambda: sound(store)),
        peak_mib=resident_mib("VmHWM"),
        file_mb=0.0,
    )
    store.keep()
    store.close()
    told.file_mb = (directory / "template" / "prices.sqlite3").stat().st_size / 1e6
    return told


def start(directory: Path) -> Begun:
    """Open what is there, as an agent does in the morning."""
    store = price_kills.open_store(directory, "template")
    return Begun(timed(store.heads), resident_mib())


def look(store: PriceStore, refs: list[str]) -> None:
    price = store.price
    for ref in refs:
        price(LIST, ref, NOW_US)


def look_at(store: PriceStore, refs: list[str], instants: list[int]) -> None:
    price = store.price
    for ref, at_us in zip(refs, instants, strict=True):
        price(LIST, ref, at_us)


def slowest(store: PriceStore, refs: list[str], instants: list[int]) -> float:
    """The 99th of 100 look-ups, in microseconds."""
    took = []
    for ref, at_us in zip(refs, instants, strict=False):
        begin = time.perf_counter_ns()
        store.price(LIST, ref, at_us)
        took.append(time.perf_counter_ns() - begin)
    return sorted(took)[len(took) * 99 // 100] / 1000


def sound(store: PriceStore) -> None:
    if any(store.verify_all().values()):
        raise SystemExit("the store does not hold what its heads were signed for")


# --- the peer ---


def plain_table(directory: Path, first: Delta) -> tuple[float, float]:
    """Seconds to put the same rows into a plain table, and look-ups a second on it."""
    d = first.descriptions
    db = sqlite3.connect(directory / "plain.sqlite3", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE price (ref TEXT PRIMARY KEY, price INTEGER, family TEXT, label TEXT, superseded_by TEXT)")
    rows = list(zip(d.ref, first.entries.price_minor.tolist(), d.family, d.label, d.superseded_by, strict=True))

    def load() -> None:
        db.execute("BEGIN")
        db.executemany("INSERT INTO price VALUES (?,?,?,?,?)", rows)
        db.execute("COMMIT")

    load_s, _ = timed(load)
    asked = random.Random(SEED).choices(d.ref, k=LOOKS)

    def ask() -> None:
        for ref in asked:
            db.execute("SELECT price FROM price WHERE ref = ?", (ref,)).fetchone()

    return load_s, LOOKS / min(timed(ask) for _ in range(3))[0]


def measure(*, full: bool) -> list[Figure]:
    """All rows of this file."""
    parts, changes, kills = (500_000, 10_000, 200) if full else (50_000, 1_000, 20)
    with tempfile.TemporaryDirectory(prefix="rocade-prices-") as name:
        directory = Path(name)
        press = price_lists.press_with(parts, new_key())
        first = press.deltas[0]
        press.skips = ()
        press.follow(DAYS + 28, changes)
        press.skips = (31,)
        press.follow(1, changes)
        delta_kb = max(head.blob.size for head in press.heads[1:]) / 1000
        price_kills.publish(directory / "list", press)
        del press
        told = msgspec.json.decode(child("--follow", directory / "list"), type=Told)
        begun = msgspec.json.decode(child("--start", directory / "list"), type=Begun)
        plain_s, plain_rate = plain_table(directory, first)
        smaller = price_lists.press_with(parts // 5, new_key())
        smaller.skips = ()
        smaller.follow(39, changes)
        outcome = price_kills.kill_while_applying(directory / "kills", smaller, kills, SEED, 1.0)
    print(told, begun, file=sys.stderr)
    return rows_of(
        told, begun, f"{changes:,} changes of {parts:,} references", parts, delta_kb, plain_s, plain_rate, outcome
    )


def rows_of(
    told: Told, begun: Begun, what: str, parts: int, delta_kb: float, plain_s: float, plain_rate: float,
    outcome: price_kills.Outcome,
) -> list[Figure]:  # fmt: skip
    applies, plain = told.applies, "a plain SQLite table, no past and no proof"
    return [
        figure(f"{what}: delta file", delta_kb, "kB", 30),
        figure(
            f"{what}: applied (fsync, state root), median of {len(applies)}",
            statistics.median(w for w, _ in applies),
            "s",
            0.15,
        ),
        figure("of it CPU", statistics.median(cpu for _, cpu in applies), "s"),
        figure(
            f"kill -9 while applying, {outcome.kills} of them ({outcome.within} in the midst): half applied",
            outcome.half,
            "",
            0,
        ),
        figure("and numbers lost that were said applied", outcome.lost, "", 0),
        figure(
            f"first load of {parts:,} references after download",
            told.first_load[0],
            "s",
            2.5,
            peer=plain,
            peer_value=plain_s,
        ),
        figure(
            "look-up now, one at a time",
            LOOKS / told.look_now[0],
            "/s",
            150_000,
            less=False,
            peer=plain,
            peer_value=plain_rate,
        ),
        figure(
            f"look-up at any instant of {DAYS} days, one at a time", LOOKS / told.look_any[0], "/s", 150_000, less=False
        ),
        figure("look-up now, many at once", LOOKS / told.look_batch[0], "/s", 150_000, less=False),
        figure("look-up at any instant, p99", told.look_p99_us, "us", 1000),
        figure("catch-up after 30 days: bytes", told.catch_up_bytes / 1e6, "MB", 2),
        figure("catch-up after 30 days: applied", told.catch_up[0], "s", 3),
        figure("proof of a price: file", told.proof_bytes / 1000, "kB"),
        figure("proof of a price: written", told.prove[0] / 200 * 1000, "ms"),
        figure("whole store verified, every row hashed again", told.verify_all[0], "s"),
        figure("start with the list on disk", begun.start[0], "s"),
        figure(
            "resident after a start, a process with this store alone",
            begun.resident_mib,
            "MiB",
            150,
        ),
        figure("highest resident ever, with first load and catch-up", told.peak_mib, "MiB"),
        figure("store file after 42 numbers", told.file_mb, "MB"),
    ]


def child(act: str, directory: Path) -> bytes:
    """The last line that a process of its own says."""
    done = subprocess.run([sys.executable, __file__, act, str(directory)], stdout=subprocess.PIPE, check=True)
    return done.stdout.rstrip().rpartition(b"\n")[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="500,000 references and 200 kills")
    parser.add_argument("--follow", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--start", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.follow or options.start:
        told = follow(options.follow) if options.follow else start(options.start)
        print(msgspec.json.encode(told).decode())
        return 0
    for row in measure(full=options.full):
        met = "" if row["met"] is None else f"  goal {row['goal']:g}: {'met' if row['met'] else 'MISSED'}"
        print(f"{row['figure']:88} {row['value']:>12} {row['unit']}{met}  {row['peer']} {row['peer_value'] or ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
