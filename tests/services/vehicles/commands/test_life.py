"""A command's life from the order to its proof, and every order in which what is said of it may come."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from rocade.services.vehicles.commands.keeping import pass_time
from rocade.services.vehicles.commands.model import LOOKED_FOR_US, PROOF_US, SILENT_US

SECOND_US = 1_000_000


def states(standing: Any) -> list[str]:
    return [one.state for one in standing.life]


async def test_a_command_goes_from_the_order_to_its_proof(hub: Any) -> None:
    car = await hub.add_vehicle()
    ordered = await hub.order(car)
    assert (ordered.state, ordered.is_open, ordered.parameters) == ("queued", True, {"percent": 80})
    gateway, door = hub.gateway(car)
    await gateway.deliver({int(car.ref)}, set())
    ((party, body),) = door.sent
    command = hub.opened(body)
    assert (party, command.vehicle, command.id, command.version) == (car.id, car.id, ordered.id, ordered.version)
    await hub.say(car, hub.report(ordered, "accepted"), hub.report(ordered, "applied"))
    assert (await hub.commands.standing(ordered.id)).state == "applied"
    await hub.verifier.look()
    await hub.measure(car, limit=80)
    done = await hub.commands.standing(ordered.id)
    assert (done.state, done.is_open, done.doubt) == ("verified", False, False)
    assert states(done) == ["created", "queued", "sent", "accepted", "applied", "verified"]
    assert [one.at_us for one in done.life] == sorted(one.at_us for one in done.life)


async def test_reports_in_any_order_twice_and_late_come_to_the_same(hub: Any) -> None:
    """Each of the orders in which a vehicle's three words may come in one tick or in three, each of them twice."""
    for words in itertools.permutations(("accepted", "waking", "applied")):
        for is_one_tick in (True, False):
            car = await hub.add_vehicle()
            ordered = await hub.order(car)
            reports = [hub.report(ordered, word) for word in (*words, *words)]
            for tick in [reports] if is_one_tick else [[one] for one in reports]:
                assert await hub.say(car, *tick) == [None] * len(tick)
            stands = await hub.commands.standing(ordered.id)
            assert stands.state == "applied", words
            assert {"accepted", "waking", "applied"} <= set(states(stands)), words


ENDS = ("rejected", "expired", "superseded")


@pytest.mark.parametrize("end", ENDS)
async def test_an_end_stays_whatever_is_said_afterwards(hub: Any, end: str) -> None:
    car = await hub.add_vehicle()
    ordered = await hub.order(car)
    await hub.say(car, hub.report(ordered, end, code="command.vehicle.full" if end == "rejected" else ""))
    for word in ("accepted", "waking", "applied", *ENDS):
        await hub.say(car, hub.report(ordered, word))
    stands = await hub.commands.standing(ordered.id)
    assert (stands.state, stands.is_open) == (end, False)
    assert stands.code == ("command.vehicle.full" if end == "rejected" else f"command.{end}")


async def test_a_proof_is_newer_than_the_act_and_shows_what_was_wanted(hub: Any) -> None:
    car = await hub.add_vehicle()
    ordered = await hub.order(car)
    act_us = hub.clock.now_us()
    await hub.say(car, hub.report(ordered, "applied", at_us=act_us))
    await hub.verifier.look()
    for at_us, limit in ((act_us - 1, 80), (act_us + SECOND_US, 90)):
        await hub.measure(car, at_us=at_us, limit=limit)
        assert (await hub.commands.standing(ordered.id)).state == "applied"
    await hub.measure(car, at_us=act_us + 2 * SECOND_US, limit=80)
    assert (await hub.commands.standing(ordered.id)).state == "verified"


async def test_telemetry_that_comes_before_the_word_proves_it_when_the_word_comes(hub: Any) -> None:
    car = await hub.add_vehicle()
    ordered = await hub.order(car)
    await hub.measure(car, limit=80)
    assert (await hub.commands.standing(ordered.id)).state == "queued"
    await hub.say(car, hub.report(ordered, "applied", at_us=hub.clock.now_us() - SECOND_US))
    assert (await hub.commands.standing(ordered.id)).state == "verified"


async def test_a_worker_that_heard_nothing_finds_the_proof_at_its_next_look(hub: Any) -> None:
    car = await hub.add_vehicle()
    ordered = await hub.order(car)
    await hub.say(car, hub.report(ordered, "applied"))
    assert not hub.verifier.watching
    await hub.measure(car, limit=80)
    assert (await hub.commands.standing(ordered.id)).state == "applied"
    await hub.verifier.look()
    assert (await hub.commands.standing(ordered.id)).state == "verified"


async def test_what_is_not_proven_in_time_is_in_doubt_and_a_late_proof_still_counts(hub: Any) -> None:
    car = await hub.add_vehicle()
    ordered = await hub.order(car)
    await hub.say(car, hub.report(ordered, "applied"))
    await pass_time(hub.database, hub.clock.now_us())
    assert (await hub.commands.standing(ordered.id)).is_open
    hub.clock.ahead_us += PROOF_US + SECOND_US
    assert await pass_time(hub.database, hub.clock.now_us()) == 1
    doubted = await hub.commands.standing(ordered.id)
    assert (doubted.state, doubted.code, doubted.doubt, doubted.is_open) == ("applied", "command.unproven", True, False)
    assert await pass_time(hub.database, hub.clock.now_us()) == 0
    await hub.measure(car, limit=80)
    await hub.verifier.look()
    proven = await hub.commands.standing(ordered.id)
    assert (proven.state, proven.code, proven.doubt) == ("verified", "", False)


async def test_nobody_looks_for_a_proof_for_ever(hub: Any) -> None:
    car = await hub.add_vehicle()
    ordered = await hub.order(car)
    await hub.say(car, hub.report(ordered, "applied"))
    hub.clock.ahead_us += LOOKED_FOR_US + SECOND_US
    await pass_time(hub.database, hub.clock.now_us())
    await hub.measure(car, limit=80)
    await hub.verifier.look()
    assert (await hub.commands.standing(ordered.id)).doubt
    assert not hub.verifier.watching


async def test_an_unsent_command_expires_and_is_never_sent_again(hub: Any) -> None:
    hub.clock.hold()  # seconds count here
    car = await hub.add_vehicle()
    ordered = await hub.order(car, "charge.start", expires_us=hub.clock.now_us() + 5 * SECOND_US)
    hub.clock.ahead_us += 5 * SECOND_US
    gateway, door = hub.gateway(car)
    await gateway.deliver({int(car.ref)}, {int(car.ref)})
    await pass_time(hub.database, hub.clock.now_us())
    await gateway.deliver({int(car.ref)}, {int(car.ref)})
    assert door.sent == []
    stands = await hub.commands.standing(ordered.id)
    assert (stands.state, stands.code) == ("expired", "command.unsent")


async def test_what_a_car_did_counts_although_the_sending_was_never_noted(hub: Any) -> None:
    """The gateway was killed after the command left and before that was written; then its deadline passed."""
    hub.clock.hold()  # seconds count here
    car = await hub.add_vehicle()
    ordered = await hub.order(car, expires_us=hub.clock.now_us() + 5 * SECOND_US)
    hub.clock.ahead_us += 6 * SECOND_US
    await pass_time(hub.database, hub.clock.now_us())
    await hub.say(car, hub.report(ordered, "applied"))
    told = await hub.commands.standing(ordered.id)
    assert (told.state, told.code) == ("applied", "")


@pytest.mark.parametrize("code", ["", "command.expired"])
async def test_a_car_that_says_expired_has_the_last_word(hub: Any, code: str) -> None:
    hub.clock.hold()  # seconds count here
    car = await hub.add_vehicle()
    ordered = await hub.order(car, expires_us=hub.clock.now_us() + 5 * SECOND_US)
    hub.clock.ahead_us += 6 * SECOND_US
    await pass_time(hub.database, hub.clock.now_us())
    for state in ("expired", "expired", "applied"):
        await hub.say(car, hub.report(ordered, state, code=code if state == "expired" else ""))
    told = await hub.commands.standing(ordered.id)
    assert (told.state, told.code) == ("expired", "command.expired")


async def test_a_vehicle_that_stays_silent_is_waited_for_and_its_late_word_counts(hub: Any) -> None:
    hub.clock.hold()  # seconds count here
    car = await hub.add_vehicle()
    ordered = await hub.order(car, expires_us=hub.clock.now_us() + 5 * SECOND_US)
    await hub.say(car, hub.report(ordered, "accepted"))
    hub.clock.ahead_us += 6 * SECOND_US
    await pass_time(hub.database, hub.clock.now_us())
    assert (await hub.commands.standing(ordered.id)).state == "accepted"
    hub.clock.ahead_us += SILENT_US
    await pass_time(hub.database, hub.clock.now_us())
    silent = await hub.commands.standing(ordered.id)
    assert (silent.state, silent.code) == ("expired", "command.silent")
    await hub.say(car, hub.report(ordered, "applied"))
    told = await hub.commands.standing(ordered.id)
    assert (told.state, told.code) == ("applied", "")


async def test_a_refusal_after_the_act_is_the_truth(hub: Any) -> None:
    """A maker's back end says done, and 89 s later that it was not."""
    car = await hub.add_vehicle()
    ordered = await hub.order(car)
    await hub.say(car, hub.report(ordered, "applied"))
    await hub.say(car, hub.report(ordered, "rejected", code="command.maker.refused"))
    stands = await hub.commands.standing(ordered.id)
    assert (stands.state, stands.code) == ("rejected", "command.maker.refused")
    refusals = [one for one in hub.audit.entries if one.action == "command.answer"]
    assert [(one.outcome, one.reason, one.facts["command"]) for one in refusals] == [
        ("refused", "command.maker.refused", ordered.id)
    ]


async def test_reports_nobody_can_use_are_answered_and_change_nothing(hub: Any) -> None:
    car, other = await hub.add_vehicle(), await hub.add_vehicle()
    ordered = await hub.order(car)
    stranger = msgspec.structs.replace(hub.report(ordered, "applied"), id="0" * 32)
    assert await hub.say(other, hub.report(ordered, "applied"), stranger) == [None, None]
    assert hub.reports.counters.unknown == 2
    assert (await hub.commands.standing(ordered.id)).state == "queued"


async def test_a_report_that_cannot_be_read_is_refused(hub: Any) -> None:
    from rocade.doors.mqtt import Publish

    car = await hub.add_vehicle()
    seat = hub.seat(car)
    bodies = (
        b"",
        b"{",
        b'{"id": "x"}',
        b'{"id":"' + b"0" * 32 + b'","version":1,"state":"verified","at_us":1}',
        b"\xff",
    )
    verdicts = await hub.reports.accept([Publish(seat, "command", body, 1, 5) for body in bodies])
    assert [verdict.code for verdict in verdicts] == ["command.malformed"] * len(bodies)


async def test_what_cannot_be_proven_stops_no_report(hub: Any) -> None:
    """A damaged twin, and a command that another version wrote: the words are kept, the road goes on."""
    car, other = await hub.add_vehicle(), await hub.add_vehicle()
    ordered, strange = await hub.order(car), await hub.order(other)
    await hub.measure(car, limit=80)
    await hub.measure(other, limit=80)
    pool = hub.database.pool
    await pool.execute("UPDATE twin SET reported = $2 WHERE ref = $1", int(car.ref), b"\xff\xff\xff\xff")
    await pool.execute("UPDATE command SET act = 'charge.backwards' WHERE ref = $1", int(other.ref))
    assert await hub.say(car, hub.report(ordered, "applied", at_us=1)) == [None]
    assert await hub.say(other, hub.report(strange, "applied", at_us=1)) == [None]
    await hub.verifier.look()
    for one in (ordered, strange):
        assert (await hub.commands.standing(one.id)).state == "applied"
