"""A role of Rocade with seams at which it can be killed: `python benchmarks/seams.py serve --config DIR/rocade.toml --role worker`.

The product holds no test code: this program wraps a handful of calls from outside and then plays the role as `rocade`
does. `$ROCADE_SEAMS/order` says at which place, after how many passes, who is to be killed (SIGKILL); the order is
renamed to `hit` just before, so that the one who gave it knows that exactly this place was met.

Places: `append-fsync` (the log's COPY holds the records, no commit), `fsync-puback` (committed, no PUBACK yet),
`insert-commit` (history has the block, PostgreSQL not), `merge` (the history engine merges parts), `migration`
(between two statements of a migration; `seams.py migrate URL PACKAGE...`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec

FOLDER = Path(os.environ.get("ROCADE_SEAMS", "."))
ORDER, HIT = FOLDER / "order", FOLDER / "hit"


class Order(msgspec.Struct, frozen=True):
    """Kill `victim` ('self', 'postgres', or a pid as text) at the `after`-th pass of `place`."""

    number: int
    place: str
    after: int = 1
    victim: str = "self"
    postgres: str = ""
    """Data folder of the embedded server."""


_passed: dict[int, int] = {}


def pass_by(place: str) -> None:
    """Called at a place; kills if the order says so."""
    if not ORDER.exists():
        return
    try:
        order = msgspec.json.decode(ORDER.read_bytes(), type=Order)
    except (FileNotFoundError, msgspec.DecodeError):
        return
    if order.place != place:
        return
    _passed[order.number] = _passed.get(order.number, 0) + 1
    if _passed[order.number] < order.after:
        return
    try:
        ORDER.rename(HIT)
    except FileNotFoundError:
        return  # somebody else was first
    if order.victim == "postgres":
        kill_postgres(Path(order.postgres))
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(os.getpid() if order.victim == "self" else int(order.victim), signal.SIGKILL)


def kill_postgres(data: Path) -> None:
    """kill -9 of the server's main process and all its children, as when the machine loses them at once."""
    import psutil

    with contextlib.suppress(FileNotFoundError, psutil.Error, ValueError):
        server = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
        for process in (server, *server.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                process.kill()


def _replace(owner: Any, name: str, by: Any) -> None:
    setattr(owner, name, by)


def around_the_log() -> None:
    """Both places of an append, around the one call that makes it durable."""
    import asyncpg

    copy = asyncpg.Connection.copy_to_table

    async def slowly(data: Any) -> AsyncIterator[bytes]:
        yield bytes(data)
        pass_by("append-fsync")

    async def copy_here(self: Any, table: str, *, source: Any, **more: Any) -> Any:
        answer = await copy(self, table, source=slowly(source), **more)
        pass_by("fsync-puback")
        return answer

    _replace(asyncpg.Connection, "copy_to_table", copy_here)


def around_the_worker() -> None:
    """After the history insert: at the first, and before the last statement of the committing transaction, in turns."""
    from rocade.services.telemetry.ledger import Ledger

    finish, report = Ledger.finish, Ledger.report_unknown
    blocks = [0]

    async def finish_here(self: Ledger, *arguments: Any) -> None:
        blocks[0] += 1
        if blocks[0] % 2:
            pass_by("insert-commit")
        await finish(self, *arguments)

    async def report_here(self: Ledger, *arguments: Any) -> None:
        await report(self, *arguments)
        if not blocks[0] % 2:
            pass_by("insert-commit")

    _replace(Ledger, "finish", finish_here)
    _replace(Ledger, "report_unknown", report_here)


def around_the_store() -> None:
    """A thread of the store process that looks whether the engine is merging, every other millisecond."""
    from rocade.fabric.history import store
    from rocade.fabric.history.engine import Engine

    class Watched(Engine):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            threading.Thread(target=self._look, daemon=True).start()

        def _look(self) -> None:
            session = self.session()
            while True:
                time.sleep(0.002 if ORDER.exists() else 0.1)
                if (
                    ORDER.exists()
                    and bytes(session.run("SELECT count() FROM system.merges", "TabSeparated", {})) > b"0\n"
                ):
                    pass_by("merge")

    _replace(store, "Engine", Watched)


def migrate(url: str, packages: list[str]) -> None:
    """Run the migrations of these packages, passing by before each statement."""
    from sqlalchemy import event

    from rocade.fabric.database import migration

    upgrade = migration._upgrade

    def upgrade_here(connection: Any, script: Any) -> None:
        event.listen(connection, "before_cursor_execute", lambda *_: pass_by("migration"))
        upgrade(connection, script)

    _replace(migration, "_upgrade", upgrade_here)
    migration.migrate(url, packages)


TRACES = """
    SELECT (SELECT count(*) FROM information_schema.columns WHERE column_name = 'kill_{n}')
        + (SELECT count(*) FROM information_schema.tables WHERE table_name = 'kill_{n}')
        + (SELECT count(*) FROM pg_indexes WHERE indexname = 'kill_index_{n}')
        + (SELECT count(*) FROM alembic_version WHERE version_num = 'kill_{n:04}')"""
STEP = '''"""Made by benchmarks/kill.py: a migration of tables in use."""
from alembic import op

revision = "kill_{n:04}"
down_revision = {down!r}
branch_labels = {labels!r}
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE telemetry_sequence ADD COLUMN kill_{n} integer NOT NULL DEFAULT {n}")
    op.execute("UPDATE twin SET arrived_us = arrived_us")
    op.execute("CREATE TABLE kill_{n} AS SELECT * FROM log_cursor")
    op.execute("CREATE INDEX kill_index_{n} ON kill_{n} (partition)")
    op.execute("UPDATE telemetry_sequence SET kill_{n} = kill_{n} + 1")
    op.execute("ALTER TABLE kill_{n} ADD COLUMN kill_{n} integer")
'''


def write_step(folder: Path, number: int) -> None:
    """One more version of the package `kill_steps`."""
    home = folder / "kill_steps"
    (home / "migrations").mkdir(parents=True, exist_ok=True)
    (home / "__init__.py").touch()
    down = f"kill_{number - 1:04}" if number > 1 else None
    labels = ("kill",) if number == 1 else None
    (home / "migrations" / f"{number:04}_step.py").write_text(STEP.format(n=number, down=down, labels=labels))


def path_with(folder: Path) -> str:
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH", ""))))


SEAMS: dict[str, Callable[[], None]] = {
    "gateway": around_the_log,
    "worker": around_the_worker,
    "store": around_the_store,
    "api": lambda: None,
}


def main() -> None:
    if sys.argv[1] == "migrate":
        migrate(sys.argv[2], sys.argv[3:])
        return
    from rocade.app.cli import main as rocade

    SEAMS[sys.argv[sys.argv.index("--role") + 1]]()
    rocade()


if __name__ == "__main__":
    main()
