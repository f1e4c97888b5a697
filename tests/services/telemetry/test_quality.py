"""Each rule of quality on small batches, alone and across batches; no engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rocade.core import catalogue
from rocade.core.signals import Quality
from rocade.fabric.log import Record
from rocade.services.telemetry import chunks
from rocade.services.telemetry.decoding import Outcome, State, digest
from rocade.services.vehicles.twin import values_of
from rocade.wire.batch import Batch, Clock, Column, Mark, pack

T0_US = 1_760_000_000_000_000
CATALOGUE = catalogue.standard()
REF = 5


def signal(name: str) -> int:
    return int(CATALOGUE.by_name(f"Vehicle.{name}").id)


SPEED, LATITUDE, LONGITUDE = signal("Speed"), signal("CurrentLocation.Latitude"), signal("CurrentLocation.Longitude")
CHARGE = signal("Powertrain.TractionBattery.StateOfCharge.Current")
CURRENT = signal("Powertrain.TractionBattery.CurrentCurrent")


@pytest.fixture
def state() -> State:
    made = State(CATALOGUE)
    made.sequences.load(REF, [])
    made.twins.load(REF, None)
    return made


class Sender:
    """Numbers batches, and reads the flags that come out."""

    def __init__(self, state: State) -> None:
        self.state, self.number = state, 0

    def batch(
        self, columns: dict[int, Any], start_s: float = 0, step_s: float = 1, sent_s: float | None = None, **more: Any
    ) -> bytes:
        self.number += 1
        rows = max(len(values) for values in columns.values())
        times = T0_US + int(start_s * 1e6) + np.arange(rows) * int(step_s * 1e6)
        sent_us = int(times[-1]) if sent_s is None else T0_US + int(sent_s * 1e6)
        made = [
            Column(signal, 0, values if isinstance(values[0], str) else np.array(values))
            for signal, values in columns.items()
        ]
        return pack(Batch(1, self.number, sent_us, [Clock(more.pop("times", times))], made, **more))

    def send(self, *bodies: bytes, arrived_s: float = 1e6) -> Outcome:
        arrived_us = T0_US + int(arrived_s * 1e6)
        return digest([Record(0, REF, 1, arrived_us, body) for body in bodies], self.state)

    def flags(self, *bodies: bytes, arrived_s: float = 1e6) -> dict[int, list[int]]:
        """Flags of all samples by signal, in order of time."""
        found: dict[int, list[tuple[int, int]]] = {}
        for table in self.send(*bodies, arrived_s=arrived_s).rows:
            for row in range(table.num_rows):
                some = chunks.samples_of(table.slice(row, 1))
                found.setdefault(table["signal"][row].as_py(), []).extend(
                    zip(some.time_us.tolist(), some.quality.tolist(), strict=True)
                )
        return {number: [flag for _, flag in sorted(pairs)] for number, pairs in found.items()}


@pytest.fixture
def sender(state: State) -> Sender:
    return Sender(state)


OUT, JUMP, STUCK, CLOCK, ZERO, IMPOSSIBLE, REPAIRED, NOT_FINITE = (
    int(flag)
    for flag in (Quality.OUT_OF_RANGE, Quality.JUMP, Quality.STUCK, Quality.CLOCK, Quality.ZERO_POSITION, Quality.IMPOSSIBLE_POSITION, Quality.TIME_REPAIRED, Quality.NOT_FINITE)
)  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({SPEED: [10.0, 12.5, 11.0]}, {SPEED: [0, 0, 0]}),
        ({SPEED: [500.0] * 3}, {SPEED: [OUT] * 3}),
        ({CURRENT: [10.0, 2000.0, 2000.1, -2000.5]}, {CURRENT: [0, 0, OUT, OUT]}),
        ({SPEED: [10.0, float("nan"), 11.0]}, {SPEED: [0, NOT_FINITE, 0]}),
        ({CURRENT: [10.0, float("inf"), 11.0]}, {CURRENT: [0, NOT_FINITE | OUT, 0]}),
        ({CHARGE: [14.72, 0.02, 13.32, 13.3]}, {CHARGE: [0, JUMP, 0, 0]}),
        ({CHARGE: [68, 6, 6, 66]}, {CHARGE: [0, JUMP, 0, JUMP]}),
        ({CHARGE: [50.0, 20.0, 19.9, 19.8]}, {CHARGE: [0, JUMP, 0, 0]}),
        (
            {LATITUDE: [33.9, 0.0, 33.9], LONGITUDE: [-6.8, -6.8, -6.8]},
            {LATITUDE: [0, JUMP | ZERO, 0], LONGITUDE: [0, ZERO, 0]},
        ),
        ({LATITUDE: [0.0, 0.0], LONGITUDE: [0.0, 0.0]}, {LATITUDE: [ZERO, ZERO], LONGITUDE: [ZERO, ZERO]}),
        ({LATITUDE: [51.4, 51.4], LONGITUDE: [0.0, 0.0001]}, {LATITUDE: [0, 0], LONGITUDE: [0, 0]}),
        ({LONGITUDE: [-6.8, 1555.6333, -6.8]}, {LONGITUDE: [0, OUT | JUMP | IMPOSSIBLE, 0]}),
        ({LATITUDE: [90.0, 90.0000001]}, {LATITUDE: [0, OUT | IMPOSSIBLE]}),
    ],
)
def test_values_are_flagged_by_their_limits(
    sender: Sender, columns: dict[int, Any], expected: dict[int, list[int]]
) -> None:
    assert sender.flags(sender.batch(columns)) == expected


def test_a_jump_shows_across_batches_too(sender: Sender) -> None:
    assert sender.flags(sender.batch({CHARGE: [50.0, 50.0]})) == {CHARGE: [0, 0]}
    assert sender.flags(sender.batch({CHARGE: [20.0, 20.0]}, 2)) == {CHARGE: [JUMP, 0]}
    assert sender.flags(sender.batch({CHARGE: [90.0]}, 4000)) == {CHARGE: [0]}


def test_two_batches_of_one_block_are_judged_like_two_blocks(sender: Sender) -> None:
    both = sender.batch({CHARGE: [50.0, 50.0]}), sender.batch({CHARGE: [20.0, 20.0]}, 2)
    assert sender.flags(*both) == {CHARGE: [0, 0, JUMP, 0]}


def test_the_rate_is_judged_by_the_instants_not_by_the_rows(sender: Sender) -> None:
    assert sender.flags(sender.batch({CHARGE: [50.0, 20.0, 50.0]}, step_s=60)) == {CHARGE: [0, 0, 0]}


def test_samples_later_than_sent_are_flagged_and_late_ones_are_not(sender: Sender) -> None:
    assert sender.flags(sender.batch({SPEED: [1.0, 2.0, 3.0]}, sent_s=1)) == {SPEED: [0, 0, CLOCK]}
    assert sender.flags(sender.batch({SPEED: [4.0]}, 10), arrived_s=3e7) == {SPEED: [0]}


def test_a_sender_a_day_ahead_of_arrival_has_all_its_samples_flagged(sender: Sender) -> None:
    body = sender.batch({SPEED: [1.0, 2.0]}, start_s=86_400)
    assert sender.flags(body, arrived_s=2) == {SPEED: [CLOCK, CLOCK]}


def test_skew_is_told_with_the_twin(sender: Sender) -> None:
    (row,) = sender.send(sender.batch({SPEED: [1.0]}, sent_s=7), arrived_s=5).twins
    assert row.skew_us == 2_000_000


def test_a_value_that_never_changes_while_the_vehicle_moves_is_stuck(sender: Sender) -> None:
    flags: dict[int, list[int]] = {LATITUDE: [], CHARGE: []}
    for minute in range(4):
        speeds = list(np.arange(60) % 7 + 30.0)
        found = sender.flags(sender.batch({SPEED: speeds, LATITUDE: [33.5] * 60, CHARGE: [50.0] * 60}, minute * 60))
        for number, some in flags.items():
            some += found[number]
    assert flags[LATITUDE] == [0] * 121 + [STUCK] * 119
    assert not any(flags[CHARGE])


def test_a_parked_vehicle_is_not_stuck(sender: Sender) -> None:
    for minute in range(4):
        found = sender.flags(sender.batch({SPEED: [0.0] * 60, LATITUDE: [33.5] * 60}, minute * 60))
    assert not any(found[LATITUDE])


def test_marks_of_the_source_stand_beside_our_own(sender: Sender) -> None:
    body = sender.batch({SPEED: [1.0, 500.0, 3.0], CURRENT: [1, 2, 3]}, marks=[Mark(1, REPAIRED, clock=0)])
    assert sender.flags(body) == {SPEED: [0, REPAIRED | OUT | JUMP, 0], CURRENT: [0, REPAIRED, 0]}


def test_samples_of_a_clock_that_runs_backwards_are_put_in_order_with_their_marks(sender: Sender) -> None:
    times = T0_US + np.array([3, 1, 2]) * 1_000_000
    body = sender.batch({CURRENT: [30.0, 10.0, 5000.0]}, times=times, sent_s=9, marks=[Mark(0, REPAIRED, clock=0)])
    (table,) = sender.send(body).rows
    some = chunks.samples_of(table)
    assert some.time_us.tolist() == sorted(times.tolist())
    assert some.value.tolist() == [10.0, 5000.0, 30.0]
    assert some.quality.tolist() == [0, OUT, REPAIRED]


def test_the_twin_keeps_the_newest_value_and_since_when_it_is_the_same(sender: Sender) -> None:
    sender.send(sender.batch({SPEED: [1.0, 2.0, 2.0]}))
    sender.send(sender.batch({SPEED: [2.0, 2.0], 77: ["a", "b"]}, 60))
    (row,) = sender.send(sender.batch({SPEED: [9.0]}, -500)).twins
    values = values_of(row.reported)
    assert (values[SPEED].value, values[SPEED].time_us) == (2.0, T0_US + 61_000_000)
    assert values[SPEED].changed_us == T0_US + 2_000_000
    assert values[77].value == "b"
    assert row.speed_kmh == 2.0


def test_of_batches_that_overlap_in_one_block_the_twin_keeps_what_ended_last(sender: Sender) -> None:
    """A vehicle's clock was set back: what began last did not end last."""
    (row,) = sender.send(sender.batch({SPEED: [1.0, 2.0, 3.0]}), sender.batch({SPEED: [9.0]}, 1)).twins
    value = values_of(row.reported)[SPEED]
    assert (value.value, value.time_us) == (3.0, T0_US + 2_000_000)


def test_a_void_position_does_not_reach_the_map(sender: Sender) -> None:
    (row,) = sender.send(sender.batch({LATITUDE: [33.5, 0.0], LONGITUDE: [-6.8, -6.8]})).twins
    assert (row.latitude, row.longitude) == (None, None)
    (row,) = sender.send(sender.batch({LATITUDE: [33.5, 33.5], LONGITUDE: [-6.8, -6.8]}, 100)).twins
    assert (row.latitude, row.longitude) == (33.5, -6.8)


def test_digesting_again_from_the_same_state_gives_the_same_rows(sender: Sender) -> None:
    bodies = [sender.batch({SPEED: list(np.arange(60) % 9 * 1.5), 77: ["x", "y"] * 30}, k * 60) for k in range(5)]
    results = []
    for _ in range(2):
        fresh = Sender(State(CATALOGUE))
        fresh.state.sequences.load(REF, [])
        fresh.state.twins.load(REF, None)
        outcome = fresh.send(*bodies)
        results.append((outcome.twins, outcome.numbers, outcome.rows))
    assert results[0] == results[1]
