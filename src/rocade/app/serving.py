"""The API role's parts: HTTP application on two listeners, enrolment over EST, the server's own certificate renewal."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from rocade.app import explaining, tracing, wiring
from rocade.app.chaos import SupervisorChaos
from rocade.app.initialise import TOKENS
from rocade.console.application import Services, create_app
from rocade.core import catalogue
from rocade.doors.est import Door as EnrolmentDoor
from rocade.doors.http import Access, Listeners, TokenFile, loopback_sockets, tcp_socket
from rocade.fabric.history import connect
from rocade.fabric.log import Log
from rocade.fabric.status import StatusBoard
from rocade.services.telemetry import Ledger
from rocade.services.vehicles import Registry
from rocade.services.vehicles.twin import TwinStore
from rocade.trust.authority import Authority, DenySet, Region, renew_server
from rocade.trust.authority.book import AuditBook
from rocade.trust.authority.machines import Clients, Place, Tokens
from rocade.trust.authority.people import People, Site
from rocade.trust.identity.directory import LiveIssuers, load_root
from rocade.trust.identity.tls import ServerIdentity


@contextlib.asynccontextmanager
async def open_api(parts: wiring.Common, records: Log, denied: DenySet) -> AsyncIterator[wiring.Part]:
    """Open everything the API role serves; see `wiring.api`."""
    configuration = parts.configuration
    server = ServerIdentity(configuration.server)
    enrolment = ServerIdentity(configuration.server, client="optional")
    issuers = LiveIssuers(configuration.trust)
    region = Region(configuration.trust, parts.clock, parts.random)
    authority = Authority(region, parts.database, parts.audit, parts.clock, parts.random)
    history = connect(configuration.effective_history_url)
    registry = Registry(parts.database, parts.random, parts.clock)
    tokens = TokenFile(configuration.root / TOKENS)
    place = Place(configuration.trust_domain, configuration.region, configuration.issuer)
    machines = await Tokens.open(
        parts.database, configuration.trust / "tokens", place, parts.audit, parts.clock, parts.random
    )
    is_known = wiring.verifier(issuers, parts.clock, ("operator", "partner"), denied)
    access = Access(lambda leaf, _at_us: is_known(leaf), denied.is_revoked, tokens, parts.audit, parts.clock)

    async def database_answers() -> bool:
        return bool(await parts.database.pool.fetchval("SELECT 1"))

    async def history_answers() -> bool:
        return bool((await history.query("SELECT 1")).num_rows)

    book = AuditBook(parts.database, configuration.trust / "audit", load_root(configuration.trust / "trust.pem"))
    app = create_app(
        Services(
            access=access,
            audit=parts.audit,
            clock=parts.clock,
            random=parts.random,
            catalogue=catalogue.standard(),
            registry=registry,
            authority=authority,
            twins=TwinStore(parts.database),
            status=StatusBoard(parts.database, parts.clock),
            book=book,
            ready={"database": database_answers, "history": history_answers},
            people=People(
                parts.database,
                parts.audit,
                parts.clock,
                parts.random,
                Site.at(configuration.site),
                configuration.region,
            ),
            ledger=Ledger(parts.database),
            tokens=machines,
            clients=Clients(parts.database, parts.audit, parts.clock),
            log=records,
            database=parts.database,
            history=history,
            town=town_geojson(),
            pmtiles=Path(configuration.http.pmtiles) if configuration.http.pmtiles else None,
            chaos=SupervisorChaos(configuration) if SupervisorChaos.is_allowed(configuration) else None,
            why=explaining.explainers(
                database=parts.database, history=history, catalogue=catalogue.standard(), book=book, clock=parts.clock
            ),
        )
    )
    if tracing.wanted():
        app.state.traffic = tracing.TracedTraffic(tracing.open_spans("api"))
    settings = configuration.http
    listeners = Listeners(
        app,
        parts.random,
        api=[tcp_socket(settings.api_host, settings.api_port)],
        tls=server.context,
        pages=loopback_sockets(settings.pages_port),
    )
    door = EnrolmentDoor(enrolment, authority, denied, parts.audit, parts.clock)
    await door.start(configuration.est.host, configuration.est.port)

    part = wiring.Part(parts.database, parts.clock, lambda: {"enrolment_port": configuration.est.port})
    serving = part.spawn(listeners.serve(), "http")
    part.spawn(server.keep(lambda: renew_server(region, configuration.server, parts.clock)), "roll")
    part.spawn(enrolment.keep(), "roll-enrolment")
    await listeners.started()
    try:
        yield part
    finally:
        listeners.stop()
        await door.close()
        with contextlib.suppress(Exception):
            await serving
        await part.end()
        await machines.close()
        await history.close()


def town_geojson() -> bytes:
    """The demo town as GeoJSON, drawn under the fleet."""
    from rocade.agents.vehicle.simulation import build

    return msgspec.json.encode(build().geojson())
