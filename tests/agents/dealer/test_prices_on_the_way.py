"""From a signed head at the hub to a price on the command line: real store, real files, a real process killed at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.agents.dealer.conftest import QUICK, Hub, until
from tests.agents.dealer.publisher import DAY_US, START_US

from rocade.agents.dealer.agent import Dealer
from rocade.agents.dealer.exporting import rows
from rocade.core.errors import Corrupt, Refused


@contextlib.asynccontextmanager
async def running(place: Path) -> AsyncIterator[Dealer]:
    dealer = Dealer.open(place, backoff=QUICK)
    task = asyncio.create_task(dealer.run())
    try:
        yield dealer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        dealer.close()


def rocade(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rocade", "dealer", *words, "--dir", str(place)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


async def test_a_list_arrives_changes_and_is_asked_at_any_instant(hub: Hub, place: Path) -> None:
    parts = hub.publish(parts=1000)
    async with running(place) as dealer:
        await until(dealer.prices.lists)
        await until(lambda: [ack["state"] for ack in hub.told("ack")] == ["applied"])
        parts.release({"REF-000007": 777})
        hub.push_head(parts)
        await until(lambda: dealer.prices.lists()[0]["number"] == 2)
        assert dealer.prices.price("parts", "REF-000007", START_US).price_minor == 1007
        assert dealer.prices.price("parts", "REF-000007", START_US + DAY_US).price_minor == 777
        assert dealer.prices.price("parts", "REF-000007", START_US + DAY_US, 1).price_minor == 1007
        assert [price for _, price, _, _ in dealer.prices.steps("parts", "REF-000007")] == [1007, 777]
        await until(lambda: len(hub.told("ack")) == 2)
        assert dealer.store.troubles() == [] or {code for _, _, code, _ in dealer.store.troubles()} == {
            "prices.epoch.missing"
        }


async def test_a_damaged_row_is_refused_told_and_mended_without_anybody(
    hub: Hub, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rocade.agents.dealer.hub.STATE_EVERY_S", 0.2)
    parts = hub.publish(parts=50)
    parts.release({"REF-000007": 777})
    async with running(place) as dealer:
        await until(lambda: hub.told("ack"))
        with contextlib.closing(sqlite3.connect(place / "prices/eu.sqlite3")) as db, db:
            db.execute("UPDATE entry SET price = price + 1 WHERE slot & 4294967295 = 7 AND seq = 1")
        with pytest.raises(Corrupt, match="altered"):
            dealer.prices.price("parts", "REF-000007", START_US)
        assert dealer.prices.price("parts", "REF-000007", START_US + DAY_US).price_minor == 777
        await until(lambda: not dealer.hubs["eu"].prices.is_damaged)
        assert dealer.prices.price("parts", "REF-000007", START_US).price_minor == 1007
        assert "prices.store.altered" in {code for _, _, code, _ in dealer.store.troubles()}


async def test_a_damaged_row_that_nobody_asks_for_is_found_within_a_day_and_mended(
    hub: Hub, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rocade.agents.dealer.hub.STATE_EVERY_S", 0.2)
    monkeypatch.setattr("rocade.agents.dealer.hub.CHECK_EVERY_S", 0.2)
    hub.publish(parts=50)
    async with running(place) as dealer:
        await until(lambda: hub.told("ack"))
        with contextlib.closing(sqlite3.connect(place / "prices/eu.sqlite3")) as db, db:
            db.execute("UPDATE entry SET price = price + 1 WHERE slot & 4294967295 = 7")
        await until(lambda: "prices.store.altered" in {code for _, _, code, _ in dealer.store.troubles()})
        await until(lambda: not dealer.hubs["eu"].prices.is_damaged)
        with contextlib.closing(sqlite3.connect(place / "prices/eu.sqlite3")) as db:
            assert db.execute("SELECT price FROM entry WHERE slot & 4294967295 = 7").fetchall() == [(1007,)]


async def test_a_price_is_said_and_proven_when_agent_and_line_are_gone(hub: Hub, place: Path, tmp_path: Path) -> None:
    hub.publish(parts=50)
    async with running(place) as dealer:
        await until(dealer.prices.lists)
    await hub.shut()
    said = await asyncio.to_thread(rocade, place, "price", "REF-000003")
    assert said.stdout.startswith("10.03 EUR"), said.stderr
    at = await asyncio.to_thread(rocade, place, "price", "REF-000003", "--at", "2026-01-01T00:00:00+01:00", "--json")
    assert json.loads(at.stdout)["price_minor"] == 1003
    naive = await asyncio.to_thread(rocade, place, "price", "REF-000003", "--at", "2026-01-01T00:00:00")
    assert (naive.returncode, "offset" in naive.stderr) == (1, True)
    proof = tmp_path / "proof.json"
    assert (await asyncio.to_thread(rocade, place, "prove", "REF-000003", "--out", str(proof))).returncode == 0
    assert proof.stat().st_size > 200


async def test_an_export_names_its_dealer_and_there_is_none_without_marks(hub: Hub, place: Path) -> None:
    hub.publish(parts=20)
    async with running(place) as dealer:
        await until(dealer.prices.lists)
        lines = list(rows(dealer.prices, place, "parts", dealer.prices.now_us("parts")))
        assert len(lines) == 1 + 20 + 1
        assert [line for line in lines if line.startswith("REF-MFR-00123-1,4711,EUR")]
        assert lines[1:] == sorted(lines[1:])
        (place / "hubs/eu/marks.json").unlink()
        with pytest.raises(Refused, match=r"dealer\.export\.unmarked"):
            list(rows(dealer.prices, place, "parts", dealer.prices.now_us("parts")))


async def start(place: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rocade", "dealer", "run", "--dir", str(place)),
        stderr=asyncio.subprocess.DEVNULL, env={**os.environ, "ROCADE_LOG": "warning"},
    )  # fmt: skip


async def test_the_agent_killed_with_signal_9_goes_on_where_it_was(hub: Hub, place: Path) -> None:
    parts = hub.publish(parts=2000)
    for number in range(4):
        program = await start(place)
        want = parts.seq
        await until(lambda want=want: any(ack["seq"] == want and ack["state"] == "applied" for ack in hub.told("ack")))
        parts.release({f"REF-{at:06}": 5000 + number for at in range(100)})
        hub.push_head(parts)
        if number % 2:
            await asyncio.sleep(0)
        else:
            await until(lambda: any(ack["seq"] == parts.seq for ack in hub.told("ack")))
        program.send_signal(signal.SIGKILL)
        assert await program.wait() == -9
        said = await asyncio.to_thread(rocade, place, "price", "REF-000005", "--json")
        price = json.loads(said.stdout)["price_minor"]
        assert price in {5000 + number, 5000 + number - 1, 1005}
    status = await asyncio.to_thread(rocade, place, "status")
    assert (status.returncode, "NOT running" in status.stdout) == (1, True)
    async with running(place) as dealer:
        await until(lambda: dealer.prices.lists()[0]["number"] == parts.seq)
        assert dealer.prices.price("parts", "REF-000005", dealer.prices.now_us("parts")).price_minor == 5003
