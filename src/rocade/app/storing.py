"""The `store` role: the history engine, with the key of its encrypted disk from the keyring.

Flow: a thread opens database and keyring and fetches the region's HISTORY key -> the engine serves in the main thread, as it
must -> the thread watches the lease of custody. When that ends, or custody refuses, this process ends: what is in an engine's
memory cannot be forgotten otherwise. The supervisor starts it again, and it waits until custody answers.
Refuses: a region without database (`app.database.unset`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from rocade.app.configuration import Configuration
from rocade.app.custodies import open_keyring
from rocade.core.errors import Misconfigured, Unavailable
from rocade.core.ports import SystemClock
from rocade.fabric.database import Database
from rocade.trust.authority.sealing import REGION, Group, Keyring

NO_KEY = 69
"""Exit status when the lease of custody has ended (EX_UNAVAILABLE)."""
CHECK_S = 1.0
_HISTORY = (REGION, int(Group.HISTORY))
_log = logging.getLogger("rocade.app")


def run_store(configuration: Configuration, on_ready: Callable[[], object]) -> None:
    """Serve the history until told to stop; in the main thread."""
    from rocade.fabric.history.store import serve

    key = _awaited_key(configuration, on_ready)
    configuration.socket_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    serve(configuration.root / "history", configuration.socket_directory / "store.sock", key, on_ready)


def _awaited_key(configuration: Configuration, on_ready: Callable[[], object]) -> bytes:
    """The key, as soon as there is one; the region starts meanwhile, and who asks for the history is told that it is away."""
    while True:
        try:
            return leased_key(configuration, _end)
        except Unavailable as error:
            _log.warning("the history waits for its key: %s", error.code)
            on_ready()
            time.sleep(CHECK_S)


def leased_key(configuration: Configuration, on_end: Callable[[], object]) -> bytes:
    """The history's key; `on_end` is called, in a thread, when custody has not confirmed it for the length of its lease.

    Raises: Misconfigured `app.database.unset`; Unavailable `database.down`, `custody.down`, `custody.refused`.
    """
    if not configuration.database_url:
        raise Misconfigured("app.database.unset", "set ROCADE_DATABASE_URL, or run `rocade serve` without --role")
    found: Future[bytes] = Future()

    async def hold() -> None:
        database = await Database.connect(configuration.database_url, max_connections=1)
        async with open_keyring(configuration, database, SystemClock()) as keyring:
            found.set_result((await keyring.ensure([_HISTORY]))[_HISTORY])
            await _lease_end(keyring)

    def work() -> None:
        try:
            asyncio.run(hold())
        except Exception as error:
            if not found.done():
                found.set_exception(error)
                return
            _log.exception("the lease of the history's key could not be followed")
        on_end()

    threading.Thread(target=work, daemon=True, name="history-lease").start()
    return found.result()


async def _lease_end(keyring: Keyring) -> None:
    while True:
        await asyncio.sleep(CHECK_S)
        if keyring.custody_left_s <= 0:  # a database that is away is no reason: this key cannot be destroyed meanwhile
            return


def _end() -> None:
    _log.critical("key custody does not confirm the history's key any more; the history closes until it does")
    os._exit(NO_KEY)
