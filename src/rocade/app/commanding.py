"""Commands in the roles that give them: API and charging. Who carries and proves them stands in `app.carrying`.

The key that signs commands is in `DIR/commands`, read by the processes that give them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from rocade.app import wiring
from rocade.console.application import Module
from rocade.core import catalogue
from rocade.core.why import Explainer
from rocade.services.vehicles import Registry
from rocade.services.vehicles.commands import (
    Capabilities,
    Commands,
    add_signer,
    api,
    erase,
    keep_time,
)
from rocade.services.vehicles.commands.explaining import Explained
from rocade.trust.authority import Authority, Region
from rocade.trust.authority.signing import ServiceSigner
from rocade.wire.commands import SERVICE

HURRY_EVERY_S = 0.05


async def open_signer(parts: wiring.Common) -> ServiceSigner:
    """The key that signs commands; made here where the region's issuing keys are."""
    trust, authority = parts.configuration.trust, None
    if (trust / "issuers").is_dir():
        region = Region(trust, parts.clock, parts.random)
        authority = Authority(region, parts.database, parts.audit, parts.clock, parts.random)

    async def publish(key_id: bytes, chain: bytes, not_after_us: int) -> None:
        await add_signer(parts.database.pool, key_id, chain, not_after_us)

    return await ServiceSigner.open(parts.configuration.root / SERVICE, SERVICE, publish, parts.clock, authority)


@dataclass
class Commanding:
    """What a process has that gives commands: its key is renewed and deadlines are looked after until `close`."""

    commands: Commands
    modules: Sequence[Module]
    explainers: Mapping[str, Explainer]
    _tasks: Sequence[asyncio.Task[None]]

    @classmethod
    async def open(cls, parts: wiring.Common, registry: Registry | None = None) -> Self:
        signer = await open_signer(parts)
        registry = registry or Registry(parts.database, parts.random, parts.clock)
        capabilities = Capabilities(catalogue.standard())
        commands = Commands(parts.database, registry, signer, capabilities, parts.audit, parts.clock, parts.random)
        return cls(
            commands,
            [Module(api.HANDLERS, {"commands": commands}, erase)],
            {"command": Explained(commands)},
            [
                asyncio.create_task(signer.keep(), name="commands-signer"),
                asyncio.create_task(keep_time(parts.database, parts.clock), name="commands-time"),
                asyncio.create_task(commands.keep_signed(), name="commands-signed"),
            ],
        )

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.commands.close()


@contextlib.asynccontextmanager
async def open_commands(parts: wiring.Common, registry: Registry | None = None) -> AsyncIterator[Commands]:
    """Commands for a process that gives them without an API of its own."""
    opened = await Commanding.open(parts, registry)
    try:
        yield opened.commands
    finally:
        await opened.close()
