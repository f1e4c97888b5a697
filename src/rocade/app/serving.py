"""The API role's parts: HTTP application on two listeners, enrolment over EST, the server's own certificate renewal."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from rocade.app import charging, charging_pages, crossing, explaining, proving, stations, tracing, wiring
from rocade.app.batteries import batteries_of
from rocade.app.batteries import modules as battery_modules
from rocade.app.chaos import SupervisorChaos
from rocade.app.commanding import Commanding
from rocade.app.configuration import Configuration
from rocade.app.dealing import Dealing
from rocade.app.erasing import region_erasing
from rocade.app.sharing import Shared
from rocade.app.taking import whole_of
from rocade.app.tracing_requests import TracedTraffic
from rocade.app.trading import Trading
from rocade.console.application import Services, create_app, forgetting
from rocade.console.my import Mine
from rocade.core import catalogue
from rocade.core.errors import Misconfigured
from rocade.doors.est import Door as EnrolmentDoor
from rocade.doors.http import Access, Listeners, loopback_sockets, tcp_socket
from rocade.doors.http import openid as openid_door
from rocade.fabric.history import connect
from rocade.fabric.log import Log
from rocade.fabric.status import StatusBoard
from rocade.services.battery.explaining import Answers as BatteryAnswers
from rocade.services.consent import PURPOSES, ConsentTable, Looks
from rocade.services.telemetry import Ledger, follow_erased, hide_erased
from rocade.services.vehicles import Registry
from rocade.services.vehicles.twin import TwinStore
from rocade.trust.authority import Authority, DenySet, Region, renew_server
from rocade.trust.authority.book import AuditBook
from rocade.trust.authority.gate import Gate
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
    is_known = wiring.verifier(issuers, parts.clock, ("operator", "partner", "dealer", "service"), denied)
    site = Site.at(configuration.site)
    people = People(parts.database, parts.audit, parts.clock, parts.random, site, configuration.region)
    place = Place(configuration.trust_domain, configuration.region, configuration.issuer)
    machines = await Tokens.open(
        parts.database, configuration.trust / "tokens", place, parts.audit, parts.clock, parts.random
    )
    rights = await ConsentTable.open(parts.database, parts.clock)
    looks = Looks(parts.database, parts.audit, parts.clock)
    ledger, twins = Ledger(parts.database), TwinStore(parts.database)
    erasing = region_erasing(parts, history, records)
    consents, eraser = erasing.consents, erasing.eraser
    await hide_erased(parts.database, history)
    feeds = await Shared.open(parts, consents, rights, looks)
    gate = Gate(configuration.region, rights)
    access = Access(
        lambda leaf, _at_us: is_known(leaf),
        denied.is_revoked,
        gate,
        parts.audit,
        parts.clock,
        sessions=people,
        tokens=machines,
        looks=looks,
    )

    async def database_answers() -> bool:
        return bool(await parts.database.pool.fetchval("SELECT 1"))

    async def history_answers() -> bool:
        return bool((await history.query("SELECT 1")).num_rows)

    async def erase(ref: int, actor: str) -> str:
        return (await eraser.erase(ref, actor, is_physical=True)).id

    clients = Clients(parts.database, parts.audit, parts.clock, PURPOSES)
    streets = Path(configuration.http.pmtiles) if configuration.http.pmtiles else None
    mine = Mine(
        consents=consents,
        table=rights,
        looks=looks,
        people=people,
        clients=clients,
        registry=registry,
        twins=twins,
        history=history,
        ledger=ledger,
        database=parts.database,
        catalogue=catalogue.standard(),
        audit=parts.audit,
        clock=parts.clock,
        erase=erase,
        has_town=True,
        has_streets=streets is not None,
    )
    dealing = await Dealing.open(parts, machines.sign_id, site.origin)
    gate.sites = dealing.table
    trading = await Trading.open(parts, dealing.table, issuers, denied)
    book = AuditBook(parts.database, configuration.trust / "audit", load_root(configuration.trust / "trust.pem"))
    batteries = batteries_of(parts, history)
    commanding = await Commanding.open(parts, registry)
    charge_control = charging.charge_control_of(parts, commanding.commands, history)
    modules = [
        *commanding.modules,
        *dealing.modules,
        *trading.modules,
        proving.module(parts),
        *battery_modules(charge_control, batteries),
        stations.module(parts),
        charging.module(charge_control),
        feeds.module(history),
        feeds.pages(mine, whole_of(mine, feeds.sharing, charge_control, batteries, commanding.commands)),
        await crossing.module(parts, history, registry, ledger, rights, issuers, authority),
        charging_pages.module(parts, mine, charge_control, commanding.commands, batteries),
    ]
    erasing.handover.forgetting = forgetting(modules)
    app = create_app(
        Services(
            access=access,
            audit=parts.audit,
            clock=parts.clock,
            random=parts.random,
            catalogue=catalogue.standard(),
            registry=registry,
            authority=authority,
            twins=twins,
            status=StatusBoard(parts.database, parts.clock),
            book=book,
            ready={"database": database_answers, "history": history_answers},
            people=people,
            openid=_openid(configuration, site),
            ledger=ledger,
            consents=consents,
            eraser=eraser,
            rights=rights,
            looks=looks,
            tokens=machines,
            clients=clients,
            mine=mine,
            log=records,
            database=parts.database,
            history=history,
            town=town_geojson(),
            pmtiles=streets,
            chaos=SupervisorChaos(configuration) if SupervisorChaos.is_allowed(configuration) else None,
            why=explaining.explainers(
                database=parts.database,
                history=history,
                catalogue=catalogue.standard(),
                book=book,
                clock=parts.clock,
                gate=gate,
                consents=consents,
                looks=looks,
                registry=registry,
                more={
                    **dealing.explainers,
                    **commanding.explainers,
                    **charging.explainers(charge_control),
                    "battery": BatteryAnswers(batteries),
                },
            ),
            modules=modules,
        )
    )
    if tracing.wanted():
        app.state.traffic = TracedTraffic(tracing.open_spans("api"))
    settings = configuration.http
    shared = settings.processes > 1
    listeners = Listeners(
        app,
        parts.random,
        api=[tcp_socket(settings.api_host, settings.api_port, shared=shared)],
        tls=server.context,
        pages=loopback_sockets(settings.pages_port, shared=shared),
        public=[tcp_socket(settings.api_host, settings.public_port, shared=shared)] if settings.public_port else [],
        public_tls=_public_tls(configuration) if settings.public_port else None,
        public_host=site.host if settings.public_url else "",
    )
    door = EnrolmentDoor(enrolment, authority, denied, parts.audit, parts.clock)
    await door.start(configuration.est.host, configuration.est.port, shared=shared)

    part = wiring.Part(parts.database, parts.clock, lambda: {"enrolment_port": configuration.est.port})
    serving = part.spawn(listeners.serve(), "http")
    part.spawn(server.keep(lambda: renew_server(region, configuration.server, parts.clock)), "roll")
    part.spawn(enrolment.keep(), "roll-enrolment")
    part.spawn(trading.run(), "trading")
    part.spawn(eraser.run(), "erasing")
    part.spawn(follow_erased(parts.database, history), "hidden")
    for work, name in feeds.work():
        part.spawn(work, name)
    await listeners.started()
    try:
        yield part
    finally:
        listeners.stop()
        await door.close()
        with contextlib.suppress(Exception):
            await serving
        await part.end()
        await trading.close()
        await commanding.close()
        await dealing.close()
        await machines.close()
        await feeds.close()
        await looks.close()
        await rights.close()
        await history.close()


def _openid(configuration: Configuration, site: Site) -> openid_door.Provider | None:
    """The external provider people may sign in with, where one is configured.

    Raises: Misconfigured `people.openid.address`, `app.openid.secret`.
    """
    wanted = configuration.openid
    if not wanted.issuer:
        return None
    try:
        secret = (configuration.root / wanted.secret_file).read_text().strip() if wanted.secret_file else ""
    except OSError as error:
        raise Misconfigured("app.openid.secret", f"openid.secret_file cannot be read: {error.strerror}") from error
    settings = openid_door.Settings(wanted.issuer, wanted.client_id, secret, wanted.name)
    return openid_door.Provider(settings, site.origin)


def _public_tls(configuration: Configuration) -> ssl.SSLContext:
    """TLS of the console's public address, with a certificate browsers know; nobody is asked for one here.

    Raises: Misconfigured `http.tls.public`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    settings = configuration.http
    try:
        context.load_cert_chain(
            configuration.root / settings.public_certificate, configuration.root / settings.public_key
        )
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(
            "http.tls.public", f"http.public_certificate and http.public_key cannot be read: {error}"
        ) from error
    return context


def town_geojson() -> bytes:
    """The demo town as GeoJSON, drawn under the fleet."""
    from rocade.agents.vehicle.simulation import build

    return msgspec.json.encode(build().geojson())
