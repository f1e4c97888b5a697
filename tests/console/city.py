"""The household in its city: operators with their duties, a fleet in every state, papers, quarantine, an audit log.

Everything on real engines: a real region signs the certificates, the audit log is the real one.
"""

from __future__ import annotations

from dataclasses import replace

import asyncpg
import numpy as np
import pytest
import toytown
from cryptography import x509
from household import Household
from keyed import named
from playwright.sync_api import Page

from rocade.console import Services
from rocade.console.application import Module
from rocade.console.operator import crossing as crossing_pages
from rocade.console.pages import router
from rocade.console.sharing import ShareDesk
from rocade.console.sharing import module as sharing_pages
from rocade.core import catalogue
from rocade.core.data_classes import mask
from rocade.core.errors import Refused
from rocade.core.identifiers import Identity
from rocade.core.ports import AuditEntry
from rocade.core.signals import Quality
from rocade.services.crossing import SIGNER, Crossing
from rocade.services.crossing.topics import Sources
from rocade.services.sharing import Sharing
from rocade.services.sharing.whole import Rows, Whole
from rocade.services.telemetry import Ledger
from rocade.services.telemetry.model import BAD_BATCH, Held
from rocade.services.vehicles.twin import FLOAT, SLOT, Row, pack, upsert_many
from rocade.trust.authority import AuditLog, Authority, Region, create_region
from rocade.trust.authority import store as authority_store
from rocade.trust.authority.book import AuditBook
from rocade.trust.authority.sealing import keyring_of
from rocade.trust.authority.signing import ServiceSigner
from rocade.trust.identity.directory import LiveIssuers


async def _nobody(*_: object) -> None:
    """Whom a signer tells of its key."""


MINUTE_US, DAY_US = 60_000_000, 86_400_000_000
FLEET = (("renault", "Twizy"), ("peugeot", "e-208"), ("citroen", "ë-C4"), ("hyundai", "Kona"), ("opel", "Corsa"))
STATES = ("moving", "standing", "silent", "doubtful", "never")


class City(Household):
    """`cars["fleet-0"]` ... are the fleet's own; Ada holds all duties, Ben support alone."""

    fleet = 60

    def _services(self) -> Services:
        built = super()._services()
        return replace(
            built, consents=self.consents, looks=self.looks, authority=self.authority, book=self.book, desk=None,
            modules=[Module([router(crossing_pages.HANDLERS)], {"crossing": self.crossing}), self._sharing_pages(built)],
        )  # fmt: skip

    def _sharing_pages(self, built: Services) -> Module:
        assert built.mine

        async def rows(_ref: int, *_classes: object) -> Rows:
            return [{"id": "1"}]

        whole = Whole(self.history, catalogue.standard(), self.clock, {"trips": rows}, {"permissions": rows})
        return sharing_pages(ShareDesk(sharing=self.sharing, mine=built.mine, whole=whole, has_webhooks=True))

    async def _furnish(self) -> None:
        await super()._furnish()
        directory = self._directory / "trust"
        create_region(directory, "eu", "rocade.test", self.clock, self.random)
        self.log = AuditLog(self.database, directory / "audit", self.clock)
        self.authority = Authority(
            Region(directory, self.clock, self.random), self.database, self.log, self.clock, self.random
        )
        root = x509.load_pem_x509_certificate((directory / "trust.pem").read_bytes())
        self.book = AuditBook(self.database, directory / "audit", root)
        for name, duties in (
            ("Ada", ("support", "security", "release")),
            ("Ben", ("support",)),
            ("Chloé Lefebvre-Martin", ()),
        ):
            self.persons[name] = (await self.people.add(name, duties)).id
        await self.people.end((await self.people.add("Nur")).id, self.persons["Ada"])
        await self._make_fleet()
        await self._make_papers()
        await self._make_quarantine()
        await self._make_consents()
        await self._make_crossings()
        await self._make_contracts()

    async def _make_contracts(self) -> None:
        """Three of Léa's: running with something kept back, offered, ended."""
        names = catalogue.standard()
        self.sharing = Sharing(self.database, self.consents, self.table, names, self.log, self.clock, self.random)
        speed, ref, lea = int(names.by_name("Vehicle.Speed").id), self.ref("e208"), self.persons["Léa"]
        await self.sharing.set_terms("", "Cost of delivery", (speed,), "a supplier's secret", "test")
        for act in (self.sharing.accept, None, self.sharing.decline):
            made = await self.sharing.share(
                ref, lea, "partner:assur-nord", "insurance", mask(["driving"]), ways=("sse", "webhook")
            )
            if act:
                await act("partner:assur-nord", made.id, "test")

    async def _make_crossings(self) -> None:
        """One export drafted by somebody else than Ada, one of her own."""
        signer = await ServiceSigner.open(self._directory / SIGNER, SIGNER, _nobody, self.clock, self.authority)
        sources = Sources(self.history, self.registry, self.ledger, self.table, catalogue.standard())
        issuers = LiveIssuers(self._directory / "trust")
        self.crossing = Crossing(
            self.database, sources, signer, lambda: issuers.table.sealed, "eu", self.log, self.clock
        )
        now_us = self.clock.now_us()
        for name in ("Ben", "Ada"):
            await self.crossing.draft(
                "fleet.models", "cn", now_us - 4 * DAY_US, now_us, (), "yearly report", self.persons[name]
            )

    def sign_in(self, page: Page, name: str) -> None:
        """By a passkey, as far as the session says: so that acts which need a touch are offered."""
        page.context.add_cookies(
            [{"name": "rocade_session", "value": self.call(self._open(name)), "url": self.address}]
        )

    async def _open(self, name: str) -> str:
        person = await self.people.by_id(self.persons[name])
        async with self.database.pool.acquire() as connection, connection.transaction():
            return await self.people.sessions.open(connection, person, "passkey")

    async def _make_fleet(self) -> None:
        names, now_us = catalogue.standard(), self.clock.now_us()
        signals = sorted(int(names.by_name(one).id) for one in ("Vehicle.Speed", "Vehicle.TraveledDistance"))
        rows = []
        for number in range(self.fleet):
            brand, model = FLEET[number % len(FLEET)]
            car = await self.registry.add(f"VF3CTYZZZ{number:08d}", "car", brand, model, "electric", "eu")
            self.cars[f"fleet-{number}"] = car
            state = STATES[number % len(STATES)]
            if state == "never":
                continue
            slots = np.zeros(2, SLOT)
            slots["signal"], slots["form"] = signals, FLOAT
            slots["value"] = np.array([23.5 if state == "moving" else 0.0, 12_345_678.0]).view(np.int64)
            slots["time_us"] = slots["changed_us"] = now_us
            slots["quality"][1] = Quality.STUCK if state == "doubtful" else 0
            seen_us = now_us - (40 * MINUTE_US if state == "silent" else 0)
            east, north = toytown._at(1.2, number)
            speed = 23.5 if state == "moving" else 0.0
            rows.append(Row(int(car.ref), seen_us, 0, north, east, speed, pack(slots, ()), int(slots["quality"][1])))
        async with self.database.pool.acquire() as connection, connection.transaction():
            await upsert_many(connection, rows, keyring_of(self.database))

    async def _make_papers(self) -> None:
        now_us = self.clock.now_us()

        def paper(serial: int, party: str, begun_days: int, ends_days: int) -> authority_store.CertificateRow:
            kind, _, id = party.partition("/")
            begun_us = now_us - begun_days * DAY_US
            uri = Identity("rocade.test", "eu", kind, id).uri
            return authority_store.CertificateRow(
                serial, uri, "operational", b"k", b"k", begun_us, now_us + ends_days * DAY_US, begun_us
            )

        late = self.cars["fleet-0"].id
        async with self.database.pool.acquire() as connection, connection.transaction():
            rows = [paper(0xABC1, f"vehicle/{late}", 52, 8), paper(0xABC2, "partner/assur-nord", 6, 1),
                    paper(0xABC3, "dealer/garage-ronville", 9, -2), paper(0xABC4, "partner/voltaire-charge", 1, 6),
                    paper(0xABC5, "service/metrics", 3, 4)]  # fmt: skip
            await authority_store.add_certificates(connection, await named(self.database, rows))
            await authority_store.add_revocations(connection, [(0xABC5, now_us + DAY_US)], "key", now_us)
        await self.authority.claim(Identity("rocade.test", "eu", "dealer", "garage-du-port"), self.persons["Ada"])
        ref = int(self.cars["fleet-0"].ref)
        for number in range(3):
            await self.log.record(
                AuditEntry(now_us + number, self.persons["Ada"], "telemetry.history.read", f"vehicle:{ref}")
            )
        refused = AuditEntry(
            now_us, "peer:192.0.2.7", "http.access", "http", "refused", "access.missing", {"route": "/v1"}
        )
        await self.log.record(refused)

    async def _make_quarantine(self) -> None:
        now_us, ref = self.clock.now_us(), int(self.cars["fleet-0"].ref)
        async with self.database.pool.acquire() as connection, connection.transaction():
            held = [Held(ref, now_us, BAD_BATCH, "sequence.far_ahead", "4,000,000 numbers ahead", b"body" * 9)] * 3
            await Ledger(self.database).hold(connection, held)

    async def _make_consents(self) -> None:
        lea = self.persons["Léa"]
        for name, recipient, purpose, classes in (
            ("e208", "operator", "operation", ("location", "driving", "energy")),
            ("e208", "partner:assur-nord", "insurance", ("driving",)),
            ("c3", "dealer:garage-ronville", "maintenance", ("condition",)),
        ):
            await self.consents.grant(self.ref(name), lea, recipient, purpose, mask(classes))
        code = await self.consents.hand_out(self.ref("c3"), self.persons["Ada"])
        with pytest.raises(Refused, match="conflict"):
            await self.consents.claim(code, self.persons["Max"])


def fresh_database(postgres_url: str, template: str, name: str) -> str:
    """URL of a new migrated database of this name."""

    async def make() -> None:
        connection = await asyncpg.connect(postgres_url)
        try:
            await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        finally:
            await connection.close()

    toytown.run(make())
    return postgres_url.replace("@/rocade?", f"@/{name}?")
