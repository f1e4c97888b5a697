"""What was erased is in no answer of the history, in every process, from the moment of the order on.

Rows of an erased vehicle stay in files until they are rewritten. Until then each client of the history carries a condition
that the engine applies to every question, whoever asks it. `hide_erased` before the first question, `follow_erased` as long
as there are any: a notification, and a look every second.
"""

from __future__ import annotations

from typing import Any

from rocade.fabric.database import Database
from rocade.fabric.database.following import follow
from rocade.fabric.history import History
from rocade.services.telemetry.store import hide
from rocade.trust.authority.erasure import store as erasures

POLL_S = 1.0


async def hide_erased(database: Database, history: History) -> None:
    """Hide what is erased now. Raises: what the database raises when it is down; nobody begins without knowing."""
    hide(history, await erasures.hidden(database.pool))


async def follow_erased(database: Database, history: History) -> None:
    """Keep it hidden, for ever."""

    async def read(connection: Any) -> None:
        hide(history, await erasures.hidden(connection))

    await follow(database, erasures.CHANNEL, read, poll_s=POLL_S)
