"""What keeps the embedded database alive survives whatever its restart meets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

from rocade.app.configuration import Configuration
from rocade.app.supervisor import Supervisor
from rocade.core.errors import Unavailable


async def test_a_restart_that_the_disk_refuses_is_tried_again(tmp_path: Path) -> None:
    class Postgres:
        def __init__(self) -> None:
            self.is_running = False
            self.refusals = [Unavailable("database.start", "not now"), OSError(5, "Input/output error")]

        def restart(self) -> None:
            if self.refusals:
                raise self.refusals.pop(0)
            self.is_running = True

    postgres = Postgres()
    supervisor = Supervisor(Configuration("eu", "rocade.test", str(tmp_path)))
    keeping = asyncio.create_task(supervisor._keep_database(cast(Any, postgres)))
    async with asyncio.timeout(30):
        while not postgres.is_running:
            assert not keeping.done(), keeping.exception()
            await asyncio.sleep(0.02)
    supervisor._is_ended.set()
    await keeping
    assert supervisor.database_restarts == 3
