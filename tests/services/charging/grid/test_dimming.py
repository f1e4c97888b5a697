"""A grid operator's signal: taken in once, kept by the next plan with the minimum charge first, ended by itself, with proof."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.services.charging.conftest import CAR, HOUR_US, OWNER, Stand

from rocade.core.errors import Refused
from rocade.services.charging import ChargeSite, LimitNode, Place
from rocade.services.charging.grid import Follower, Grid
from rocade.services.charging.replanning import Replanner
from rocade.wire.openadr import Limit, read_events

if TYPE_CHECKING:
    from rocade.services.vehicles import Vehicle

GRID = "partner:netz"


class Depot:
    """Three cars under 40 kW, one of them nearly empty with a minimum of 30 %."""

    def __init__(self, stand: Stand) -> None:
        self.stand, self.replanner = stand, Replanner(stand.charging)
        self.grid = Grid(stand.charging)
        self.follower = Follower(self.grid)
        self.cars: list[Vehicle] = []

    async def open(self) -> None:
        stand = self.stand
        site = ChargeSite("nord", "Depot Nord", "Europe/Paris", (LimitNode("root", "", 40.0),), period_s=60)
        await stand.charging.put_site(site, "operator:x")
        for soc, minimum in ((10.0, 30.0), (50.0, 0.0), (60.0, 0.0)):
            car = await stand.car()
            await stand.charging.set_car(car.ref, CAR, OWNER)
            await stand.says(car, soc=soc, cable=True, charging=True, power=10.0)
            await stand.charging.put_place(Place("nord", int(car.ref)), "operator:x")
            goal = stand.goal(4, 90.0, minimum_percent=minimum)
            await stand.charging.set_goal(int(car.ref), goal, OWNER)
            self.cars.append(car)
        await self.replanner.turn()

    async def dim(self, limit_kw: float, hours: float = 1.0, signal: str = "sig-1", begin_h: float = 0.0) -> None:
        now_us = self.stand.clock.at_us
        begin_us = now_us + round(begin_h * HOUR_US)
        limit = Limit(signal, limit_kw, begin_us, begin_us + round(hours * HOUR_US))
        await self.grid.receive("nord", [limit], GRID, "spiffe://x/eu/partner/netz")

    async def planned_kw(self) -> list[float]:
        board = await self.stand.charging.board("nord")
        by_ref = {car.ref: car.planned_kw for car in board.cars}
        return [by_ref[int(car.ref)] for car in self.cars]

    async def obey(self) -> None:
        """Every car draws what is planned, and says so."""
        for car, kw in zip(self.cars, await self.planned_kw(), strict=True):
            await self.stand.says(car, soc=50.0, cable=True, charging=kw > 0, power=kw)


@pytest.fixture
async def depot(stand: Stand) -> Depot:
    made = Depot(stand)
    await made.open()
    return made


async def test_the_next_plan_keeps_the_limit_and_the_minimum_comes_first(depot: Depot) -> None:
    assert sum(await depot.planned_kw()) > 12
    await depot.dim(10.0)
    await depot.replanner.turn()
    planned = await depot.planned_kw()
    assert sum(planned) <= 10.0 + 1e-3
    assert planned[0] >= 9.0, "the car below its minimum is served before those that only want to be full"


async def test_what_was_done_is_written_down_from_the_signal_to_its_end(depot: Depot) -> None:
    await depot.dim(5.0)
    await depot.follower.step()
    assert (await depot.grid.signal("nord", "sig-1")).within_period is None
    depot.stand.clock.move(5)
    await depot.replanner.turn()
    await depot.obey()
    depot.stand.clock.move(5)
    await depot.obey()
    await depot.follower.step()
    found = await depot.grid.signal("nord", "sig-1")
    assert (found.state, found.within_period) == ("active", True)
    assert found.dimming.honoured_us
    whats = [line.what for line in found.proof]
    assert whats[0] == "received"
    assert {"planned", "told", "measured", "kept"} <= set(whats)
    told = {line.ref for line in found.proof if line.what == "told"}
    assert told <= {int(car.ref) for car in depot.cars}
    assert len(told) == 3, "every car got another part than before"
    assert next(line.kw for line in found.proof if line.what == "measured") <= 5.1
    depot.stand.clock.move(hours=1.0)
    await depot.follower.step()
    await depot.replanner.turn()
    found = await depot.grid.signal("nord", "sig-1")
    assert (found.state, found.proof[-1].what) == ("over", "ended")
    assert sum(await depot.planned_kw()) > 12, "it ends by itself: nobody called it off"
    count = len(found.proof)
    await Follower(Grid(depot.stand.another())).step()
    assert len((await depot.grid.signal("nord", "sig-1")).proof) == count, "a restart writes nothing twice"


async def test_a_depot_that_does_not_obey_is_not_called_obedient(depot: Depot) -> None:
    await depot.dim(5.0)
    await depot.replanner.turn()
    depot.stand.clock.move(70)
    for car in depot.cars:
        await depot.stand.says(car, soc=50.0, cable=True, charging=True, power=10.0)
    await depot.follower.step()
    found = await depot.grid.signal("nord", "sig-1")
    assert (found.kept_us, found.within_period) == (0, False)
    assert [line.code for line in found.proof if line.what == "measured"] == ["above"]


async def test_a_load_that_was_measured_before_the_signal_proves_nothing(depot: Depot) -> None:
    for car in depot.cars:
        await depot.stand.says(car, soc=50.0, cable=True, charging=True, power=1.0)
    depot.stand.clock.move(10)
    await depot.dim(5.0)
    await depot.follower.step()
    assert [line.what for line in (await depot.grid.signal("nord", "sig-1")).proof] == ["received"]


async def test_the_same_signal_again_changes_nothing(depot: Depot) -> None:
    now_us = depot.stand.clock.at_us
    limit = Limit("sig-1", 5.0, now_us, now_us + HOUR_US)
    await asyncio.gather(*(depot.grid.receive("nord", [limit], GRID, "a") for _ in range(8)))
    await depot.replanner.turn()
    before = await depot.grid.signal("nord", "sig-1")
    told = "SELECT max(number) FROM charging_change"
    changes = await depot.stand.database.pool.fetchval(told)
    depot.stand.clock.move(hours=0.01)
    await depot.grid.receive("nord", [limit], GRID, "a")
    after = await depot.grid.signal("nord", "sig-1")
    assert after.dimming == before.dimming
    assert [line.what for line in after.proof] == ["received"]
    assert after.received.times == 9
    assert await depot.stand.database.pool.fetchval(told) == changes, "nothing is planned anew"


async def test_a_signal_that_begins_when_it_comes_is_not_prolonged_by_being_told_again(depot: Depot) -> None:
    for _ in range(3):
        now_us = depot.stand.clock.at_us
        await depot.grid.receive("nord", [Limit("sig-1", 5.0, now_us, now_us + HOUR_US, is_now=True)], GRID, "a")
        depot.stand.clock.move(hours=0.5)
    found = await depot.grid.signal("nord", "sig-1")
    assert found.state == "over"
    assert [line.what for line in found.proof] == ["received"]
    assert found.received.times == 3


async def test_another_content_under_the_same_id_takes_its_place(depot: Depot) -> None:
    await depot.dim(5.0)
    await depot.replanner.turn()
    await depot.dim(15.0)
    await depot.replanner.turn()
    found = await depot.grid.signal("nord", "sig-1")
    assert found.dimming.limit_kw == 15.0
    assert [line.what for line in found.proof] == ["received", "changed"]
    assert 5.1 < sum(await depot.planned_kw()) <= 15.0 + 1e-3


async def test_a_signal_that_is_called_off_ends_at_once(depot: Depot) -> None:
    await depot.dim(5.0)
    await depot.replanner.turn()
    await depot.grid.call_off("nord", "sig-1", "a")
    await depot.replanner.turn()
    assert (await depot.grid.signal("nord", "sig-1")).state == "called_off"
    assert sum(await depot.planned_kw()) > 12
    with pytest.raises(Refused, match="no signal"):
        await depot.grid.call_off("nord", "sig-1", "a")
    await depot.dim(5.0)
    assert (await depot.grid.signal("nord", "sig-1")).state == "called_off", "a late copy does not bring it back"
    await depot.follower.step()
    depot.stand.clock.move(hours=0.001)
    await depot.dim(6.0)
    assert (await depot.grid.signal("nord", "sig-1")).state == "active", "another content does"
    assert await depot.follower.step() == 1, "and is followed to its own end"


async def test_of_two_signals_at_once_the_lower_one_counts(depot: Depot) -> None:
    await depot.dim(15.0, signal="a")
    await depot.dim(6.0, signal="b")
    await depot.replanner.turn()
    assert sum(await depot.planned_kw()) <= 6.0 + 1e-3


async def test_a_signal_for_later_is_planned_for_and_not_kept_before(depot: Depot) -> None:
    await depot.dim(5.0, begin_h=1.0)
    await depot.replanner.turn()
    assert sum(await depot.planned_kw()) > 12
    found = await depot.grid.signal("nord", "sig-1")
    assert (found.state, found.within_period) == ("waiting", None)
    depot.stand.clock.move(hours=1.01)
    assert sum(await depot.planned_kw()) <= 5.0 + 1e-3


async def test_an_event_that_names_an_interval_no_longer_ends_it(depot: Depot) -> None:
    begin = "2027-01-15T08:00:00Z"

    def body(*limits: float) -> bytes:
        intervals = ", ".join(
            f'{{"id": {at}, "payloads": [{{"type": "IMPORT_CAPACITY_LIMIT", "values": [{kw}]}}]}}'
            for at, kw in enumerate(limits)
        )
        period = f'{{"start": "{begin}", "duration": "PT1H"}}'
        return f'{{"programID": "p", "id": "ev-1", "intervalPeriod": {period}, "intervals": [{intervals}]}}'.encode()

    now_us = depot.stand.clock.at_us
    for limits in ((5.0, 6.0, 7.0), (5.0, 6.5)):
        for event in read_events(body(*limits), now_us):
            await depot.grid.receive_event("nord", event, GRID, "a", "openadr")
    states = {one.dimming.signal: (one.state, one.dimming.limit_kw) for one in await depot.grid.signals("nord")}
    assert states == {"ev-1.0": ("active", 5.0), "ev-1.1": ("waiting", 6.5), "ev-1.2": ("called_off", 7.0)}
    note = (
        b'{"objectType": "EVENT", "operation": "DELETE", "object": {"programID": "p", "id": "ev-1", "intervals": []}}'
    )
    for event in read_events(note, now_us):
        await depot.grid.receive_event("nord", event, GRID, "a", "openadr")
    assert {one.state for one in await depot.grid.signals("nord")} == {"called_off"}


async def test_who_is_not_bound_does_not_even_learn_that_the_depot_is_there(depot: Depot) -> None:
    refusals = []
    for site in ("nord", "nowhere"):
        with pytest.raises(Refused) as refused:
            await depot.grid.admit(site, GRID, is_operator=False)
        refusals.append((refused.value.code, refused.value.message))
    assert refusals[0] == refusals[1]
    await depot.grid.bind("nord", GRID, "operator:x")
    assert (await depot.grid.admit("nord", GRID, is_operator=False)).id == "nord"
    await depot.grid.unbind("nord", GRID, "operator:x")
    with pytest.raises(Refused):
        await depot.grid.admit("nord", GRID, is_operator=False)
    for party in ("person:01", "dealer:x", "netz", "partner:", "partner:a/b"):
        with pytest.raises(Refused, match="name a partner"):
            await depot.grid.bind("nord", party, "operator:x")


async def test_an_erased_car_is_no_longer_named_in_the_proof(depot: Depot) -> None:
    await depot.dim(5.0)
    await depot.replanner.turn()
    await depot.follower.step()
    from rocade.services.charging.grid import forget

    async with depot.stand.database.pool.acquire() as connection, connection.transaction():
        await forget(connection, int(depot.cars[0].ref))
    refs = {line.ref for line in (await depot.grid.signal("nord", "sig-1")).proof}
    assert int(depot.cars[0].ref) not in refs
