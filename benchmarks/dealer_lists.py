"""Publishing price lists, measured: the first list of 500,000 references, then 10,000 changes handed in as a whole new file.

    python benchmarks/dealer_lists.py [--full]     500,000 references; without --full 50,000

Real: PostgreSQL, files on disk with fsync, the audit log, the list-signing key. A draft (read, validated, compared, reported) and
its release (tree, sealed files, head, rows by COPY, one commit) are timed apart, wall and CPU of this process. Peer in the
same run: the whole new list loaded by COPY into an empty PostgreSQL table with the same key and swapped in, as an import that
destroys and reloads does: it checks nothing, compares nothing and tells nobody. Rows go to build/bench/dealers.json (dealers.py).
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random as Chance

import price_lists
from parts import figure
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database, EmbeddedPostgres, migrate
from rocade.services.dealers import FOREVER_US, BrandAt, Dealer, Dealers, Site, SiteTable
from rocade.services.prices import Engines, Lists, Signing, create
from rocade.trust.authority import AuditLog
from rocade.trust.authority.region import create_region
from rocade.trust.identity.keys import read_private
from rocade.wire.prices import Delta

SEED = 20_261_122
LIST = "vespelle-fr-retail"
CLOCK, RANDOM = SystemClock(), SystemRandom()
TABLES = ("rocade.fabric.database", "rocade.trust.authority", "rocade.services.dealers", "rocade.services.prices")
type Figure = dict[str, object]


def sites(count: int) -> list[Site]:
    """Points of sale in France that sell and service the list's brand."""
    brand = (BrandAt("vespelle", True, True, 0),)
    return [
        Site(f"FR-{at:05d}-1", f"FR-{at:05d}", "", f"Garage {at}", "FR", "", "", "Lyon", 45.76, 4.83, "Europe/Paris", "", "", 0,
             FOREVER_US, brand)
        for at in range(count)
    ]  # fmt: skip


def write_file(path: Path, delta: Delta, prices: Sequence[int]) -> None:
    """A list as its maker exports it: semicolons, decimal commas."""
    d = delta.descriptions
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(("reference", "prix", "famille", "designation", "remplace_par"))
        texts = (f"{price // 100},{price % 100:02d}" for price in prices)
        writer.writerows(zip(d.ref, texts, d.family, d.label, d.superseded_by, strict=True))


class Watch:
    """Wall and CPU seconds of what stands in a with block."""

    def __enter__(self) -> Watch:
        self._begin = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s, self.cpu_s = time.perf_counter() - self._begin[0], time.process_time() - self._begin[1]


async def peer_reload(database: Database, path: Path) -> float:
    """The list destroyed and loaded again in PostgreSQL, no question asked; seconds."""
    content = io.BytesIO()
    with path.open(newline="", encoding="utf-8") as file:
        rows = [(row[0], int(row[1].replace(",", "")), *row[2:]) for row in list(csv.reader(file, delimiter=";"))[1:]]
    del content
    async with database.pool.acquire() as connection:
        with Watch() as watch:
            async with connection.transaction():
                await connection.execute("DROP TABLE IF EXISTS peer_price")
                await connection.execute(
                    "CREATE TABLE peer_price (ref text, price bigint, family text, label text, superseded_by text)"
                )
                await connection.copy_records_to_table("peer_price", records=rows)
                await connection.execute("ALTER TABLE peer_price ADD PRIMARY KEY (ref)")
    return watch.wall_s


async def publishing(parts: int, changes: int, folder: Path, url: str) -> list[Figure]:
    """First list and then the changes."""
    migrate(url, TABLES)
    create_region(folder / "trust", "eu", "bench.rocade", CLOCK, RANDOM)
    create(folder / "trust" / "prices", read_private(folder / "trust" / "root" / "key.pem"), RANDOM)
    database = await Database.connect(url)
    audit = AuditLog(database, folder / "trust" / "audit", CLOCK)
    network = sites(10)
    await Dealers(database, audit, CLOCK, RANDOM).put(
        network, [Dealer(s.dealer, s.name, "", "FR") for s in network], []
    )
    table = await SiteTable.open(database, CLOCK)
    lists = Lists(
        Engines(database=database, audit=audit, clock=CLOCK, random=RANDOM, directory=folder / "prices",
                signing=Signing(folder / "trust" / "prices"), sites=table)
    )  # fmt: skip
    await lists.add(LIST, "vespelle", "FR", "EUR", "retail", "bench")
    whole = price_lists.snapshot(LIST, parts)
    prices = whole.entries.price_minor.tolist()
    write_file(folder / "list.csv", whole, prices)
    chance = Chance(SEED)
    rows: list[Figure] = []
    for name in ("first list", "changes"):
        if name == "changes":
            for at in chance.sample(range(parts), changes):
                prices[at] = max(5, int(prices[at] * chance.uniform(0.97, 1.06)) // 5 * 5 + 5)
            write_file(folder / "list.csv", whole, prices)
        with Watch() as drafting:
            draft = await lists.draft(LIST, folder / "list.csv", CLOCK.now_us() + 3_600_000_000, "bench")
        assert draft.report.is_valid, draft.report.problems[:3]
        with Watch() as releasing:
            done = await lists.release(LIST, draft.id, "bench", draft.report.needs)
        print(f"{name}: {draft.report.changes} changes, draft {drafting.wall_s:.2f} s ({drafting.cpu_s:.2f} CPU), "
              f"release {releasing.wall_s:.2f} s ({releasing.cpu_s:.2f} CPU), number {done.seq}")  # fmt: skip
        title = (
            f"publish {name if name == 'first list' else f'{draft.report.changes:,} changes'} of {parts:,} references"
        )
        peer_s = await peer_reload(database, folder / "list.csv")
        rows.append(figure(f"{title}: draft and release", drafting.wall_s + releasing.wall_s, "s",
                           peer="destroy and reload in PostgreSQL, parsing not counted", peer_value=peer_s))  # fmt: skip
        rows.append(figure(f"{title}: of it draft (read, validated, compared)", drafting.wall_s, "s"))
        rows.append(figure(f"{title}: of it release (until committed)", releasing.wall_s, "s"))
    head = (await lists.signed_heads())[LIST]
    from rocade.services.prices.epochs import payload_of

    told = payload_of(head)
    rows.append(figure("delta file", told.blob.size / 1000, "kB", 30.0))
    rows.append(figure("signed head", len(head) / 1000, "kB"))
    rows.append(figure("snapshot file", told.snapshot.size / 1e6, "MB"))
    await table.close()
    await audit.close()
    await database.close()
    return rows


def measure(*, full: bool) -> list[Figure]:
    """All rows of this file."""
    with tempfile.TemporaryDirectory(prefix="rocade-lists-") as name:
        folder = Path(name)
        server = EmbeddedPostgres(folder / "postgres")
        url = server.start()
        try:
            parts, changes = (500_000, 10_000) if full else (50_000, 1_000)
            return asyncio.run(publishing(parts, changes, folder, url))
        finally:
            server.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="500,000 references and 10,000 changes")
    rows = measure(full=parser.parse_args().full)
    print(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
