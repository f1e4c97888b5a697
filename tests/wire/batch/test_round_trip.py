"""What is packed comes out again: values, instants, marks; alone and side by side with others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rocade.core.errors import Refused
from rocade.wire.batch import Batch, Clock, Column, Mark, Template, check_many, decode_many, layout, pack

T0_US = 1_760_000_000_000_000
SECOND = T0_US + np.arange(4) * 1_000_000


def one(values: Any, times: Any = SECOND, **column: Any) -> Batch:
    return Batch(9, 1, T0_US, [Clock(times)], [Column(77, 0, values, **column)])


def values_of(*bodies: bytes) -> list[Any]:
    decoded = decode_many(bodies)
    assert decoded.reasons == [None] * len(bodies)
    columns = decoded.columns
    return [columns.values_of(column) for column in np.argsort(columns.order).tolist()]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([50.5] * 4, layout.CONSTANT),
        ([12.5, 12.6, 12.4, 12.4], layout.INT8),
        ([12.5, 12.6, 30.0, 12.4], layout.INT16),
        ([-6.8586350, -6.8586351, -6.9586352, -6.8586352], layout.INT32),
        ([-6.8586350, -6.8586351, 1555.6333, -6.8586352], layout.INT64),
        ([0.1 + 0.2, 1.0, 2.0, 3.0], layout.FLOAT64),
        ([np.nan, np.inf, -np.inf, 1.0], layout.FLOAT64),
        ([1e300, 5e-324, 1.0, 2.0], layout.FLOAT64),
    ],
)
def test_each_column_takes_the_narrowest_kind_that_is_exact(values: list[float], kind: int) -> None:
    body = pack(one(np.array(values)))
    assert decode_many([body]).columns.kind.tolist() == [kind]
    np.testing.assert_array_equal(values_of(body)[0], values)


@pytest.mark.parametrize(
    "values",
    [
        np.array([True, False, False, True]),
        np.array([1, 2**62, -(2**63), 2**63 - 1]),
        np.array([0, 255, 7, 7], np.uint8),
        ["D", "N", "D", "größer"],
        ["", "", "", ""],
    ],
)
def test_bits_integers_and_texts_come_back(values: Any) -> None:
    found = values_of(pack(one(values)))[0]
    assert list(found) == list(values)


@pytest.mark.parametrize(
    "times",
    [
        [T0_US],
        [T0_US, T0_US, T0_US],
        [T0_US, T0_US + 1, T0_US + 70_000],
        [T0_US + 5_000_000, T0_US, T0_US + 2_000_000],
        [T0_US, T0_US + 86_400_000_000],
        [T0_US, T0_US + 7, T0_US + 7 + 2**31 - 1],
    ],
)
def test_instants_come_back_whatever_their_distances(times: list[int]) -> None:
    decoded = decode_many([pack(one(np.arange(len(times)), np.array(times)))])
    assert decoded.clocks.times_of(0).tolist() == times
    assert int(decoded.clocks.last_us[0]) == max(times)


def test_missing_values_do_not_travel() -> None:
    present = np.array([True, False, False, True])
    decoded = decode_many([pack(one(np.array([1.5, 0, 0, 2.5]), present=present))])
    assert decoded.columns.values_of(0).tolist() == [1.5, 2.5]
    assert decoded.clocks.times_of(int(decoded.columns.clock[0])).tolist() == [SECOND[0], SECOND[3]]


def test_a_column_without_any_value_is_left_out() -> None:
    assert len(decode_many([pack(one(np.zeros(4), present=np.zeros(4, bool)))]).columns.rows) == 0


def test_decimals_that_are_given_round_the_values() -> None:
    assert values_of(pack(one(np.array([0.1 + 0.2, 1, 2, 3]), decimals=1)))[0].tolist() == [0.3, 1.0, 2.0, 3.0]


def test_marks_of_a_clock_reach_all_its_columns() -> None:
    columns = [Column(1, 0, np.arange(4)), Column(2, 0, np.arange(4) / 3), Column(3, 1, np.arange(2))]
    batch = Batch(
        1, 1, T0_US, [Clock(SECOND), Clock(SECOND[:2])], columns, [Mark(3, 64, clock=0), Mark(1, 4, column=2)]
    )
    decoded = decode_many([pack(batch)])
    found = {
        (int(decoded.columns.signal[column]), int(row), int(flags))
        for column, row, flags in zip(decoded.mark_column, decoded.mark_row, decoded.mark_flags, strict=True)
    }
    assert found == {(1, 3, 64), (2, 3, 64), (3, 1, 4)}


def test_a_template_moves_identity_and_instants_and_leaves_the_rest() -> None:
    body = pack(one(np.array([1.5, 2.5, 9.0, 4.0])))
    moved = Template(body).stamp(epoch=5, sequence=6, sent_at_us=T0_US + 99, start_us=T0_US + 60)
    decoded = decode_many([moved])
    assert (int(decoded.epoch[0]), int(decoded.sequence[0]), int(decoded.sent_at_us[0])) == (5, 6, T0_US + 99)
    assert decoded.clocks.times_of(0).tolist() == (SECOND + 60).tolist()
    assert decoded.columns.values_of(0).tolist() == [1.5, 2.5, 9.0, 4.0]
    assert decode_many([Template(body).stamp(epoch=9, sequence=1, sent_at_us=T0_US, start_us=T0_US)]).reasons == [None]


def test_a_batch_without_columns_is_sound() -> None:
    checked = check_many([pack(Batch(1, 5, T0_US))])
    assert checked.reasons == [None]
    assert checked.points.tolist() == [0]


@pytest.mark.parametrize(
    "batch",
    [
        one(np.arange(3)),
        one(np.array([2**63] * 4, np.uint64)),
        Batch(1, 1, T0_US, [], [Column(1, 0, np.arange(4))]),
        Batch(1, 1, T0_US, [Clock(np.zeros(0, np.int64))]),
        one(np.arange(2), np.array([0, 10**15 + 7])),
    ],
)
def test_what_the_format_cannot_hold_is_refused_when_packing(batch: Batch) -> None:
    with pytest.raises(Refused, match=r"batch\.unpackable"):
        pack(batch)


columns_of_any_kind = st.one_of(
    hnp.arrays(np.float64, 5, elements=st.floats(width=64)),
    hnp.arrays(np.float64, 5, elements=st.integers(-(10**9), 10**9).map(lambda n: n / 1000)),
    hnp.arrays(np.int64, 5),
    hnp.arrays(np.bool_, 5),
    st.lists(st.text(max_size=5), min_size=5, max_size=5),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 2**30), min_size=5, max_size=5),
            st.lists(st.tuples(columns_of_any_kind, st.integers(1, 31)), max_size=4),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_many_batches_decoded_together_equal_each_alone(makes: list[Any]) -> None:
    bodies, expected = [], []
    for times, columns in makes:
        made, held = [], []
        for values, bits in columns:
            present = np.array([bool(bits >> row & 1) for row in range(5)])
            made.append(Column(3, 0, values, present))
            held.append([value for value, is_there in zip(values, present, strict=True) if is_there])
        bodies.append(pack(Batch(1, 1, T0_US, [Clock(np.array(times))], made)))
        expected += held
    found = values_of(*bodies)
    assert len(found) == len(expected)
    for one_found, one_expected in zip(found, expected, strict=True):
        if isinstance(one_found, list):
            assert one_found == one_expected
        else:
            np.testing.assert_array_equal(np.asarray(one_found, np.float64), np.asarray(one_expected, np.float64))
