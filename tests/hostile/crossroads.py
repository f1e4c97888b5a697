"""A whole region's API, wired as it runs, and everybody who could stand before it.

Real: the API role of `app.wiring` over PostgreSQL and a history store, its three listeners, mutual TLS, certificates, access
tokens, sessions, ownership, consents, invitations. Three vehicles: `owned` (Odile's; she granted `energy` to a driver, an
insurer, a workshop), `fleet` (nobody's) and `sold` (Félix's time, which ended: he sold it to Odile). Nothing is moved or
sent: this is about who may ask. Use as a context manager; `roles` by name, `routes` from the application itself.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import asyncpg
import httpx
import msgspec
import numpy as np
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from litestar import Litestar
from tests.hostile.lines import Line
from tests.ports import free_port
from tests.services.dealers.conftest import DEALERS, GROUPS, site

from rocade.app import configuration as settings
from rocade.app import initialise, serving, supervisor, wiring
from rocade.core import catalogue, data_classes
from rocade.core.errors import Refused
from rocade.core.identifiers import Identity
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import migrate
from rocade.fabric.history import connect
from rocade.services.consent import FOREVER_US
from rocade.services.dealers import Dealers, SiteTable
from rocade.services.telemetry import store
from rocade.services.telemetry.chunks import FLOAT, Chunks
from rocade.services.vehicles.twin import FLOAT as TWIN_FLOAT
from rocade.services.vehicles.twin import SLOT, Row, pack, upsert_many
from rocade.trust.authority.gate import Act
from rocade.trust.authority.machines.model import thumbprint
from rocade.trust.authority.people import store as people_store
from rocade.trust.authority.region import Region, create_region, issue_directory
from rocade.trust.authority.sealing import keyring_of
from rocade.trust.identity import tls

CLOCK, RANDOM = SystemClock(), SystemRandom()
ENERGY = data_classes.mask(["energy"])
START_S = 180


class Route(msgspec.Struct, frozen=True):
    method: str
    path: str
    act: Act | None
    is_page: bool


class Role(msgspec.Struct):
    """How one caller comes: as a machine with a certificate (and token), or as a person with a session's cookie."""

    name: str
    client: httpx.Client
    person: str = ""
    means: str = ""
    purpose: str = ""
    token: str = ""
    """Whose token this machine uses (its identity's URI); '' = its certificate alone."""
    line: Line | None = None
    """The same without what `client` costs."""


class Crossroads:
    def __init__(self, directory: Path, database_url: str, history_url: str) -> None:
        self._directory, self._history_url = directory, history_url
        est, api, pages = (free_port() for _ in range(3))
        template = settings.Configuration(
            "eu", "rocade.test",
            est=settings.Est(host="127.0.0.1", port=est),
            http=settings.Http(api_host="127.0.0.1", api_port=api, pages_port=pages),
        )  # fmt: skip
        initialise.create(directory / "region", "eu", "rocade.test", template=template)
        self.configuration = msgspec.structs.replace(
            settings.load(directory / "region"), database_url=database_url, history_url=history_url
        )
        self.pages, self.api = f"http://localhost:{pages}", f"https://localhost:{api}"
        self.roles: dict[str, Role] = {}
        self.vehicles: dict[str, int] = {}
        self.codes: dict[str, int] = {}
        self._victim = ""
        self._ready, self._over = threading.Event(), asyncio.Event()
        self._fault: BaseException | None = None

    def __enter__(self) -> Crossroads:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(START_S), "the region did not start"
        if self._fault:
            raise self._fault
        return self

    def __exit__(self, *_: object) -> None:
        for role in self.roles.values():
            role.client.close()
            if role.line:
                role.line.close()
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30)

    def call[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine where the region runs."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._fault = error
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        made: list[tuple[serving.Services, Litestar]] = []
        real = serving.create_app

        def remember(services: serving.Services) -> Litestar:
            made.append((services, app := real(services)))
            return app

        with mock.patch.object(serving, "create_app", remember):
            async with wiring.api(self.configuration):
                self.services, self.app = made[0]
                await self._furnish()
                self._ready.set()
                await self._over.wait()

    @cached_property
    def routes(self) -> list[Route]:
        """Every route of the application, but the framework's own OPTIONS."""
        return [
            Route(method, route.path, handler.opt.get("act"), not handler.include_in_schema)
            for route in self.app.routes
            for handler in route.route_handlers
            for method in sorted(handler.http_methods)
            if method != "OPTIONS"
        ]

    # --- who and what there is ----------------------------------------------------------------------------------------

    async def _furnish(self) -> None:
        services = self.services
        people, consents, clients = services.people, services.consents, services.clients
        assert people
        assert consents
        assert clients
        names: dict[str, tuple[str, tuple[str, ...]]] = {
            "owner": ("", ()), "other owner": ("", ()), "former owner": ("", ()), "driver": ("", ()),
            "ended driver": ("", ()), "dealer's employee": ("dealer:garage", ()), "support": ("", ("support",)),
            "security": ("", ("security",)), "release": ("", ("release",)),
            "dealer's manager": ("dealer:FR-1", ()), "dealer's seller": ("dealer:FR-1", ()),
        }  # fmt: skip
        self.persons = {
            name: (await people.add(f"Crossroads {name.title()}", duties, organisation)).id
            for name, (organisation, duties) in names.items()
        }
        await self._give_vehicles()
        await self._give_site()
        for kind, name, purposes in (("partner", "assur", ["insurance"]), ("dealer", "stranger", ["maintenance"])):
            await clients.put(Identity("rocade.test", "eu", kind, name), purposes, "test")
        await self._open_doors()
        while CLOCK.now_us() <= self._sold_us:  # a change of owner takes effect a moment after it is made
            await asyncio.sleep(0.05)

    site = "FR-1-1"

    async def _give_site(self) -> None:
        """A point of sale with a manager and a seller, and a provider that may run its agent."""
        given = {name: one for module in self.services.modules for name, one in module.dependencies.items()}
        dealers, table = given["dealers"], given["site_table"]
        assert isinstance(dealers, Dealers)
        assert isinstance(table, SiteTable)
        await dealers.put([site(self.site)], DEALERS, GROUPS)
        for name, role in (("manager", "manager"), ("seller", "sales")):
            await dealers.give_role(self.persons[f"dealer's {name}"], "dealer:FR-1", self.site, role)
        await dealers.add_provider("helios", "Helios")
        await dealers.delegate("helios", f"site:{self.site}", ["install", "renew", "restart", "health"])
        await table.refresh()

    async def _give_vehicles(self) -> None:
        consents, persons = self.services.consents, self.persons
        assert consents
        vins = {"owned": "VF1CRSSRDADS00001", "others": "VF1CRSSRDADS00002", "fleet": "VF1CRSSRDADS00003",
                "sold": "VF1CRSSRDADS00004"}  # fmt: skip
        for name, vin in vins.items():
            made = await self.services.registry.add(vin, "car", "peugeot", "e-208", "electric", "eu")
            self.vehicles[name] = int(made.ref)
            await self._say(int(made.ref))
        self.vins = vins
        await consents.own(self.vehicles["owned"], persons["owner"])
        await consents.own(self.vehicles["others"], persons["other owner"])
        await consents.own(self.vehicles["sold"], persons["former owner"])
        sold = await consents.claim(
            await consents.sell(self.vehicles["sold"], persons["former owner"]), persons["owner"]
        )
        self._sold_us = sold.at_us
        owned, owner = self.vehicles["owned"], persons["owner"]
        await consents.grant(owned, owner, "partner:assur", "insurance", ENERGY)
        await consents.grant(owned, owner, "dealer:garage", "maintenance", ENERGY)
        self.guests: dict[str, str] = {}
        for name in ("driver", "ended driver"):
            guest, code = await consents.invite(owned, owner, ENERGY, CLOCK.now_us() + 86_400_000_000)
            await consents.accept(code, persons[name])
            self.guests[name] = guest.id
        await consents.end(owned, owner, self.guests["ended driver"])
        self.others_grant = await consents.grant(
            self.vehicles["others"], persons["other owner"], "partner:assur", "insurance", ENERGY, until_us=FOREVER_US
        )

    async def _say(self, ref: int) -> None:
        """A vehicle's latest values and one minute of history, of two classes."""
        names, now_us = catalogue.standard(), CLOCK.now_us()
        said = {"Vehicle.Speed": 41.25, "Vehicle.CurrentLocation.Latitude": 48.5, "Vehicle.CurrentLocation.Longitude": 1.5,
                "Vehicle.Powertrain.TractionBattery.StateOfCharge.Displayed": 74.5}  # fmt: skip
        slots = np.zeros(len(said), SLOT)
        slots["signal"] = [int(names.by_name(one).id) for one in said]
        slots["value"] = np.array(list(said.values()), np.float64).view(np.int64)
        slots["time_us"] = slots["changed_us"] = now_us
        slots["form"] = TWIN_FLOAT
        slots.sort(order="signal")
        async with self.services.database.pool.acquire() as connection, connection.transaction():
            await upsert_many(
                connection, [Row(ref, now_us, 0, 48.5, 1.5, 41.25, pack(slots, ()))], keyring_of(self.services.database)
            )
        history = connect(self._history_url)
        await store.ensure(history)
        for name, value in said.items():
            await store.insert(history, _minute(ref, int(names.by_name(name).id), now_us, value), f"{ref}-{name}")
        await history.close()

    async def _open_doors(self) -> None:
        for name, person in self.persons.items():
            purpose = "maintenance" if name == "dealer's employee" else ""
            await self._person(name, person, "passkey", purpose)
        await self._person("owner by link", self.persons["owner"], "link")
        await self._person("security by link", self.persons["security"], "link")
        await self._person("dealer's manager by link", self.persons["dealer's manager"], "link")
        nobody = self._page_client()
        self.roles["nobody"] = Role("nobody", nobody, line=Line(nobody, None))
        authority = Region(self.configuration.trust, CLOCK, RANDOM)
        self._machine("command line", self.configuration.operator)
        for kind, name in (("partner", "assur"), ("dealer", "stranger"), ("service", "monitor"),
                           ("dealer", self.site), ("partner", "helios")):  # fmt: skip
            issue_directory(authority, self._directory / name, authority.identity(kind, name))
        self._machine("monitor", self._directory / "monitor")
        self._machine("point of sale", self._directory / self.site)
        self._machine("provider", self._directory / "helios")
        self._machine("partner, certificate alone", self._directory / "assur", purpose="insurance")
        await self._token("partner", "partner", "assur", "insurance")
        await self._token("dealer without consent", "dealer", "stranger", "maintenance")
        abroad = create_region(self._directory / "abroad", "cn", "rocade.test", CLOCK, RANDOM)
        issue_directory(abroad, self._directory / "foreigner", abroad.identity("partner", "assur"))

    async def _person(self, name: str, person: str, means: str, purpose: str = "") -> None:
        client = self._page_client()
        self.roles[name] = Role(name, client, person, means, purpose, line=Line(client, None))
        client.cookies.set("rocade_session", await self._secret(person, means))

    async def _secret(self, person: str, means: str) -> str:
        people = self.services.people
        assert people
        found = await people.by_id(person)
        async with people_store.transaction(self.services.database) as connection:
            return await people.sessions.open(connection, found, means)

    def find_vehicles(self) -> list[int]:
        """The references the vehicles have by now."""
        found = self.call(self.services.registry.resolve_many(self.vins.values()))
        return sorted(int(one.ref) for one in found.values())

    def new_victim(self) -> str:
        """Somebody to whom things may be done."""
        assert self.services.people
        return self.call(self.services.people.add("Crossroads Victim")).id

    def victim(self) -> str:
        """One to whom nothing was done yet."""
        self._victim = self._victim or self.new_victim()
        return self._victim

    def renew(self, role: Role) -> None:
        """Fresh sessions for a person whose last request may have ended all of his; for a machine a token that lives."""
        self._victim = ""
        if role.token:
            self.call(self._keep(role))
        for one in self.roles.values() if role.person else ():
            if one.person == role.person:
                one.client.cookies.set("rocade_session", self.call(self._secret(one.person, one.means)))

    def _page_client(self) -> httpx.Client:
        return httpx.Client(base_url=self.pages, headers={"origin": self.pages}, timeout=120, trust_env=False)

    def _machine(self, name: str, directory: Path, purpose: str = "") -> httpx.Client:
        verify: ssl.SSLContext = tls.client_context(directory)
        client = httpx.Client(base_url=self.api, verify=verify, timeout=120, trust_env=False)
        self.roles[name] = Role(name, client, purpose=purpose, line=Line(client, verify))
        return client

    async def _token(self, name: str, kind: str, id: str, purpose: str) -> None:
        identity = Identity("rocade.test", "eu", kind, id)
        self._machine(name, self._directory / id)
        self.roles[name].token, self.roles[name].purpose = identity.uri, purpose
        async with asyncio.timeout(START_S):
            while not await self._issue(self.roles[name]):  # clients are pushed to the tokens' table
                await asyncio.sleep(0.05)

    async def _issue(self, role: Role) -> bool:
        """Give a machine a token; whether it is good already."""
        tokens, identity = self.services.tokens, Identity.parse(role.token)
        assert tokens
        token = await tokens.issue(identity, self._thumbprint(identity), [role.purpose])
        role.client.headers["authorization"] = f"Bearer {token}"
        return self._is_good(role)

    async def _keep(self, role: Role) -> None:
        """A new token only for one that is over within a minute: they are counted."""
        if not self._is_good(role, 60_000_000):
            await self._issue(role)

    def _is_good(self, role: Role, for_us: int = 0) -> bool:
        tokens, token = self.services.tokens, role.client.headers["authorization"].removeprefix("Bearer ")
        assert tokens
        try:
            tokens.check(token, self._thumbprint(Identity.parse(role.token)), CLOCK.now_us() + for_us)
        except Refused:
            return False
        return True

    def _thumbprint(self, identity: Identity) -> str:
        chain = (self._directory / identity.id / "certificate.pem").read_bytes()
        return thumbprint(load_pem_x509_certificate(chain).public_bytes(Encoding.DER))

    def foreigner(self) -> httpx.Client:
        """A partner of another region, with that region's good certificate."""
        context = tls.client_context(self._directory / "foreigner")
        context.load_verify_locations(self.configuration.trust / "trust.pem")
        return httpx.Client(base_url=self.api, verify=context, timeout=120, trust_env=False)


def _minute(ref: int, signal: int, end_us: int, value: float) -> Chunks:
    one = np.ones(1, np.int64)
    return Chunks(
        vehicle=one.astype(np.uint64) * ref, signal=one.astype(np.uint32) * signal, arrived_us=one * end_us,
        start_us=one * (end_us - 60_000_000), step_us=one * 1_000_000, rows=one * 60, kind=np.array([FLOAT], np.uint8),
        exponent=np.zeros(1, np.int8), ints=np.zeros(0, np.int64), floats=np.full(60, value),
        doubt_at=np.zeros(0, np.int64), doubt_flags=np.zeros(0, np.uint8),
    )  # fmt: skip


def new_database(server_url: str, name: str = "crossroads") -> str:
    """URL of a database of its own, with the tables the supervisor makes."""

    async def make() -> None:
        connection = await asyncpg.connect(server_url)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, make()).result()
    url = server_url.replace("@/rocade?", f"@/{name}?")
    migrate(url, supervisor.MIGRATED)
    return url
