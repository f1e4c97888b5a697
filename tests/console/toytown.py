"""The town Rocade draws and a fleet for tests: vehicles circle on its rings, a function of the time."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
from playwright.sync_api import BrowserContext, ConsoleMessage
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page as BrowserPage
from tests.notebook import Notebook
from tests.unowned import Unowned

from rocade.agents.vehicle.simulation import town as simulation_town
from rocade.console import Counts, Services, create_app
from rocade.console.application import desk_of
from rocade.core import catalogue
from rocade.core.errors import Refused
from rocade.core.identifiers import Identity, VehicleRef
from rocade.core.ports import AuditEntry, SystemClock, SystemRandom
from rocade.core.signals import Quality
from rocade.doors.http import Access, Listeners, loopback_sockets
from rocade.fabric.history import connect
from rocade.fabric.log import Record
from rocade.fabric.status import ProcessStatus
from rocade.services.telemetry import store
from rocade.services.telemetry.chunks import FLOAT, Chunks
from rocade.services.telemetry.gaps import Numbers
from rocade.services.telemetry.model import Quarantined, Unknown
from rocade.services.vehicles import EVERYTHING, Page, Vehicle, Wanted
from rocade.services.vehicles.twin import Position, Twin, Value
from rocade.trust.authority.book import Asked, Browsed
from rocade.trust.authority.gate import DUTIES, Gate, Principal
from rocade.trust.authority.papers import Papers

CENTRE = (simulation_town.LONGITUDE, simulation_town.LATITUDE)
NO_HISTORY = connect("chdb+unix:///nowhere/store.sock")
"""A history that connects to nothing until it is asked: for tests of everything else."""
BRANDS = ("peugeot", "citroen", "ds", "opel", "renault", "hyundai", "lune", "vespelle")
KINDS = {"lune": "bicycle", "vespelle": "moped"}
MODELS = {
    "peugeot": "e-208", "citroen": "ë-C4", "ds": "N°8", "opel": "Corsa", "renault": "Twizy", "hyundai": "Kona",
    "lune": "Croissant", "vespelle": "Aria",
}  # fmt: skip


def _at(radius_km: float, angle: float) -> tuple[float, float]:
    """A place on one of the town's rings, which are a little flat."""
    east = radius_km * math.cos(angle) / (111.32 * math.cos(math.radians(CENTRE[1])))
    return CENTRE[0] + east, CENTRE[1] + radius_km * 0.86 * math.sin(angle) / 111.32


def town() -> bytes:
    return msgspec.json.encode(simulation_town.build().geojson())


class Unsealed:
    """Stands for the seals of a toy's quarantine, which has no keys."""

    async def sealed(self, records: Sequence[Record]) -> list[Record]:
        return list(records)

    async def open_held(self, _ref: int, _kind: int, _arrived_us: int, body: bytes) -> bytes:
        return body


class Toys:
    """The fleet, its registry, its twins and its status board, all in memory."""

    def __init__(self, count: int, seed: int = 7) -> None:
        draw = random.Random(seed)
        self.clock = SystemClock()
        self.vehicles: dict[int, Vehicle] = {}
        self.held_records = {n: Quarantined(n, 7, n, 1, "sequence.far_ahead", "too far", 10, "held") for n in (1, 2, 3)}
        self.steps: list[tuple[str, int | str]] = []
        self.frozen_us: int | None = None
        self.appended: list[Record] = []
        self.region = SimpleNamespace(
            region="eu", identity=lambda kind, name: Identity("rocade.test", "eu", kind, name)
        )
        self.routes: dict[int, tuple[float, float, float]] = {}
        for number in range(count):
            brand = draw.choice(BRANDS)
            ref = VehicleRef(draw.getrandbits(63))
            kind, power = KINDS.get(brand, "car"), "electric"
            self.vehicles[ref] = Vehicle(
                ref, f"VF3TOY{number:011d}", kind, brand, MODELS[brand], power, "eu", "toy", 0, 0
            )
            radius = draw.choice((0.42, 0.76, 0.76, 1.18, 1.7, 2.4, 2.4, 2.4))
            speed = 0.0 if draw.random() < 0.1 else draw.uniform(12, 30) + radius * 20
            self.routes[ref] = (radius, draw.uniform(0, math.tau), speed)

    def position(self, ref: int, at_us: int) -> Position:
        radius, angle, speed = self.routes[ref]
        longitude, latitude = _at(radius, angle + speed / 3600 / radius * (at_us / 1e6))
        return Position(ref, at_us, at_us, 0, latitude, longitude, speed)

    async def seen(self, refs: Iterable[int]) -> dict[int, int]:
        return {ref: self.clock.now_us() for ref in refs if ref in self.vehicles}

    async def changed_since(self, since_us: int) -> list[Position]:
        now_us = self.clock.now_us()
        return [self.position(ref, now_us) for ref in self.vehicles if since_us <= 0 or self.routes[ref][2]]

    async def by_refs(self, refs: Iterable[VehicleRef]) -> dict[VehicleRef, Vehicle]:
        return {ref: self.vehicles[ref] for ref in refs if ref in self.vehicles}

    async def by_ref(self, ref: VehicleRef) -> Vehicle:
        if ref not in self.vehicles:
            raise Refused("vehicles.unknown", "no such vehicle")
        return self.vehicles[ref]

    async def resolve(self, id: str) -> Vehicle:
        for vehicle in self.vehicles.values():
            if vehicle.id == id:
                return vehicle
        raise Refused("vehicles.unknown", "no such vehicle")

    async def list(self, cursor: str | None = None, limit: int = 100, **filters: str) -> Page:
        chosen = [v for v in self.vehicles.values() if all(getattr(v, k) == x for k, x in filters.items())]
        start = int(cursor or 0)
        return Page(chosen[start : start + limit], str(start + limit) if len(chosen) > start + limit else None)

    async def find(self, wanted: Wanted, cursor: str | None = None, limit: int = 100) -> Page:
        words = " ".join(wanted.words).lower()
        found = await self.list(None, 10**6, **wanted.filters)
        fits = [one for one in found.vehicles if words in f"{one.brand} {one.model} {one.id}".lower()]
        start = int(cursor or 0)
        return Page(fits[start : start + limit], str(start + limit) if len(fits) > start + limit else None)

    async def count(self, wanted: Wanted = EVERYTHING) -> int:
        return len((await self.find(wanted, None, 10**6)).vehicles)

    async def models(self) -> list[tuple[str, str, str, int]]:
        return [(brand, KINDS.get(brand, "car"), "electric", 1) for brand in BRANDS]

    async def positions(self, refs: Iterable[int]) -> dict[int, Position]:
        return {ref: self.position(ref, self.clock.now_us()) for ref in refs if ref in self.vehicles}

    async def written(self, refs: Iterable[int]) -> dict[int, int]:
        return {ref: self.frozen_us or self.clock.now_us() for ref in refs}

    async def of(self, _identity: str) -> list[Any]:
        """Certificates: none."""
        return []

    async def latest(self, ref: int) -> Twin | None:
        if ref not in self.vehicles:
            return None
        now_us = self.frozen_us or self.clock.now_us()
        place, names = self.position(ref, now_us), catalogue.standard()
        battery = "Vehicle.Powertrain.TractionBattery"
        values: dict[str, float | bool | str] = {
            "Vehicle.Speed": place.speed_kmh or 0.0,
            "Vehicle.CurrentLocation.Longitude": place.longitude or 0.0,
            "Vehicle.CurrentLocation.Latitude": place.latitude or 0.0,
            "Vehicle.CurrentLocation.Heading": 187.0,
            f"{battery}.StateOfCharge.Displayed": 74.5,
            f"{battery}.CurrentPower": -12_340.0,
            f"{battery}.Temperature.Average": 21.5,
            f"{battery}.Charging.IsCharging": False,
            "Vehicle.Exterior.AirTemperature": 11.25,
        }
        reported = {int(names.by_name(name).id): Value(value, now_us, 0, now_us) for name, value in values.items()}
        stuck = Value(12_345_678.0, now_us - 9_000_000, int(Quality.STUCK), now_us - 90_000_000)
        reported[int(names.by_name("Vehicle.TraveledDistance").id)] = stuck
        return Twin(ref, now_us, now_us, 0, place.latitude, place.longitude, place.speed_kmh, reported, {})

    async def numbers(self, _ref: int) -> list[Numbers]:
        return [Numbers(_ref, -3, 1_000_000, 2_000_000, 40, [(5, 7), (12, 12)])]

    async def unknown(self) -> list[Unknown]:
        return [Unknown(1 << 31, "Foreign.Word", 1, 5, 3)]

    async def list_held(self, ref: int | None = None, after: int = 0, limit: int = 100) -> list[Quarantined]:
        return [one for one in self.held_records.values() if one.id > after][:limit]

    async def held(self, id: int) -> tuple[Quarantined, int, bytes] | None:
        return (self.held_records[id], self.held_records[id].kind, b"body") if id in self.held_records else None

    async def mark_held(self, id: int, state: str) -> bool:
        self.held_records[id] = msgspec.structs.replace(self.held_records[id], state=state)
        return True

    async def append(self, _stream: str, records: list[Record]) -> None:
        self.appended += records

    @property
    def pool(self) -> Toys:
        return self

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Toys]:
        yield self

    transaction = acquire

    async def erase(self, _connection: Any, ref: int, at_us: int = 0) -> None:
        self.steps.append(("numbers" if at_us else "twin", ref))

    async def hand_over(self, _connection: Any, ref: int, renewed: int) -> None:
        pass

    async def settled(self) -> None:
        self.steps.append(("settled", 0))

    def draw_ref(self) -> int:
        return 99

    async def renew_ref(self, _connection: Any, ref: int, _renewed: int) -> None:
        self.steps.append(("reference", self.vehicles[VehicleRef(ref)].id))

    async def rename(self, _connection: Any, ref: int, renewed: int) -> None:
        pass

    async def read(self) -> list[ProcessStatus]:
        now_us = self.clock.now_us()
        count = now_us // 1000 % 10_000_000
        gateway = {
            "connections": len(self.vehicles), "acknowledged": count, "points": count * 20, "ack_p50_ms": 11.5,
            "ack_p99_ms": 42.0, "refusals": {"trust.handshake.expired": 3, "batch.truncated": 1},
        }  # fmt: skip
        worker = {"lag_s": 0.4, "quarantined": {"sequence.far_ahead": 2}}
        return [
            ProcessStatus("gateway", "gateway", now_us, True, gateway),
            ProcessStatus("worker", "worker", now_us, True, worker),
            ProcessStatus("store", "store", now_us - 60_000_000, False, {}),
        ]


def samples(ref: int, signal: int, start_us: int, value: np.ndarray, bad: dict[int, int] | None = None) -> Chunks:
    """One sample a second from `start_us` on; `bad` = quality flags by place."""
    one, bad = np.ones(1, np.int64), bad or {}
    return Chunks(
        vehicle=one.astype(np.uint64) * ref, signal=one.astype(np.uint32) * signal, arrived_us=one * start_us,
        start_us=one * start_us, step_us=one * 1_000_000, rows=one * len(value), kind=np.array([FLOAT], np.uint8),
        exponent=np.zeros(1, np.int8), ints=np.zeros(0, np.int64), floats=value.astype(np.float64),
        doubt_at=np.array(list(bad), np.int64), doubt_flags=np.array(list(bad.values()), np.uint8),
    )  # fmt: skip


async def drive(url: str, toys: Toys, ref: int, minutes: int = 50) -> None:
    """Store a drive of the last `minutes`, with a stop in the middle."""
    history, names = connect(url), catalogue.standard()
    await store.ensure(history)
    start_us = (toys.clock.now_us() // 1_000_000 - minutes * 60) * 1_000_000
    second = np.arange(minutes * 60)
    stands = (second > minutes * 28) & (second < minutes * 36)
    speed = np.where(stands, 0.0, 46 + 22 * np.sin(second / 90) + 4 * np.sin(second / 7))
    angle = np.cumsum(speed) / 3600 / 2.4
    places = np.array([_at(2.4, one) for one in angle])
    battery = "Vehicle.Powertrain.TractionBattery"
    values = {
        "Vehicle.Speed": speed,
        "Vehicle.CurrentLocation.Longitude": places[:, 0],
        "Vehicle.CurrentLocation.Latitude": places[:, 1],
        f"{battery}.CurrentPower": np.round(speed * 210 - 3000 * np.cos(second / 90), 0),
        f"{battery}.StateOfCharge.Displayed": 92 - np.cumsum(speed) / 9000,
    }
    for name, value in values.items():
        signal = int(names.by_name(name).id)
        await store.insert(history, samples(ref, signal, start_us, value), f"{ref}-{signal}")
    await history.close()


class Notes(Notebook):
    """One that pages can look into."""

    async def tail(self, limit: int) -> list[tuple[int, AuditEntry]]:
        return list(enumerate(self.entries))[::-1][:limit]

    async def browse(self, asked: Asked, before: int | None = None, limit: int = 50) -> Browsed:
        return Browsed([(n, one) for n, one in await self.tail(10**6) if asked.fits(one)][:limit], None, None)

    async def verify(self) -> dict[str, int]:
        return {"entries": len(self.entries)}


class Plugs:
    """A chaos handler that only remembers."""

    def __init__(self) -> None:
        self.pulled: list[tuple[str, str]] = []

    async def act(self, act: str, vehicle: str) -> str:
        self.pulled.append((act, vehicle))
        return "worker 4711 killed; a new one reads on where it stopped"

    async def counts(self) -> Counts:
        return Counts(acked=128_540, lost=0, resent=12, missing=7)


class Proven:
    """What a certificate check would return."""

    def __init__(self, kind: str, name: str = "alice", serial: int = 7, not_after_us: int = 1 << 62) -> None:
        self.identity = Identity("rocade.test", "eu", kind, name)
        self.serial = serial
        self.not_after_us = not_after_us


SESSION = "a-session"
"""The cookie of the one person signed in."""


class Desk:
    """Sessions of one operator with all duties."""

    person = SimpleNamespace(name="Ada", id="person:000000000000000a")

    def acting(self, act: str) -> Principal:
        return Principal("person", self.person.id, "operator", "passkey", "eu", DUTIES)

    async def session(self, secret: str) -> Desk | None:
        return self if secret == SESSION else None

    async def redeem_touch(self, session_secret: str, touch: str, act: str, subject: str) -> None:
        if touch != f"{act} {subject}":
            raise Refused("people.touch.unknown", "not this")


def sign_in(page: BrowserPage, address: str) -> None:
    """Put the operator's session into a browser."""
    page.context.add_cookies([{"name": "rocade_session", "value": SESSION, "url": address}])


def signed_in(address: str) -> dict[str, str]:
    """The headers of that person's browser, on the console's own page."""
    return {"cookie": f"rocade_session={SESSION}", "origin": address}


def services(toys: Toys, directory: Path, *, chaos: Plugs | None = None, **changes: Any) -> tuple[Services, str]:
    """Services around the toys, and the session of an operator. A "certificate" is its kind's name as bytes."""
    audit = Notes()
    gate = Gate("eu", Unowned())
    access = Access(
        lambda der, _at_us: Proven(der.decode()), lambda serial: serial == 13, gate, audit, toys.clock, sessions=Desk()
    )

    async def fine() -> bool:
        return True

    made: dict[str, Any] = {
        "access": access, "audit": audit, "clock": toys.clock, "random": SystemRandom(), "catalogue": catalogue.standard(),
        "registry": toys, "authority": toys, "twins": toys, "status": toys, "book": audit, "ledger": toys,
        "log": toys, "database": toys, "history": NO_HISTORY, "ready": {"database": fine}, "town": town(), "chaos": chaos,
    }  # fmt: skip
    built = Services(**{**made, **changes})
    papers = Papers(built.database, built.clock) if "database" in changes else toys
    return replace(built, desk=desk_of(built, papers=papers)), SESSION


class Served:
    """An application served on http://localhost in a thread; use as a context manager."""

    def __init__(self, built: Services, sockets: list[socket.socket] | None = None) -> None:
        self._services = built
        self._sockets = sockets or loopback_sockets(0)
        self._ready = threading.Event()
        self.address = f"http://localhost:{self._sockets[0].getsockname()[1]}"

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self.listeners = Listeners(create_app(self._services), SystemRandom(), pages=self._sockets)
        self._loop = asyncio.get_running_loop()
        serving = asyncio.create_task(self.listeners.serve())
        await self.listeners.started()
        self._ready.set()
        await serving

    def __enter__(self) -> Served:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self.listeners.stop)
        self._thread.join(120)

    @property
    def has_ended(self) -> bool:
        return not self._thread.is_alive()


def wait(page: BrowserPage, expression: str, timeout_s: float = 90.0) -> None:
    """Return when an expression is true in the page; by evaluation from outside, which the page's own policy allows."""
    until = time.monotonic() + timeout_s
    while not _is_true(page, expression):
        assert time.monotonic() < until, f"never true: {expression}"
        page.wait_for_timeout(50)


def is_complaint(said: ConsoleMessage) -> bool:
    """Whether a page complains; what the driver of the graphics card says, which there is none of here, is no page's."""
    return said.type in {"error", "warning"} and "GL Driver Message" not in said.text


def leave(*contexts: BrowserContext) -> None:
    """End what the pages hold open. A context goes with its browser: closing it alone hung once in a full run."""
    for page in [page for context in contexts for page in context.pages]:
        with contextlib.suppress(PlaywrightError):  # on its way to another page, where nothing is held open
            page.goto("about:blank")


def _is_true(page: BrowserPage, expression: str) -> bool:
    try:
        return bool(page.evaluate(expression))
    except PlaywrightError as error:
        if "context was destroyed" in str(error) or "reading" in str(error):
            return False  # the page is on its way to another one
        raise


sockets = loopback_sockets


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end in a thread of its own: a browser's loop may be running in this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()
