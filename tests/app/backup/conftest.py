"""A region with two vehicles and their history, backed up yesterday; one of them erased today."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
import numpy as np
import pytest

from rocade.app import backing_up, erasing, initialise, wiring
from rocade.app import configuration as settings
from rocade.app.backup.frozen import history_of
from rocade.app.backup.progress import Progress
from rocade.app.configuration import Configuration
from rocade.fabric.history import History
from rocade.services.telemetry import chunks, store
from rocade.services.vehicles import Registry

HOUR_US = chunks.HOUR_US
START_US = 1_790_000_000_000_000 // HOUR_US * HOUR_US


@dataclass
class Place:
    """Where everything of a region lies, and what was told of it."""

    home: Path
    configuration: Configuration
    refs: tuple[int, int]

    @property
    def backups(self) -> Path:
        return self.home / "backups"

    @property
    def keys(self) -> Path:
        return self.home / "keys"

    @property
    def ledger(self) -> Path:
        return self.configuration.root / "erasures"

    def back_up(self, progress: Progress | None = None) -> list[str]:
        wanted = backing_up.wanted(self.configuration, str(self.backups), None, None, None)
        return backing_up.back_up(self.configuration, wanted, progress or Progress())

    def asked(self, into: str, **changed: object) -> backing_up.Asked:
        plain = backing_up.Asked(str(self.backups), str(self.keys), self.ledger, self.home / into)
        return msgspec.structs.replace(plain, **changed)


def empty_database(postgres_url: str, name: str, template: str = "template0") -> str:
    async def make() -> None:
        server = await asyncpg.connect(postgres_url)
        await server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        await server.close()
        if template != "template0":  # keys that other tests left in it are another region's
            made = await asyncpg.connect(url)
            await made.execute("TRUNCATE seal_bucket, seal_key, seal_gone")
            await made.close()

    url = urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
    asyncio.run(make())
    return url


def block(refs: tuple[int, ...]) -> chunks.Chunks:
    count = len(refs)
    return chunks.Chunks(
        vehicle=np.array(refs, np.uint64),
        signal=np.ones(count, np.uint32),
        arrived_us=np.full(count, START_US + 60_000_000),
        start_us=np.full(count, START_US),
        step_us=np.full(count, 1_000_000),
        rows=np.full(count, 60),
        kind=np.zeros(count, np.uint8),
        exponent=np.zeros(count, np.int8),
        ints=np.arange(60 * count),
        floats=np.zeros(0),
    )


async def points_of(history: History, ref: int) -> int:
    return len((await store.series(history, ref, 1, START_US, START_US + HOUR_US)).time_us)


def in_region[T](configuration: Configuration, work: Callable[[wiring.Common, History], Awaitable[T]]) -> T:
    """Do something in a region that nobody serves, with its database, keys, audit log and history."""

    async def run() -> T:
        async with wiring.common(configuration, 8) as parts, history_of(configuration, parts.keyring) as history:
            await store.ensure(history)
            return await work(parts, history)

    return asyncio.run(run())


def make_place(home: Path, postgres_url: str, template: str, name: str = "eu", custody: str = "custody") -> Place:
    template_of = Configuration(
        name, "test.rocade", backup=settings.Backup(to=str(home / "backups"), keys_to=str(home / "keys")),
        custody=settings.Custody(directory=custody),
    )  # fmt: skip
    initialise.create(home / name, name, "test.rocade", template=template_of)
    url = empty_database(postgres_url, f"backed_{name}", template)
    configuration = msgspec.structs.replace(settings.load(home / name), database_url=url)

    async def fill(parts: wiring.Common, history: History) -> tuple[int, int]:
        registry = Registry(parts.database, parts.random, parts.clock)
        refs = [
            int((await registry.add(vin, "car", "renault", "Zoe", "electric", name)).ref)
            for vin in ("VF1CARA0000000001", "VF1CARA0000000002")
        ]
        await store.insert(history, block(tuple(refs)), "first")
        return refs[0], refs[1]

    return Place(home, configuration, in_region(configuration, fill))


@pytest.fixture(scope="session")
def yesterday(tmp_path_factory: pytest.TempPathFactory, postgres_url: str, template: str) -> Iterator[Place]:
    """Backed up; nothing was erased since."""
    place = make_place(tmp_path_factory.mktemp("backup"), postgres_url, template)
    place.back_up()
    yield place
    shutil.rmtree(place.home, ignore_errors=True)


def erase(place: Place, ref: int) -> None:
    async def work(parts: wiring.Common, history: History) -> None:
        async with wiring.open_log(parts) as log:
            eraser = erasing.region_erasing(parts, history, log).eraser
            await eraser.erase(ref, "operator:test", is_physical=True)
            await eraser.work()

    in_region(place.configuration, work)
