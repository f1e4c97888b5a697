"""Drop folders at the point of sale: messages that an old program writes as files go into the outbox, signed by the agent.

The rules are those of `doors.sftp.folder`: whole files once, an answer beside each. A row's `id` makes a file that is given
twice harmless; rows without sequence stand in the stream of their folder, in the order of the file.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from rocade.agents.dealer.outbox import Draft, Sent
from rocade.agents.dealer.settings import Folder
from rocade.core.errors import Refused
from rocade.core.ports import Clock
from rocade.doors.sftp import Accepted, DropFolder, Given
from rocade.wire.exchange import Address

LOOK_S = 1.0
_log = logging.getLogger(__name__)

type Send = Callable[[str, Draft], Awaitable[Sent]]


async def watch(place: Path, folder: Folder, send: Send, clock: Clock) -> None:
    """Take what is dropped, for ever. XML is read where lxml is installed."""

    async def accept(given: Given) -> Sequence[Accepted]:
        taken: list[Accepted] = []
        for row in given.rows:
            address = Address(row.brand, row.country, row.service, row.site)
            draft = Draft(
                recipient=address, content_class=row.content_class, content_type=row.content_type, body=row.body,
                stream=row.stream, id=row.id, answers=row.answers,
            )  # fmt: skip
            try:
                taken.append(Accepted((await send(folder.hub, draft)).id))
            except Refused as refusal:
                taken.append(Accepted(code=refusal.code, message=refusal.message))
        return taken

    directory = place / folder.directory
    watched = DropFolder(directory, accept, clock, encoding=folder.encoding, resources=("message",))
    while True:
        try:
            await watched.look()
        except OSError as error:  # the folder may lie on a share that comes and goes
            _log.warning("a drop folder cannot be read now: %s", error.strerror)
        await asyncio.sleep(LOOK_S)
