"""The JetStream log loses its leader under load: acknowledgements pause, none fails, nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from rocade.core.errors import Unavailable
from rocade.fabric.database import Database
from rocade.fabric.log import Lag, Record, jetstream
from rocade.fabric.log import cluster as cluster_module
from rocade.fabric.log.cluster import NatsCluster
from rocade.fabric.log.jetstream import JetStreamLog
from rocade.fabric.log.segments import Retention

EVERY = range(64)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three servers that sync each message, on a machine that does something else besides."""
    monkeypatch.setattr(cluster_module, "START_TIMEOUT_S", 150.0)
    for name in ("ENSURE_TIMEOUT_S", "REQUEST_TIMEOUT_S"):
        monkeypatch.setattr(jetstream, name, 60.0)


@pytest.fixture
def cluster(patience: None) -> Iterator[NatsCluster]:
    with tempfile.TemporaryDirectory(prefix="rocade-nf-") as directory:
        nodes = NatsCluster(Path(directory))
        nodes.start()
        try:
            yield nodes
        finally:
            nodes.stop()


def leader_of(cluster: NatsCluster, stream: str) -> int | None:
    """Number of the node that leads a stream, asked of every node's monitor."""
    for address in cluster.monitors:
        try:
            report = httpx.get(f"{address}/jsz?streams=true", timeout=10).json()
        except httpx.HTTPError:
            continue
        for account in report.get("account_details") or []:
            for each in account.get("stream_detail") or []:
                if each["name"] == stream and (each.get("cluster") or {}).get("leader"):
                    return int(each["cluster"]["leader"].removeprefix("node"))
    return None


async def _kill_leaders(cluster: NatsCluster, database: Database, kills: int, longest_s: float | None = None) -> None:
    log = await JetStreamLog.connect(database, cluster.urls, retention=Retention(limit_bytes=1 << 30))
    acknowledged: set[int] = set()
    pauses_s: list[float] = []
    over = asyncio.Event()

    async def send(lane: int) -> None:
        number = lane * 10_000_000
        while not over.is_set():
            numbers = range(number, number + 25)
            number = numbers.stop
            began = time.monotonic()
            await log.append("telemetry", [Record(n % 64, n, 1, n, b"%01400d" % n) for n in numbers])
            pauses_s.append(time.monotonic() - began)
            acknowledged.update(numbers)

    sending = [asyncio.create_task(send(lane)) for lane in range(4)]
    await asyncio.sleep(1.0)
    for _ in range(kills):
        async with asyncio.timeout(120):
            while (leader := await asyncio.to_thread(leader_of, cluster, "rocade_telemetry")) is None:
                await asyncio.sleep(0.1)
        before = len(acknowledged)
        await asyncio.to_thread(cluster.kill, leader)
        async with asyncio.timeout(120):  # intake comes back
            while len(acknowledged) <= before + 200:
                await asyncio.sleep(0.05)
        await asyncio.to_thread(cluster.restart, leader)
        await asyncio.sleep(3.0)
    over.set()
    await asyncio.wait_for(asyncio.gather(*sending), 120)
    found: Counter[int] = Counter()
    cursor: dict[tuple[int, int], int] = {}
    end_s = time.monotonic() + 90  # any replica answers a read, also one that came back and is still catching up
    while True:
        each = await log.read("telemetry", EVERY, cursor, 5_000, 4 << 20)
        cursor |= each.positions
        found.update(record.key for record in each.records)
        if each.records:
            continue
        if acknowledged <= found.keys() or time.monotonic() > end_s:
            break
        await asyncio.sleep(0.2)
    await log.close()
    print(f"{len(acknowledged)} acknowledged, longest pause {max(pauses_s):.1f} s")
    assert acknowledged - found.keys() == set(), "acknowledged and lost"
    assert [key for key, count in found.items() if count > 1] == [], "doubled"
    assert longest_s is None or max(pauses_s) < longest_s


async def test_an_acknowledgement_that_gets_lost_is_asked_for_again_and_nothing_is_doubled(
    cluster: NatsCluster, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = JetStreamLog._publish
    told = Counter[str]()

    async def lossy(self: JetStreamLog, stream: str, body: bytes, headers: dict[str, str]) -> object:
        answer = await publish(self, stream, body, headers)
        told[headers["Nats-Msg-Id"]] += answer is not None
        return None if told[headers["Nats-Msg-Id"]] == 1 else answer  # stored, but we never hear of it

    monkeypatch.setattr(JetStreamLog, "_publish", lossy)
    log = await JetStreamLog.connect(database, cluster.urls, retention=Retention(limit_bytes=1 << 30))
    for number in range(20):
        await log.append("telemetry", [Record(number, number, 1, number, b"once")])
    found = await log.read("telemetry", EVERY, {}, 100, 1 << 20)
    assert [record.key for record in found.records] == list(range(20))
    assert (len(told), set(told.values())) == (20, {2})
    await log.close()


async def test_a_replica_that_is_behind_is_not_taken_for_the_end_of_the_log(
    cluster: NatsCluster, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = JetStreamLog._get
    behind = 3

    async def replica(self: JetStreamLog, stream: str, start: int, *rest: int) -> list[tuple[int, bytes]]:
        nonlocal behind
        behind -= 1
        return [] if behind >= 0 else await get(self, stream, start, *rest)

    log = await JetStreamLog.connect(database, cluster.urls, retention=Retention(limit_bytes=1 << 30))
    for number in range(5):
        await log.append("telemetry", [Record(number, number, 1, 1_000 + number, b"unread")])
    await log.positions("readers", "telemetry", EVERY)
    monkeypatch.setattr(JetStreamLog, "_get", replica)
    assert await log.lag("readers", "telemetry") == Lag(5, 1_000)
    assert behind < 0
    await log.close()


async def test_a_node_that_just_came_back_gives_late_what_it_missed_and_never_less(
    cluster: NatsCluster, database: Database
) -> None:
    """Read and asked only through that node, from the moment it answers."""
    log = await JetStreamLog.connect(database, cluster.urls, retention=Retention(limit_bytes=1 << 30))
    await log.positions("readers", "telemetry", EVERY)
    await log.append("telemetry", [Record(0, 0, 1, 1_000, b"%01400d" % 0)])
    async with asyncio.timeout(120):
        while (leader := await asyncio.to_thread(leader_of, cluster, "rocade_telemetry")) is None:
            await asyncio.sleep(0.1)
    node = (leader + 1) % 3
    await asyncio.to_thread(cluster.kill, node)
    for number in range(1, 150):
        await log.append("telemetry", [Record(number % 64, number, 1, 1_000 + number, b"%01400d" % number)])
    await asyncio.to_thread(cluster.restart, node)
    found, cursor, ends = list[int](), dict[tuple[int, int], int](), Counter[str]()
    async with asyncio.timeout(120):
        while True:
            try:
                through = await JetStreamLog.connect(database, [cluster.urls[node]])
                break
            except Unavailable:
                await asyncio.sleep(0.02)
        while len(found) < 150:
            try:
                lag = await through.lag("readers", "telemetry")
                each = await through.read("telemetry", EVERY, cursor, 1_000, 4 << 20)
            except Unavailable as error:
                ends[error.code] += 1
                continue
            assert lag.records > 0
            assert lag.oldest_arrived_us == 1_000
            cursor |= each.positions
            found += [record.key for record in each.records]
            ends["more" if each.records else "nothing yet"] += 1
    print(dict(ends))
    assert found == list(range(150))
    await through.close()
    await log.close()


def test_every_node_of_the_cluster_syncs_before_it_answers(cluster: NatsCluster) -> None:
    for address in cluster.monitors:
        assert httpx.get(f"{address}/varz", timeout=30).json()["jetstream"]["config"]["sync_always"] is True


async def test_killing_the_leader_under_load_pauses_acknowledgements_and_fails_none(
    cluster: NatsCluster, database: Database
) -> None:
    await _kill_leaders(cluster, database, 1)


@pytest.mark.slow
async def test_killing_five_leaders_in_a_row_loses_nothing(cluster: NatsCluster, database: Database) -> None:
    await _kill_leaders(cluster, database, 5, longest_s=10)
