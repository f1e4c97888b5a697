"""The sandbox's hub: the real doors, services and database in one process, filled with three points of sale and one price list.

    rue-haute    primary, FR, brands lune and mars: yours to play
    rue-basse    secondary of rue-haute
    porto-velho  PT, brand mars only: what it may not see is as instructive as what it may

Messages for the service `orders` go to the pretend DMS: it accepts what it can read, refuses a body that holds the word
`refuse`, and takes its time over one that holds `later`. The price list `lune-fr` has three releases: one in the past, one
correction, one that withdraws a part.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from rocade.app import configuration as settings
from rocade.app import initialise, wiring
from rocade.app.exchanging import open_recorder, open_signer
from rocade.app.pricing import price_lists
from rocade.app.sandbox.conformance import Report, as_text, judge
from rocade.app.sandbox.watching import Book, Watched, WatchedAudit, WatchedNews
from rocade.app.supervisor import MIGRATED
from rocade.app.trading import Trading
from rocade.core.data_classes import ALL
from rocade.core.identifiers import Identity
from rocade.doors.http import Access, AnyRequest, Listeners, build, caller_of, does, tcp_socket
from rocade.fabric.database import EmbeddedPostgres, migrate
from rocade.services.dealers import FOREVER_US, BrandAt, Dealer, Dealers, Site, SiteTable
from rocade.services.exchange import Exchange, Router, Rule
from rocade.services.exchange.reading import Answered, Inbound, LocalService
from rocade.trust.authority import Authority, DenySet, Region
from rocade.trust.authority.gate import Gate, Principal, Right, acts
from rocade.trust.identity.directory import LiveIssuers
from rocade.trust.identity.tls import ServerIdentity

BRANDS, LIST = ("lune", "mars"), "lune-fr"
DAY_US = 86_400_000_000
LATER_S = 5.0
RELEASES = (
    (
        -90,
        "ref;price;label;family\nL-100;12.50;Oil filter;filters\nL-200;3.20;Belt;belts\nL-300;1249.00;Gearbox;drive\n",
    ),
    (
        -30,
        "ref;price;label;family\nL-100;13.10;Oil filter;filters\nL-200;3.20;Belt;belts\nL-300;1249.00;Gearbox;drive\n",
    ),
    (-1, "ref;price;label;family\nL-100;13.10;Oil filter;filters\nL-200;3.35;Belt;belts\nL-400;8.00;Plug;ignition\n"),
)
"""(days from now, the file)."""


@get("/v1/sandbox/report", opt=does(acts.FOLLOW_EXCHANGE), include_in_schema=False)
async def show_report(request: AnyRequest, book: NamedDependency[SkipValidation[Book]]) -> Response[Report]:
    """How the caller is doing, for his own continuous integration."""
    return Response(judge(book.of(caller_of(request).id)))


class _Nobodys:
    """Rights to vehicles in a hub that has none."""

    def right(self, principal: Principal, ref: int, purpose: str, at_us: int) -> Right:  # noqa: ARG002 - a protocol's
        return Right("none", ALL)

    def mask(self, ref: int, recipient: str, purpose: str, at_us: int) -> int:  # noqa: ARG002 - a protocol's
        return 0

    def refs(self, principal: Principal, purpose: str, at_us: int) -> list[int]:  # noqa: ARG002 - a protocol's
        return []

    def hidden(self, recipient: str, purpose: str, classes: int, at_us: int) -> list[int]:  # noqa: ARG002 - a protocol's
        return []


@dataclass
class Sandbox:
    """A running sandbox."""

    directory: Path
    address: str
    book: Book

    @property
    def identities(self) -> dict[str, Path]:
        return {
            name: self.directory / "identities" / name for name in ("rue-haute", "rue-basse", "porto-velho", "your-dms")
        }

    def reports(self) -> list[Report]:
        return [judge(seen) for seen in self.book.all()]

    def text(self) -> str:
        return as_text(self.reports())


@contextlib.asynccontextmanager
async def opened(directory: Path, port: int = 0, sftp_port: int = 0) -> AsyncIterator[Sandbox]:
    """Make it in `directory` at the first time, run it, drain it on leaving. `sftp_port` 0 = no SFTP."""
    socket = tcp_socket("127.0.0.1", port)
    bound = socket.getsockname()[1]
    place = directory / "hub"
    is_new = not (place / "rocade.toml").exists()
    if is_new:
        template = settings.Configuration(
            "sandbox", "sandbox.rocade", http=settings.Http(api_host="127.0.0.1", api_port=bound)
        )
        await asyncio.to_thread(directory.mkdir, 0o700, parents=True, exist_ok=True)
        initialise.create(place, "sandbox", "sandbox.rocade", template=template)
    postgres = EmbeddedPostgres(place / "database")
    url = await asyncio.to_thread(postgres.start)
    try:
        await asyncio.to_thread(migrate, url, MIGRATED)
        configuration = msgspec.structs.replace(
            settings.load(place), database_url=url, http=settings.Http(api_host="127.0.0.1", api_port=bound),
            sftp=settings.Sftp("127.0.0.1", sftp_port),
        )  # fmt: skip
        async with wiring.common(configuration, 8) as parts:
            book = Book()
            parts.audit = WatchedAudit(parts.audit, book)  # type: ignore[assignment]  # an audit, and eyes
            if is_new:
                await _fill(parts, directory)
            async with _served(parts, socket, book):
                yield Sandbox(directory, f"https://localhost:{bound}", book)
    finally:
        await asyncio.to_thread(postgres.stop)


async def _fill(parts: wiring.Common, directory: Path) -> None:
    """Points of sale, identities, prices, the route to the pretend DMS."""
    now_us = parts.clock.now_us()
    region = Region(parts.configuration.trust, parts.clock, parts.random)
    authority = Authority(region, parts.database, parts.audit, parts.clock, parts.random)
    names = [("dealer", "rue-haute"), ("dealer", "rue-basse"), ("dealer", "porto-velho"), ("partner", "your-dms")]
    credentials = await authority.provision([region.identity(*one) for one in names], "sandbox")
    for (_, name), credential in zip(names, credentials, strict=True):
        credential.write(directory / "identities" / name)

    def site(id: str, dealer: str, country: str, primary: str, brands: Sequence[str]) -> Site:
        zone, begin_us = (
            ("Europe/Paris", now_us - 400 * DAY_US) if country == "FR" else ("Europe/Lisbon", now_us - DAY_US)
        )
        held = tuple(BrandAt(one, sells=True, services=True, from_us=begin_us) for one in brands)
        return Site(
            id,
            dealer,
            "",
            f"Garage {id}",
            country,
            primary,
            "",
            "",
            None,
            None,
            zone,
            "",
            "",
            begin_us,
            FOREVER_US,
            held,
        )

    dealers = Dealers(parts.database, parts.audit, parts.clock, parts.random)
    await dealers.put(
        [
            site("rue-haute", "rue", "FR", "", BRANDS),
            site("rue-basse", "rue", "FR", "rue-haute", BRANDS),
            site("porto-velho", "porto", "PT", "", BRANDS[1:]),
        ],
        [Dealer("rue", "Garages de la rue", "", "FR"), Dealer("porto", "Porto velho", "", "PT")],
        actor="sandbox",
    )
    table = await SiteTable.open(parts.database, parts.clock)
    try:
        await _publish(parts, table, directory, now_us)
        router = Router(parts.database, table, parts.audit, parts.clock)
        current = await router.current()
        await router.publish((Rule(to="local/dms", service="orders"), Rule(to="site")), current.version, "", "sandbox")
    finally:
        await table.close()


async def _publish(parts: wiring.Common, table: SiteTable, directory: Path, now_us: int) -> None:
    lists = price_lists(parts, table)
    assert lists is not None, "a new region has its list-signing key"
    await lists.add(LIST, "lune", "FR", "EUR", "retail", "sandbox")
    for days, content in RELEASES:
        file = directory / "prices.csv"
        file.write_text(content)
        draft = await lists.draft(LIST, file, now_us + days * DAY_US, "sandbox")
        await lists.release(LIST, draft.id, "sandbox", draft.report.needs)
        file.unlink()


@contextlib.asynccontextmanager
async def _served(parts: wiring.Common, socket: object, book: Book) -> AsyncIterator[None]:
    """The doors, and the pretend DMS behind them."""
    configuration, clock = parts.configuration, parts.clock
    issuers, denied = LiveIssuers(configuration.trust), await DenySet.open(parts.database, clock)
    table = await SiteTable.open(parts.database, clock)
    trading = await Trading.open(
        parts,
        table,
        issuers,
        denied,
        lambda desk: Watched(desk, book, clock),
        lambda database, sources: WatchedNews(database, sources, book),
    )
    is_known = wiring.verifier(issuers, clock, ("operator", "partner", "dealer"), denied)
    gate = Gate(configuration.region, _Nobodys(), sites=table)
    access = Access(lambda leaf, _at_us: is_known(leaf), denied.is_revoked, gate, parts.audit, clock)
    given: dict[str, object] = {"audit": parts.audit, "clock": clock, "book": book}
    handlers = [show_report, *(handler for module in trading.modules for handler in module.handlers)]
    for module in trading.modules:
        given |= module.dependencies
    app = build(handlers, given, access, version="sandbox")
    server = ServerIdentity(configuration.server)
    listeners = Listeners(app, parts.random, api=[socket], tls=server.context)  # type: ignore[list-item]  # bound above
    signer = await open_signer(parts)
    exchange = Exchange(parts.database, open_recorder(parts, signer), signer, trading.routes, clock)
    prefix = f"spiffe://{configuration.trust_domain}/{configuration.region}/"
    dms = LocalService("dms", lambda inbound: _decide(inbound, book, prefix), exchange.judge)
    tasks = [
        asyncio.create_task(one) for one in (listeners.serve(), trading.run(), dms.run(parts.database), server.keep())
    ]
    await listeners.started()
    try:
        yield
    finally:
        listeners.stop()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(tasks[0], 10)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await exchange.close()
        await trading.close()
        await table.close()
        await denied.close()


async def _decide(inbound: Sequence[Inbound], book: Book, prefix: str) -> list[Answered | None]:
    """The pretend DMS."""
    found: list[Answered | None] = []
    for one in inbound:
        if b"later" in one.message.body:
            await asyncio.sleep(LATER_S)
        is_refused = b"refuse" in one.message.body
        answer = Answered("refused", "dms.stock", "none in stock until spring") if is_refused else Answered("accepted")
        book.of(Identity.parse(prefix + one.party).uri).decided[one.message.id] = answer.outcome
        found.append(answer)
    return found
