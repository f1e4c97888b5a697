"""Why a value is doubtful, a batch missing, a record held: from a real road, each sentence with the numbers behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rocade.core import why
from rocade.core.why import Chain
from rocade.services.telemetry import quarantine
from rocade.services.telemetry.explaining import Flags, Gaps, Held
from rocade.wire.batch import Batch, Clock, Column, pack

MINUTE_US = 60_000_000


def told(chain: Chain | None, language: str = "en") -> str:
    assert chain is not None
    return "\n".join(one.text for one in why.sentences(chain, language))


def flags(road: Any) -> Flags:
    return Flags(road.history, road.twins, road.CATALOGUE)


async def drive(road: Any, *columns: tuple[int, list[float]], sent_us: int | None = None, marks: Any = ()) -> int:
    """One batch of these signals at 1 Hz from T0 on, through the whole road; the vehicle's reference."""
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    rows = len(columns[0][1])
    times = road.T0_US + np.arange(rows) * 1_000_000
    made = [Column(signal, 0, np.array(values)) for signal, values in columns]
    sent = int(times[-1]) if sent_us is None else sent_us
    await road.publish(context, pack(Batch(7, 1, sent, [Clock(times)], made, marks=list(marks))))
    await road.drain()
    return int(vehicle.ref)


async def flag(road: Any, ref: int, signal: int, row: int) -> Chain | None:
    return await flags(road).explain(f"{ref}:{signal}:{road.T0_US + row * 1_000_000}")


async def test_a_value_out_of_range_is_told_with_its_limit(road: Any) -> None:
    ref = await drive(road, (road.SPEED, [10.0, 20.0, 500.0]))
    chain = await flag(road, ref, road.SPEED, 2)
    text = told(chain)
    assert "was 500 km/h" in text
    assert "above the highest plausible value, 400 km/h" in text
    assert {fact.id for fact in (chain.facts if chain else ()) if fact.id} == {"quality.out_of_range", "quality.jump"}


async def test_a_jump_is_told_with_the_sample_before_and_the_rate(road: Any) -> None:
    ref = await drive(road, (road.SPEED, [10.0, 12.0, 200.0]))
    text = told(await flag(road, ref, road.SPEED, 2))
    assert "was 12: in 1 s it changed by 188 km/h a second, and 60 is the plausible limit" in text


async def test_a_jump_over_a_batch_and_an_hour_is_found(road: Any) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    before = road.speed_batch(1, [5.0], start_us=road.T0_US)
    after = road.speed_batch(2, [399.0], start_us=road.T0_US + 5_000_000)
    await road.publish(context, before, after)
    await road.drain()
    chain = await flags(road).explain(f"{vehicle.ref}:{road.SPEED}:{road.T0_US + 5_000_000}")
    assert "was 5: in 5 s it changed by 78.8 km/h a second" in told(chain)


async def test_a_stuck_value_is_told_with_its_beginning_and_the_speed(road: Any) -> None:
    distance = int(road.CATALOGUE.by_name("Vehicle.TraveledDistance").id)
    rows = 400
    speeds = [50.0 + (second % 7) for second in range(rows)]
    metres = [1000.0 + second for second in range(50)] + [1049.0] * (rows - 50)
    ref = await drive(road, (road.SPEED, speeds), (distance, metres))
    text = told(await flag(road, ref, distance, 399))
    assert "(350 s)" in text
    assert "up to 56 km/h" in text
    assert "after 300 s" in text


async def test_positions_that_are_none_are_told(road: Any) -> None:
    ref = await drive(road, (road.LATITUDE, [48.8, 0.0, 95.0]), (road.LONGITUDE, [2.3, 0.0, 2.3]))
    assert "latitude is exactly 0" in told(await flag(road, ref, road.LATITUDE, 1))
    assert "beyond ±90°" in told(await flag(road, ref, road.LATITUDE, 2))


async def test_a_clock_ahead_and_a_sample_later_than_its_batch_are_told(road: Any) -> None:
    ref = await drive(road, (road.SPEED, [10.0, 11.0, 12.0]), sent_us=road.T0_US + 500_000)
    assert "later than the message that carried it was sent" in told(await flag(road, ref, road.SPEED, 2))
    vehicle = await road.add_vehicle()
    future_us = road.clock.now_us() + 3_600_000_000
    await road.publish(await road.connect(vehicle), road.speed_batch(1, [10.0], start_us=future_us))
    await road.drain()
    text = told(await flags(road).explain(f"{vehicle.ref}:{road.SPEED}:{future_us}"))
    assert "the sender's clock was ahead" in text


async def test_a_good_value_says_so_and_a_reason_that_is_gone_is_not_invented(road: Any) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle)
    first, last = road.T0_US, road.T0_US + 2_000_000
    await road.publish(
        context, road.speed_batch(1, [10.0], start_us=first), road.speed_batch(3, [200.0], start_us=last)
    )
    await road.drain()
    await road.publish(context, road.speed_batch(2, [190.0], start_us=first + 1_000_000))
    await road.drain()
    assert "no rule had a doubt" in told(await flags(road).explain(f"{vehicle.ref}:{road.SPEED}:{first}"))
    assert "do not show the reason" in told(await flags(road).explain(f"{vehicle.ref}:{road.SPEED}:{last}"))


async def test_each_language_tells_the_same_numbers(road: Any) -> None:
    ref = await drive(road, (road.SPEED, [10.0, 12.0, 200.0]))
    chain = await flag(road, ref, road.SPEED, 2)
    texts = {told(chain, language) for language in why.LANGUAGES}
    assert len(texts) == 3
    assert all("188" in text and "200" in text and "Vehicle.Speed" in text for text in texts)


async def test_a_flag_concerns_the_data_class_of_its_signal_and_counts_as_a_look_at_it(road: Any) -> None:
    ref = await drive(road, (road.SPEED, [10.0]), (road.LATITUDE, [48.0]))
    speed, latitude = await flag(road, ref, road.SPEED, 0), await flag(road, ref, road.LATITUDE, 0)
    assert speed
    assert latitude
    assert (speed.about.acts, speed.about.ref, speed.about.signals) == (("vehicle.history.read",), ref, (road.SPEED,))
    assert speed.about.classes != latitude.about.classes


MALFORMED = [
    "",
    "1",
    "1:2",
    "0:1:1",
    "1:1:x",
    "9" * 20 + ":1:1",
    "1:99999999999:1",
    "-1:1:1",
    "1:1:1:1",
    "1:²:1",
    "1:4:1",
]


@pytest.mark.parametrize("rest", MALFORMED)
async def test_what_is_no_flag_is_none(road: Any, rest: str) -> None:
    assert await flags(road).explain(rest) is None
    assert await Gaps(road.ledger).explain(rest) is None


async def test_a_gap_is_told_from_missing_to_filled(road: Any) -> None:
    vehicle = await road.add_vehicle()
    context, gaps = await road.connect(vehicle), Gaps(road.ledger)
    id = f"{vehicle.ref}:{7:016x}:2"
    await road.publish(context, road.speed_batch(1, [1.0]), road.speed_batch(4, [1.0]))
    await road.drain()
    chain = await gaps.explain(id)
    assert "Batches 2 to 3 of this journal (2) have not come, while 4 has." in told(chain)
    assert "has not been asked for them yet" in told(chain)
    assert chain
    assert chain.about.ref == vehicle.ref
    await road.ledger.asked([(vehicle.ref, 7, road.clock.now_us() + MINUTE_US)])
    assert "so far: 1" in told(await gaps.explain(id))
    await road.publish(context, road.speed_batch(2, [1.0]))
    await road.drain()
    assert "Batch 2 has come" in told(await gaps.explain(id))
    assert "Batches 3 to 3" in told(await gaps.explain(f"{vehicle.ref}:{7:016x}:3"))
    await road.publish(context, road.speed_batch(1, [1.0], epoch=8))
    await road.drain()
    assert "begun a new journal since" in told(await gaps.explain(f"{vehicle.ref}:{7:016x}:3"))
    assert await gaps.explain(f"{vehicle.ref}:{7:016x}:9") is None


async def test_a_held_record_tells_its_reason_and_what_became_of_it(road: Any) -> None:
    vehicle = await road.add_vehicle()
    context = await road.connect(vehicle, protocol=4)
    await road.publish(context, b"\x0fnonsense", protocol=4)
    await road.drain()
    (held,) = await quarantine.list_held(road.ledger)
    chain = await Held(road.ledger).explain(str(held.id))
    assert "batch.malformed" in told(chain)
    assert "kept as it came" in told(chain)
    assert chain
    assert {fact.id for fact in chain.facts if fact.id} == {"batch.malformed"}
    await quarantine.drop(road.ledger, held.id)
    assert "gave it up" in told(await Held(road.ledger).explain(str(held.id)))
    assert await Held(road.ledger).explain("999999") is None
