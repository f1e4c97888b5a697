"""Real charging sessions of a workplace: more drivers served than by least laxity first, no energy lost, nothing known beforehand.

The peer here is that rule written down in a few lines; beside ACN-Sim's own, which gives the same to the last car: `make bench ONLY=charging`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from benchmarks.charging_sessions import FULL_KW, PERIOD_US, SERVED, TRUE, TYPED, Session, offline_bound, weekdays

from rocade.services.charging.planning.limits import Tree
from rocade.services.charging.planning.online import OnlineScheduler

PERIOD_H = 1 / 12
JPL = "charging/acn_jpl_2019-05_2019-08.csv.gz"


def ours(sessions: Sequence[Session], cap_kw: float) -> np.ndarray:
    online = OnlineScheduler(Tree.single(cap_kw))
    got = np.zeros(len(sessions))
    for period in range(sessions[0].arrival, max(one.departure for one in sessions)):
        for at, one in enumerate(sessions):
            if one.departure == period:
                online.leave(str(at))
            if one.arrival == period:
                online.arrive(str(at), one.declared * PERIOD_US, one.need_kwh, FULL_KW)
        powers = online.powers(period * PERIOD_US)
        assert sum(powers.values()) <= cap_kw + 1e-6
        for name, power in powers.items():
            at = int(name)
            got[at] = min(got[at] + power * PERIOD_H, sessions[at].need_kwh)
            online.metered(name, float(got[at]))
    return got


def least_laxity_first(sessions: Sequence[Session], cap_kw: float) -> np.ndarray:
    got = np.zeros(len(sessions))
    for period in range(sessions[0].arrival, max(one.departure for one in sessions)):
        lacks = {at: one.need_kwh - got[at] for at, one in enumerate(sessions) if one.arrival <= period < one.departure}
        here = [at for at, lack in lacks.items() if lack > 1e-3]
        free = cap_kw
        for at in sorted(here, key=lambda at: sessions[at].declared - lacks[at] / FULL_KW / PERIOD_H):
            power = min(FULL_KW, lacks[at] / PERIOD_H, free)
            got[at] += power * PERIOD_H
            free -= power
    return got


def served(got: np.ndarray, sessions: Sequence[Session]) -> int:
    return int((got >= SERVED * np.array([one.need_kwh for one in sessions]) - 1e-6).sum())


@pytest.mark.parametrize(("cap_kw", "day"), [(30, 0), (50, 1), (80, 0), (80, 2)])
def test_a_congested_day_serves_more_drivers_at_no_loss_of_energy(data: Path, cap_kw: float, day: int) -> None:
    sessions = weekdays(data / JPL, 3)[day]
    mine, theirs = ours(sessions, cap_kw), least_laxity_first(sessions, cap_kw)
    assert served(theirs, sessions) < 0.9 * len(sessions)
    assert served(mine, sessions) >= 1.3 * served(theirs, sessions)
    assert mine.sum() >= 0.999 * theirs.sum()


def test_no_day_beats_its_offline_bound(data: Path) -> None:
    sessions = weekdays(data / JPL, 1)[0]
    most_kwh, most_served = offline_bound(sessions, 50)
    mine = ours(sessions, 50)
    assert mine.sum() <= most_kwh * (1 + 1e-6)
    assert served(mine, sessions) <= most_served + 1e-6


def test_with_what_drivers_typed_in_more_are_served_too(data: Path) -> None:
    sessions = weekdays(data / JPL, 1, TYPED)[0]
    mine, theirs = ours(sessions, 50), least_laxity_first(sessions, 50)
    assert served(mine, sessions) >= 1.3 * served(theirs, sessions)
    assert mine.sum() >= 0.97 * theirs.sum()


@pytest.mark.slow
@pytest.mark.parametrize("cap_kw", [30, 50, 80])
def test_on_the_weekdays_of_a_month_the_median_is_well_above(data: Path, cap_kw: float) -> None:
    times, energy = [], []
    for sessions in weekdays(data / JPL, 22, TRUE):
        mine, theirs = ours(sessions, cap_kw), least_laxity_first(sessions, cap_kw)
        assert mine.sum() >= 0.998 * theirs.sum()
        if served(theirs, sessions) < 0.9 * len(sessions):
            times.append(served(mine, sessions) / served(theirs, sessions))
            energy.append(mine.sum() / theirs.sum())
    assert np.median(times) >= 1.3
    assert np.median(energy) >= 0.999
