"""The past in one file: what left is in the contract's log, whoever broke it off; what was taken out meanwhile stays out."""

from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from tests.services.sharing.conftest import OWNER, SIGNALS, SOC, SPEED, Stand, until

from rocade.core.errors import Refused
from rocade.services.sharing import Bulk, Contract, Line, bulk, files
from rocade.services.telemetry.chunks import Samples

T0_US = 1_780_000_000_000_000
SIZE = 1_000


@pytest.fixture(autouse=True)
def _kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A history of ten hours of each signal, read in row groups of one."""

    async def signals_of(*_: Any) -> list[int]:
        return [SPEED, SOC]

    async def samples(
        _history: object, _refs: object, signals: list[int], *_: int
    ) -> AsyncIterator[tuple[int, int, Samples]]:
        for signal in signals:
            for hour in range(10):
                times = T0_US + hour * 3_600_000_000 + np.arange(SIZE) * 1_000_000
                yield (
                    1,
                    signal,
                    Samples(times, np.arange(SIZE) * 0.5, np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.int64)),
                )

    monkeypatch.setattr(bulk.history_store, "signals_of", signals_of)
    monkeypatch.setattr(bulk.history_store, "samples", samples)
    monkeypatch.setattr(files, "ROW_GROUP", SIZE)


async def begun(stand: Stand, noted: list[Line]) -> tuple[int, Contract, Any]:
    ref = await stand.vehicle()
    contract = await stand.contract(ref, "driving", "energy", signals=(SPEED, SOC))
    history: Any = None
    made = Bulk(stand.feeding, history, SIGNALS).parquet(contract, 0, stand.clock.now_us(), noted.append)
    return ref, contract, made


async def test_a_file_that_is_fetched_to_its_end_is_in_the_log_once(stand: Stand) -> None:
    noted = list[Line]()
    _, _, pieces = await begun(stand, noted)
    content = b"".join([piece async for piece in pieces])
    assert pyarrow.parquet.read_table(io.BytesIO(content)).num_rows == 20 * SIZE
    assert [(one.kind, one.way, one.samples, one.bytes) for one in noted] == [
        ("sent", "parquet", 20 * SIZE, len(content))
    ]


async def test_what_left_before_a_contract_ended_is_in_the_log(stand: Stand) -> None:
    noted, got = list[Line](), b""
    ref, contract, pieces = await begun(stand, noted)
    with pytest.raises(Refused, match="ended"):
        async for piece in pieces:
            got += piece
            if len(got) > SIZE:
                await stand.sharing.withdraw(ref, OWNER, contract.id)
                await stand.table.refresh()
    assert [one.bytes for one in noted] == [len(got)]
    assert 0 < noted[0].samples < 20 * SIZE


async def test_what_left_before_its_reader_hung_up_is_in_the_log(stand: Stand) -> None:
    noted, got = list[Line](), b""
    _, _, pieces = await begun(stand, noted)
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            got += piece
            if len(got) > SIZE:
                break
    assert [one.bytes for one in noted] == [len(got)]


async def test_a_signal_taken_out_meanwhile_stays_out(stand: Stand) -> None:
    noted, got = list[Line](), b""
    ref, contract, pieces = await begun(stand, noted)
    async for piece in pieces:
        if not got:
            await stand.sharing.narrow(ref, OWNER, contract.id, contract.classes, (SPEED,))
            await until(lambda: stand.book.by_id[contract.id].version == 2)
        got += piece
    assert set(pyarrow.parquet.read_table(io.BytesIO(got)).column("signal").to_pylist()) == {"Vehicle.Speed"}
