"""Charging stations in the roles: the API process reads and orders, the charging process holds the door and the lines."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from rocade.app import wiring
from rocade.console.application import Module
from rocade.core.errors import Refused
from rocade.doors.ocpp import OcppDoor, Settings, open_to_stations
from rocade.services.charging.stations import Holding, StationIntake, Stations, Tags, api
from rocade.services.charging.stations.intake import Signer
from rocade.trust.authority import Authority, DenySet, Region
from rocade.trust.identity.directory import LiveIssuers
from rocade.trust.identity.tls import ServerIdentity

TAG_KEY = "stations.key"
"""The key of tags' digests, below the region's folder."""


def make_stations(parts: wiring.Common) -> Stations:
    tags = Tags(parts.configuration.root / TAG_KEY, parts.random)
    return Stations(parts.database, tags, parts.audit, parts.clock, parts.random)


def module(parts: wiring.Common) -> Module:
    """The API's part."""
    stations = make_stations(parts)
    return Module(api.HANDLERS, {"stations": stations}, stations.forget)


@dataclass
class StationDoor:
    """What the charging role has of stations. `door` None = no port is set: then there are only rows to read."""

    stations: Stations
    door: OcppDoor | None = None
    work: list[tuple[Coroutine[Any, Any, Any], str]] = field(default_factory=list)
    """To be spawned by the role."""

    def status(self) -> dict[str, Any]:
        return self.door.status() if self.door else {"stations": 0}


@contextlib.asynccontextmanager
async def open_door(parts: wiring.Common) -> AsyncIterator[StationDoor]:
    """Door -> intake -> tables; limits and orders for the stations whose lines are here."""
    settings, stations = parts.configuration.ocpp, make_stations(parts)
    if not settings.port and not settings.plain_port:
        yield StationDoor(stations)
        return
    process = os.environ.get("ROCADE_PROCESS", f"charging@{socket.gethostname()}")
    issuers, denied = LiveIssuers(parts.configuration.trust), await DenySet.open(parts.database, parts.clock)
    intake = StationIntake(parts.database, stations.tag_keys, parts.audit, parts.clock, process)
    door = OcppDoor(
        intake,
        parts.audit,
        parts.clock,
        Settings(
            tick_max_ms=settings.tick_ms,
            max_connections=settings.max_connections,
            messages_per_s=settings.messages_per_s,
        ),
        verify=wiring.verifier(issuers, parts.clock, ("station",), denied),
    )
    signer = certifier(parts) if (parts.configuration.trust / "issuers").is_dir() else None
    holding = Holding(
        parts.database, intake, door, stations, parts.clock, process, signer=signer, keep_days=settings.keep_days
    )
    await denied.watch(door.revoked)
    opened = StationDoor(stations, door, [(holding.run(), "stations")])
    door.start()
    shared = parts.configuration.charging.processes > 1
    if settings.port:
        server = ServerIdentity(parts.configuration.server, client="optional")
        open_to_stations(server.context)
        await door.start_tls(settings.host, settings.port, lambda: server.context, shared=shared)
        opened.work.append((server.keep(), "roll-stations"))
    if settings.plain_port:
        await door.start_plain(settings.plain_host, settings.plain_port, shared=shared)
    try:
        yield opened
    finally:
        await door.drain()
        await holding.close()
        await denied.close()


def certifier(parts: wiring.Common) -> Signer:
    """Signs what a station that has proven itself asks for: OCPP's own way to a certificate (A02 of OCPP 2.0.1)."""
    region = Region(parts.configuration.trust, parts.clock, parts.random)
    authority = Authority(region, parts.database, parts.audit, parts.clock, parts.random)

    async def sign(station: str, request: str) -> bytes:
        """Raises: Refused `stations.request`, `trust.*`."""
        try:
            der = (await asyncio.to_thread(x509.load_pem_x509_csr, request.encode())).public_bytes(Encoding.DER)
        except ValueError:
            raise Refused("stations.request", "the station's signing request cannot be read") from None
        actor = f"station:{station}"
        code = await authority.claim(region.identity("station", station), actor)
        return (await authority.enrol(code, der, actor)).chain_pem

    return sign
