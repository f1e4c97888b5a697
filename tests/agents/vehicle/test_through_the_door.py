"""Replay, convoy and renewal through the real doors: mutual TLS, the real gateway, real enrolment."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from tests.clocks import TurnedClock
from tests.doors.mqtt.stand import RecordingIntake, Yard
from tests.notebook import Notebook

from rocade.agents.renewal import Renewal
from rocade.agents.vehicle.convoy import Convoy, Ledger, Order, Seat, Totals
from rocade.agents.vehicle.replay import replay
from rocade.agents.vehicle.simulation import MODELS, build
from rocade.agents.vehicle.tables import TIME_TEXT
from rocade.core import catalogue
from rocade.core.errors import Refused, Unavailable
from rocade.core.ports import SystemClock, SystemRandom
from rocade.doors.est import Door as EnrolmentDoor
from rocade.doors.mqtt import Door
from rocade.fabric.database import Database
from rocade.trust.authority import Authority, DenySet
from rocade.trust.identity import tls
from rocade.trust.identity.directory import load_leaf
from rocade.trust.identity.est_client import Server
from rocade.wire.batch import check_many, decode_many

VIN = "VF1AAAAA555111111"
MAPPING = """
[time]
columns = ["Date", "Time"]
formats = ["%d/%m/%Y %H:%M:%S"]
[[column]]
name = "v"
signal = "Vehicle.Speed"
"""


class Road:
    """A door with its region and what came through."""

    def __init__(self, directory: Path) -> None:
        self.yard = Yard(directory)
        self.intake, self.audit = RecordingIntake(), Notebook()
        self.door = Door(self.intake, self.yard.context, self.yard.verify, self.audit)
        self.port = 0

    @property
    def bodies(self) -> list[bytes]:
        return [publish.body for publish in self.intake.stored]


@pytest.fixture
async def road(tmp_path: Path) -> AsyncIterator[Road]:
    one = Road(tmp_path / "road")
    one.port = await one.door.open("127.0.0.1", 0)
    yield one
    await one.door.drain(1.0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


def a_log(place: Path, rows: int = 400) -> Path:
    """Two impossible dates, one cell that is no number, one row without a time."""
    lines = ["Date,Time,v"]
    for row in range(rows):
        date = "00/13/2021" if row in (7, 8) else "29/03/2021"
        clock = f"{10 + row // 3600:02}:{row // 60 % 60:02}:{row % 60:02}" if row != 20 else "?"
        lines.append(f"{date},{clock},{'x' if row == 30 else row / 10}")
    (place / "log.csv").write_text("\n".join(lines))
    (place / "mapping.toml").write_text(MAPPING)
    return place / "log.csv"


async def test_a_log_is_replayed_once_and_every_row_accounted_for(road: Road, tmp_path: Path) -> None:
    file, identity = a_log(tmp_path), road.yard.identity(VIN)

    async def run(**more: bool) -> object:
        return await asyncio.to_thread(
            replay,
            [file],
            identity,
            host="localhost",
            port=road.port,
            mapping_file=tmp_path / "mapping.toml",
            patience_s=30,
            **more,
        )

    report = await run()
    points = 398 + 2 * (catalogue.standard().find(TIME_TEXT) is not None)
    assert (report.rows_read, report.rows_sent, report.repaired, report.refused) == (400, 396, 2, 2)
    assert report.refused_by_reason == {"time cannot be read": 1, "no value in any mapped column": 1}
    assert report.cells_refused == {"v: not a number": 1}
    assert (report.adds_up, report.exit_status, report.already_sent, report.points) == (True, 0, (), points)
    assert {note.raw for note in report.notes if note.what == "time repaired"} == {
        "00/13/2021 10:00:07",
        "00/13/2021 10:00:08",
    }
    assert report.batches == len(road.bodies) == 7
    decoded = decode_many(road.bodies)
    assert int(decoded.points.sum()) == points
    assert road.intake.clients[0].identity.id == VIN

    again = await run()
    assert (again.already_sent, again.rows_read, again.adds_up, len(road.bodies)) == (("log.csv",), 400, True, 7)
    await run(again=True)
    assert len(road.bodies) == 14
    assert sorted(check_many(road.bodies).sequence.tolist()) == list(range(1, 15))


async def test_a_refused_batch_makes_the_replay_say_so(road: Road, tmp_path: Path) -> None:
    road.intake.verdict = lambda publish: Refused("batch.checksum", "made up") if len(publish.body) % 2 else None
    file = a_log(tmp_path)
    report = await asyncio.to_thread(
        replay,
        [file],
        road.yard.identity(VIN),
        host="localhost",
        port=road.port,
        mapping_file=tmp_path / "mapping.toml",
    )
    assert len(report.set_aside) + len(road.bodies) == 7
    assert report.exit_status == (1 if report.set_aside else 0)


async def test_a_stranger_is_told_why_it_is_refused(road: Road, tmp_path: Path) -> None:
    stranger = Yard(tmp_path / "elsewhere").identity(VIN)
    (stranger / "trust.pem").write_bytes((road.yard.identity(VIN) / "trust.pem").read_bytes())
    file = a_log(tmp_path)
    with pytest.raises(Refused) as refused:
        await asyncio.to_thread(
            replay, [file], stranger, host="localhost", port=road.port, mapping_file=tmp_path / "mapping.toml"
        )
    assert refused.value.code == "replay.denied"
    assert road.bodies == []


async def test_a_platform_that_is_away_is_said_plainly_and_the_next_replay_goes_on(road: Road, tmp_path: Path) -> None:
    file, identity = a_log(tmp_path), road.yard.identity(VIN)
    with pytest.raises(Unavailable) as away:
        await asyncio.to_thread(
            replay, [file], identity, host="localhost", port=1, mapping_file=tmp_path / "mapping.toml", patience_s=0.5
        )
    assert away.value.code == "replay.unreachable"
    report = await asyncio.to_thread(
        replay, [file], identity, host="localhost", port=road.port, mapping_file=tmp_path / "mapping.toml"
    )
    assert report.exit_status == 0
    assert sorted(check_many(road.bodies).sequence.tolist()) == list(range(1, 8))


KILLED = """
import sys
from pathlib import Path
from rocade.agents.vehicle.replay import replay
print("begun", flush=True)
replay([Path(sys.argv[1])], Path(sys.argv[2]), host="localhost", port=int(sys.argv[3]), mapping_file=Path(sys.argv[4]))
"""


async def test_a_replay_killed_with_signal_9_goes_on_without_loss_or_repetition(road: Road, tmp_path: Path) -> None:
    file, identity = a_log(tmp_path, 9000), road.yard.identity(VIN)
    road.intake.wait_s = 0.05
    for enough in (20, 60):
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", KILLED, str(file), str(identity), str(road.port), str(tmp_path / "mapping.toml"))
        )
        async with asyncio.timeout(60):
            while len(road.bodies) < enough:
                await asyncio.sleep(0.01)
        program.kill()
        assert await program.wait() == -9
        assert enough <= len(road.bodies) < 150
    road.intake.wait_s = 0.0
    report = await asyncio.to_thread(
        replay,
        [file],
        identity,
        host="localhost",
        port=road.port,
        mapping_file=tmp_path / "mapping.toml",
        patience_s=30,
    )
    assert (report.exit_status, report.rows_read, report.batches) == (0, 9000, 150)
    first = {int(number): body for number, body in zip(check_many(road.bodies).sequence, road.bodies, strict=True)}
    assert sorted(first) == list(range(1, 151))
    assert int(check_many(list(first.values())).points.sum()) == report.points
    assert len(set(check_many(road.bodies).epoch.tolist())) == 1


async def test_a_convoy_of_every_model_keeps_a_ledger_that_matches_what_arrived(road: Road) -> None:
    seats = tuple(Seat(f"VF1AAAAA5550000{place:02}", model.key, "") for place, model in enumerate(MODELS))
    seats = tuple(Seat(seat.vehicle_id, seat.model, str(road.yard.identity(seat.vehicle_id))) for seat in seats)
    order = Order(host="localhost", port=road.port, seats=seats, batch_s=1)
    convoy = Convoy(order, build(), catalogue.standard(), SystemClock(), SystemRandom())
    stop = asyncio.Event()
    running = asyncio.create_task(convoy.run(stop))
    await until(lambda: convoy.totals().connected == len(seats))
    assert convoy.cut(seats[3].vehicle_id, 1.0)
    assert not convoy.cut("nobody", 1.0)
    await until(lambda: convoy.totals().connected == len(seats) - 1)
    await until(lambda: convoy.totals().connected == len(seats))
    await until(lambda: all(line.acknowledged_batches >= 3 for line in convoy.ledger().ledger))
    stop.set()
    await asyncio.wait_for(running, 30)
    ledger = {line.vehicle_id: line for line in convoy.ledger().ledger}
    stored: Counter[str] = Counter()
    points: Counter[str] = Counter()
    numbers: dict[str, set[int]] = {}
    for publish in road.intake.stored:
        checked = check_many([publish.body])
        vehicle = publish.context.identity.id
        assert f"{int(checked.epoch[0]):016x}" == ledger[vehicle].epoch
        if int(checked.sequence[0]) not in numbers.setdefault(vehicle, set()):
            stored[vehicle] += 1
            points[vehicle] += int(checked.points[0])
        numbers[vehicle].add(int(checked.sequence[0]))
    for vehicle, line in ledger.items():
        owed = set(range(1, line.made + 1)) - set(line.waiting)
        assert owed <= numbers[vehicle]
        assert line.acknowledged_batches <= stored[vehicle] <= line.made
        assert line.acknowledged_points <= points[vehicle]
        assert line.acknowledged_batches >= 3


async def test_a_certificate_is_renewed_in_time_and_after_its_end_with_the_birth_certificate(
    tmp_path: Path, database: Database
) -> None:
    yard = Yard(tmp_path / "yard")
    clock, audit = SystemClock(), Notebook()
    authority = Authority(yard.region, database, audit, clock, SystemRandom())
    denied = await DenySet.open(database, clock)
    door = EnrolmentDoor(
        tls.ServerIdentity(yard.directory / "door", client="optional"), authority, denied, audit, clock
    )
    server = Server("localhost", await door.start("127.0.0.1", 0))
    try:
        car = yard.region.identity("vehicle", VIN)
        for life_us, birth in ((3_600_000_000, False), (-250_000_000, True)):
            directory = tmp_path / f"car{birth}"
            yard.region.credential(car, life_us=life_us).write(directory)
            if birth:
                credential = yard.region.credential(car, purpose="birth")
                (directory / "birth.key.pem").write_bytes(credential.key_pem)
                (directory / "birth.key.pem").chmod(0o600)
                (directory / "birth.certificate.pem").write_bytes(credential.chain_pem)
            old, renewed = load_leaf(directory), asyncio.Event()
            later = TurnedClock(50 * 60_000_000)  # past two thirds of an hour's certificate, and not past its end
            renewal = Renewal(directory, server, renewed.set, later, SystemRandom())
            task = asyncio.create_task(renewal.run())
            await asyncio.wait_for(renewed.wait(), 30)
            task.cancel()
            assert load_leaf(directory).serial_number != old.serial_number
            assert renewal.renewals == 1
            assert renewal.due_in_s() > 3600
    finally:
        await door.close()
        await denied.close()


async def test_a_convoy_runs_as_a_program_of_its_own(road: Road) -> None:
    seats = tuple(Seat(f"VF1AAAAA5550001{place:02}", model.key, "") for place, model in enumerate(MODELS[:3]))
    seats = tuple(Seat(seat.vehicle_id, seat.model, str(road.yard.identity(seat.vehicle_id))) for seat in seats)
    order = Order(host="localhost", port=road.port, seats=seats, batch_s=1)
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rocade.agents.vehicle.convoy", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 24
    )  # fmt: skip
    assert program.stdin
    assert program.stdout
    program.stdin.write(msgspec.json.encode(order) + b"\n")
    for _ in range(60):
        totals = msgspec.json.decode(await asyncio.wait_for(program.stdout.readline(), 30), type=Totals)
        if totals.acknowledged_batches >= 3 and totals.connected == 3:
            break
    assert (totals.vehicles, totals.connected, totals.problem) == (3, 3, "")
    program.stdin.write(b'nonsense\n{"cut":"VF1AAAAA555000101","for_s":0.2}\n{"stop":true}\n')
    lines = (await asyncio.wait_for(program.stdout.read(), 30)).splitlines()
    assert await program.wait() == 0
    ledger = msgspec.json.decode(lines[-1], type=Ledger).ledger
    assert {line.vehicle_id for line in ledger} == {seat.vehicle_id for seat in seats}
    numbers: dict[str, set[int]] = {}
    for publish in road.intake.stored:
        numbers.setdefault(publish.context.identity.id, set()).add(int(check_many([publish.body]).sequence[0]))
    for line in ledger:
        assert set(range(1, line.made + 1)) - set(line.waiting) <= numbers[line.vehicle_id]
