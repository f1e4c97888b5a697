"""The short cut for familiar messages accepts exactly what the full check accepts."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocade.wire.batch import Batch, Clock, Column, Familiar, Template, check_many, pack


def message(*values: float, start_us: int = 1_000_000) -> bytes:
    columns = [Column(3 + at, 0, np.array([value]), decimals=2) for at, value in enumerate(values)]
    clock = Clock(np.array([start_us], np.int64))
    return pack(Batch(7, 1, 2_000_000, [clock], columns, start_us=start_us), compress=False)


def stamped(body: bytes, sequence: int) -> bytes:
    return Template(body).stamp(epoch=9, sequence=sequence, sent_at_us=5_000_000, start_us=4_000_000)


def facts(bodies: list[bytes], familiar: Familiar | None) -> tuple[object, ...]:
    found = check_many(bodies, None, familiar)
    return (
        found.reasons,
        found.epoch.tolist(),
        found.sequence.tolist(),
        found.sent_at_us.tolist(),
        found.points.tolist(),
        found.vehicle_ids,
    )


def taught() -> Familiar:
    familiar = Familiar()
    check_many([message(12.25, 80.5, -310.0), message(12.25, 80.5)], None, familiar)
    return familiar


def test_a_familiar_message_is_recognised_without_opening() -> None:
    known, rest = taught().recognise([stamped(message(99.75, 1.5, -4.0), 5)])
    assert not rest
    assert known[0].sequence.tolist() == [5]
    assert known[0].points == 3


def test_order_and_facts_are_those_of_the_full_check() -> None:
    bodies = [stamped(message(1.5, float(n), 3.25), n + 1) for n in range(20)] + [message(4.0), b"", message(1.0, 2.0)]
    assert facts(bodies, taught()) == facts(bodies, None)


@pytest.mark.parametrize("field", ["epoch", "sequence", "sent_at_us", "start_us"])
def test_impossible_scalars_of_a_familiar_shape_are_refused(field: str) -> None:
    scalars = {"epoch": 9, "sequence": 4, "sent_at_us": 5, "start_us": 4}
    scalars[field] = 0 if field in ("epoch", "sequence") else -5
    body = Template(message(1.5, 2.5, 3.5)).stamp(**scalars)
    assert facts([body], taught()) == facts([body], None)
    assert facts([body], taught())[0] != [None]


def test_a_broken_checksum_is_seen() -> None:
    body = bytearray(message(1.5, 2.5, 3.5))
    body[-1] ^= 1
    assert check_many([bytes(body)], None, taught()).reasons == ["batch.checksum"]


@settings(max_examples=400, deadline=None)
@given(at=st.integers(0, 200), value=st.integers(0, 255), mend=st.booleans())
def test_any_changed_byte_is_judged_as_the_full_check_does(at: int, value: int, *, mend: bool) -> None:
    """`mend` repairs the checksum, so that the change reaches what lies behind it."""
    body = bytearray(stamped(message(12.5, 80.25, -310.75), 3))
    body[at % len(body)] = value
    if mend:
        body[62:66] = zlib.crc32(bytes(body[68:])).to_bytes(4, "little")
    bodies = [bytes(body)]
    assert facts(bodies, taught()) == facts(bodies, None)
