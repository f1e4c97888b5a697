"""The store process itself: one owner a directory, clean stop, clear refusals, kept data."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from rocade.core.errors import Misconfigured, Unavailable
from rocade.fabric.history import Table, connect
from rocade.fabric.history.process import StoreProcess


def test_a_second_process_on_the_same_directory_is_refused_in_words(own: StoreProcess) -> None:
    command = [
        sys.executable,
        "-m",
        "rocade.fabric.history.store",
        str(own.directory),
        str(own.directory / "other.sock"),
    ]
    second = subprocess.run(command, input="k" * 32, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode != 0
    assert second.stderr.strip().splitlines()[-1].startswith("history.directory.owned: another store process owns")


async def test_sigterm_ends_it_with_status_0_and_what_was_inserted_is_there_again(
    own: StoreProcess, table: Table
) -> None:
    client = connect(own.url)
    await client.ensure(table)
    await client.insert(table.name, pa.table({"key": [1], "day": [2], "v": [[3]]}), "a")
    assert stat.S_IMODE(own.socket_path.stat().st_mode) == 0o600
    assert own.stop() == 0
    with pytest.raises(Unavailable) as raised:
        await client.query("SELECT 1")
    assert raised.value.code == "history.down"
    await asyncio.to_thread(own.start)
    assert (await client.query(f"SELECT key FROM {table.name}")).to_pylist() == [{"key": 1}]
    await client.insert(table.name, pa.table({"key": [1], "day": [2], "v": [[3]]}), "a")
    assert (await client.query(f"SELECT key FROM {table.name}")).num_rows == 1
    await client.close()


def test_a_socket_path_that_is_too_long_and_a_path_with_a_question_mark_are_refused(tmp_path: Path) -> None:
    from rocade.fabric.history import engine, store

    with pytest.raises(Misconfigured) as raised:
        store.listen(tmp_path / ("x" * 120))
    assert raised.value.code == "history.socket.path"
    with pytest.raises(Misconfigured) as raised:
        engine.Engine(tmp_path / "a?b=c", bytes(32))
    assert raised.value.code == "history.directory.name"


def test_an_address_of_another_kind_is_refused() -> None:
    with pytest.raises(Misconfigured) as raised:
        connect("redis://localhost")
    assert raised.value.code == "history.url"
