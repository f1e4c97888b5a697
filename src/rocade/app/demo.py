"""`rocade demo`: a whole region, a moving fleet of every kind, a live map, in one command.

Flow: make the demo region (kept in its folder) -> start it -> let the fleet in -> drive -> show what happens -> at the
end let everything settle and compare what the senders know to be acknowledged with what the history holds.
Ports are the usual ones, or free ones where those are taken. Everything listens on loopback only.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from rocade.agents.vehicle.convoy import Ledger, Order, Seat, Totals
from rocade.agents.vehicle.simulation.fleet import draw_models
from rocade.agents.vehicle.simulation.models import Model
from rocade.app import configuration as settings
from rocade.app import demo_charging, demo_dealers, demo_people, initialise, logs
from rocade.app.account import Account
from rocade.app.custodies import hang_keyring
from rocade.app.demo_view import View
from rocade.app.roles import stop_event
from rocade.app.supervisor import Supervisor
from rocade.core.errors import RocadeError, Unavailable
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.fabric.history import connect
from rocade.fabric.log.postgres import PostgresLog
from rocade.fabric.ports import free_port
from rocade.fabric.status import StatusBoard
from rocade.services.telemetry import Ledger as GapLedger
from rocade.services.telemetry.footprint import footprint, points_by_vehicle
from rocade.services.vehicles import Registry
from rocade.trust.authority import AuditLog, Authority, Region

SETTLE_S = 90.0
"""Only what is lost makes the end wait for so long, and a machine on which what is stored takes its time."""
ENDS_S = 60.0
FOOTPRINT_EVERY = 10
"""Seconds between two looks at the bytes on disk: each reads array lengths of the whole history."""
ACCOUNT_S = 3.0
SEED = 1
CUT_S = 8.0
PAST_PER_S = 0.05
"""A car that comes back says first where it is; the rest stays a gap until the platform asks for it, ten seconds on."""
SLEEP_AFTER_S = 60.0
"""A parked car that hears a command then says first that it wakes up."""
_WMI = {"peugeot": "VF3", "citroen": "VF7", "ds": "VR1", "opel": "W0L", "renault": "VF1", "hyundai": "KMH"}


class Summary(msgspec.Struct, frozen=True):
    """The last line of standard output. Latencies in ms as the senders saw them; `twin_p99_ms` from arrival to twin."""

    vehicles: int
    messages_acked: int
    points: int
    ack_p50_ms: float
    ack_p99_ms: float
    twin_p99_ms: float
    lag_s: float
    lost: int
    duplicated: int
    bytes_per_point: float


def run(directory: Path, vehicles: int, seconds: float | None, *, with_chaos: bool) -> int:
    """The exit code: 0, or 1 when something was lost or doubled.

    Raises: RocadeError when it does not start; the command line says it in one line.
    """
    logs.quiet()
    return asyncio.run(_Demo(directory, vehicles, seconds, Console(stderr=True), with_chaos=with_chaos).run())


class _Demo:
    def __init__(
        self, directory: Path, vehicles: int, seconds: float | None, screen: Console, *, with_chaos: bool
    ) -> None:
        self.directory, self.vehicles, self.seconds, self.screen = directory, vehicles, seconds, screen
        self.with_chaos = with_chaos
        self.totals: Totals | None = None
        self.ledger: Ledger | None = None
        self.account: Account | None = None
        self.refs: dict[str, int] = {}
        self.links: Mapping[str, str] = {}
        self.dealer = directory / "dealer"
        self.gaps: GapLedger | None = None
        self.began_us = 0
        self._next_cut = 0

    async def run(self) -> int:
        began_s = time.monotonic()
        configuration = self._configuration()
        supervisor = Supervisor(configuration)
        stopping = stop_event()
        try:
            with self.screen.status("starting database, history, gateway, worker and pages ..."):
                supervisor.extra_control = {"cut": self._cut, "totals": self._totals}
                if self.with_chaos:
                    await supervisor.allow_chaos()
                await supervisor.start()
            database = await Database.connect(supervisor.database_url, max_connections=4)
            self.gaps = GapLedger(database)
            keyring = await hang_keyring(configuration, database, SystemClock())
            try:
                with self.screen.status(f"enrolling {self.vehicles} vehicles ..."):
                    seats = await self._enrol(configuration, database)
                async with (
                    self._convoy(configuration, seats),
                    self._accounting(configuration, database),
                    demo_dealers.agent(self.dealer, self.directory / "logs" / "dealer.log"),
                    demo_people.letting_in(configuration, database),
                ):
                    view = View(
                        self.screen, configuration, self.links, time.monotonic() - began_s, with_chaos=self.with_chaos
                    )
                    await self._drive(view, StatusBoard(database, SystemClock()), supervisor, stopping)
                    summary = await self._settle(configuration, view)
            finally:
                await keyring.close()
                await database.close()
            print(msgspec.json.encode(summary).decode(), flush=True)
            return 1 if summary.lost or summary.duplicated else 0
        finally:
            with self.screen.status("draining ..."):
                await supervisor.stop()

    def _configuration(self) -> settings.Configuration:
        """The demo region's configuration, made at the first start; ports that are taken are replaced for this run."""
        if not (self.directory / "rocade.toml").exists():
            loopback = "127.0.0.1"
            template = settings.Configuration(
                "demo",
                "rocade.local",
                mqtt=settings.Mqtt(host=loopback),
                est=settings.Est(host=loopback),
                http=settings.Http(api_host=loopback),
                exchange=settings.Exchange(host=loopback, processes=1),
                charging=settings.Charging(processes=1),
                sharing=settings.Sharing(processes=1),
            )
            initialise.create(self.directory, "demo", "rocade.local", template=template)
        configuration = settings.load(self.directory)
        ports = [
            configuration.mqtt.port,
            configuration.est.port,
            configuration.http.api_port,
            configuration.http.pages_port,
            configuration.exchange.port,
        ]
        if all(map(_is_free, ports)):
            return configuration
        mqtt, est, api, pages, exchange = (port if _is_free(port) else free_port() for port in ports)
        configuration = msgspec.structs.replace(
            configuration,
            mqtt=msgspec.structs.replace(configuration.mqtt, port=mqtt),
            est=msgspec.structs.replace(configuration.est, port=est),
            http=msgspec.structs.replace(configuration.http, api_port=api, pages_port=pages),
            exchange=msgspec.structs.replace(configuration.exchange, port=exchange),
        )
        (self.directory / "rocade.toml").write_text(settings.render(configuration))
        return configuration

    async def _enrol(self, configuration: settings.Configuration, database: Database) -> tuple[Seat, ...]:
        """Register the fleet and give each vehicle its identity directory; those of an earlier run are used again."""
        clock, random = SystemClock(), SystemRandom()
        registry = Registry(database, random, clock)
        models = draw_models(self.vehicles, SEED)
        seats = [
            Seat(vehicle_id, model.key, str(self.directory / "fleet" / vehicle_id))
            for vehicle_id, model in ((_vehicle_id(model, number), model) for number, model in enumerate(models))
        ]
        known = await registry.resolve_many([seat.vehicle_id for seat in seats])
        for seat, model in zip(seats, models, strict=True):
            if seat.vehicle_id not in known:
                known[seat.vehicle_id] = await registry.add(
                    seat.vehicle_id, model.kind, model.brand, model.model, _POWERTRAIN.get(model.powertrain, model.powertrain),
                    "eu",
                )  # fmt: skip
        self.refs = {seat.vehicle_id: known[seat.vehicle_id].ref for seat in seats}
        fresh = [seat for seat in seats if not _is_usable(Path(seat.identity))]
        audit = AuditLog(database, configuration.trust / "audit", clock)
        if fresh:
            region = Region(configuration.trust, clock, random)
            authority = Authority(region, database, audit, clock, random)
            identities = [region.identity("vehicle", seat.vehicle_id) for seat in fresh]
            for seat, credential in zip(fresh, await authority.provision(identities, "service:demo"), strict=True):
                credential.write(Path(seat.identity))
        seats, home, depot = demo_charging.plugged(seats, models)
        charged = [self.refs[seats[at].vehicle_id] for at in (home, *depot)]
        garage = list(dict.fromkeys([*_garage(seats, models, self.refs), charged[0]]))
        pages = {
            "charging": ("owner", f"/my/{charged[0]}/charging"),
            "depot": ("operator", f"/depots/{demo_charging.SITE}"),
        }
        self.links = await demo_people.settle(configuration, database, audit, garage, pages)
        charged_models = [models[at] for at in (home, *depot)]
        await demo_charging.settle(configuration, database, audit, charged[0], charged[1:], charged_models)
        self.dealer = await demo_dealers.settle(configuration, database, audit, self.directory)
        await audit.close()
        return tuple(seats)

    @contextlib.asynccontextmanager
    async def _convoy(self, configuration: settings.Configuration, seats: tuple[Seat, ...]) -> AsyncIterator[None]:
        """Run the fleet in a process of its own; on leaving it has stopped and its ledger is here."""
        order = Order(
            host="localhost",
            port=configuration.mqtt.port,
            seats=seats,
            batch_s=2,
            seed=SEED,
            past_per_s=PAST_PER_S,
            sleep_after_s=SLEEP_AFTER_S,
        )
        log = (self.directory / "logs" / "fleet.log").open("ab")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "rocade.agents.vehicle.convoy", stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=log, limit=256 << 20, start_new_session=True,
        )  # fmt: skip
        log.close()
        self.began_us = SystemClock().now_us() - 1_000_000
        self._tell(order)
        self._listening = asyncio.create_task(self._listen())
        try:
            yield
        finally:
            await self._end_convoy()

    async def _end_convoy(self) -> None:
        if self._process.returncode is None and self._process.stdin is not None:
            with contextlib.suppress(ConnectionError):
                self._process.stdin.write(b'{"stop": true}\n')
                self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._listening, ENDS_S)
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    def _tell(self, message: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(message) + b"\n")

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            if line.startswith(b'{"ledger"'):
                self.ledger = msgspec.json.decode(line, type=Ledger)
                if self.account is not None:
                    self.account.take(self.ledger)
            else:
                self.totals = msgspec.json.decode(line, type=Totals)

    @contextlib.asynccontextmanager
    async def _accounting(self, configuration: settings.Configuration, database: Database) -> AsyncIterator[None]:
        """Compare the senders' account with the history every few seconds, in at most a twentieth of the time."""
        history = connect(configuration.effective_history_url)
        log = PostgresLog(database)
        self.account = account = Account(self.refs, self.began_us, SystemClock())

        async def keep() -> None:
            while self._process.returncode is None:
                began_s = time.monotonic()
                self._tell({"ledger": True})
                with contextlib.suppress(RocadeError, OSError):  # killed, as the plugs do; the next turn looks again
                    await account.compare(history, log)
                await asyncio.sleep(max(ACCOUNT_S, 20 * (time.monotonic() - began_s)))

        keeping = asyncio.create_task(keep(), name="account")
        try:
            yield
        finally:
            keeping.cancel()
            await history.close()

    async def _drive(self, view: View, board: StatusBoard, supervisor: Supervisor, stopping: asyncio.Event) -> None:
        """Show the road until time is up or somebody asks to stop."""
        began_s, looks = time.monotonic(), itertools.count()
        history = connect(supervisor.configuration.effective_history_url)
        plugs = _plugs(self.seconds) if self.with_chaos else []
        with view:
            while not stopping.is_set():
                passed_s = time.monotonic() - began_s
                if self.seconds is not None and passed_s >= self.seconds:
                    break
                if plugs and passed_s >= plugs[0][0]:
                    _, request = plugs.pop(0)
                    view.say(f"plug pulled: {' '.join(request.values())}")
                    with contextlib.suppress(RocadeError):
                        await supervisor.control(request)
                if self._process.returncode is not None:
                    raise Unavailable("demo.fleet", f"the fleet ended; see {self.directory / 'logs' / 'fleet.log'}")
                with contextlib.suppress(RocadeError, OSError, Exception):
                    lost = self.account.lost if self.account else 0
                    view.show(self.totals, await board.read(), supervisor.restarts, lost, await self._missing())
                    if next(looks) % FOOTPRINT_EVERY == 3:
                        view.weigh((await footprint(history)).bytes_per_point)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), 1.0)
        await history.close()
        await supervisor.control({"do": "free"})

    async def _settle(self, configuration: settings.Configuration, view: View) -> Summary:
        """Stop the fleet, wait until what it knows to be acknowledged is in the history, compare."""
        with self.screen.status("settling: the fleet stops, the last batches arrive ..."):
            await self._end_convoy()
            if self.totals is None or self.ledger is None:
                raise Unavailable("demo.fleet", "the fleet gave no final account; see logs/fleet.log")
            history = connect(configuration.effective_history_url)
            lost = doubled = 0
            began_s = time.monotonic()
            while time.monotonic() - began_s < SETTLE_S:
                stored = await points_by_vehicle(history, list(self.refs.values()), self.began_us)
                lost, doubled = self._compare(stored)
                if not lost:
                    break
                await asyncio.sleep(0.3)
            lag_s = time.monotonic() - began_s
            size = await footprint(history)
            await history.close()
        totals = self.totals
        return Summary(
            totals.vehicles,
            totals.acknowledged_batches,
            totals.acknowledged_points,
            round(totals.ack_p50_ms, 2),
            round(totals.ack_p99_ms, 2),
            view.twin_p99_ms,
            round(lag_s, 2),
            lost,
            doubled,
            round(size.bytes_per_point, 3),
        )

    def _compare(self, stored: dict[int, int]) -> tuple[int, int]:
        """Points acknowledged to senders and not stored, and points stored more than once.

        A sender with batches still waiting may find them stored (its acknowledgement was cut off): not doubled.
        """
        assert self.ledger is not None
        lost = doubled = 0
        for line in self.ledger.ledger:
            difference = stored.get(self.refs[line.vehicle_id], 0) - line.acknowledged_points
            lost += max(0, -difference)
            doubled += max(0, difference) if not line.waiting else 0
        return lost, doubled

    async def _cut(self, request: dict[str, str]) -> dict[str, object]:
        """Take one car off the air for a while: the chosen one, else the next of the fleet."""
        by_ref = {str(ref): vehicle_id for vehicle_id, ref in self.refs.items()}
        chosen = by_ref.get(request.get("vehicle", "")) or list(self.refs)[self._next_cut % len(self.refs)]
        self._next_cut += 1
        self._tell({"cut": chosen, "for_s": CUT_S})
        return {"said": f"vehicle {self.refs[chosen]} is off the air for {CUT_S:.0f} s"}

    async def _missing(self) -> int:
        """Numbers of the fleet's batches that the platform lacks at this moment, as its own gap list says."""
        return await self.gaps.missing(list(self.refs.values())) if self.gaps is not None else 0

    async def _totals(self, _: dict[str, str]) -> dict[str, object]:
        """What the senders count, how many of their acknowledged points the history lacks, and what is missing now."""
        totals, lost, missing = self.totals, self.account.lost if self.account else 0, 0
        with contextlib.suppress(RocadeError, *DOWN):
            missing = await self._missing()
        if totals is None:
            return {"acked": 0, "lost": lost, "resent": 0, "missing": missing}
        return {
            "acked": totals.acknowledged_batches,
            "lost": lost,
            "resent": totals.resent_batches,
            "missing": missing,
        }


_POWERTRAIN = {"hybrid": "plug_in_hybrid", "assisted": "electric", "muscle": "none"}


def _garage(seats: Sequence[Seat], models: Sequence[Model], refs: Mapping[str, int]) -> list[int]:
    """The owner's vehicles: the first of each kind, and the first that burns petrol, in the order of the fleet."""
    chosen: dict[str, int] = {}
    for seat, model in zip(seats, models, strict=True):
        ref = refs[seat.vehicle_id]
        for what in (model.kind, *(["petrol"] if model.powertrain == "petrol" else [])):
            chosen.setdefault(what, ref)
    return list(dict.fromkeys(chosen.values()))


def _vehicle_id(model: Model, number: int) -> str:
    """An invented VIN or serial."""
    if model.kind in ("car", "van"):
        return f"{_WMI[model.brand]}DEM{model.kind[0].upper()}X0{number:08d}"[:17]
    return f"{model.brand.upper()}-{number:06d}"


def _is_usable(directory: Path) -> bool:
    """An identity directory of an earlier run whose certificate still lives for a day."""
    from rocade.trust.identity.directory import load_leaf

    try:
        return load_leaf(directory).not_valid_after_utc.timestamp() > time.time() + 86_400
    except RocadeError:
        return False


def _plugs(seconds: float | None) -> list[tuple[float, dict[str, str]]]:
    """When which plug is pulled: spread over the run, once a minute where it has no end."""
    acts = [
        {"do": "cut", "vehicle": ""},
        {"do": "kill", "role": "worker"},
        {"do": "kill", "role": "store"},
        {"do": "fill"},
        {"do": "free"},
        {"do": "kill", "role": "gateway"},
    ]
    pause_s = min((seconds or 60.0) * 0.85 / len(acts), 10.0)
    rounds = 1 if seconds else 1_000
    return [(pause_s * (number + 1), acts[number % len(acts)]) for number in range(len(acts) * rounds)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
