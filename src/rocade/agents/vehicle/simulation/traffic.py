"""Movement of all vehicles at once: speed limits, junctions, traffic lights, the vehicle ahead, stops, turns.

Flow per step: what ends the free run (limit, driver, junction, light, leader, parking) -> the speed from which braking
still reaches that point -> acceleration within what tyres, power and people like -> position along the edge -> the next
edge where it ended. Two-wheelers pass beside the queue.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rocade.agents.vehicle.simulation.models import Model
from rocade.agents.vehicle.simulation.town import POINTS, Town

GRAVITY = 9.81
_LIGHT_CYCLE_S = 50.0
_CAR_GAP_M = 7.0
_TURN_COMFORT = 2.0
"""Sideways acceleration people like, m/s2."""
type Floats = NDArray[np.float64]


class Traffic:
    """Where every vehicle is and how fast. Shape: one entry per vehicle in all arrays. Units: m, m/s, m/s2, radians."""

    def __init__(self, models: Sequence[Model], town: Town, random: np.random.Generator) -> None:
        count = len(models)
        self.town, self._random = town, random
        self._top = np.array([model.top_mps for model in models])
        self._eager = np.array([model.acceleration for model in models])
        self._power_w = np.array([model.power_kw for model in models]) * 1000
        self._mass = np.array([model.mass_kg for model in models])
        self._is_narrow = np.array([model.kind in ("bicycle", "standing_scooter", "moped") for model in models])
        self._slow = np.array([model.kind in ("bicycle", "standing_scooter") for model in models])
        self._habit = random.normal(0.97, 0.06, count).clip(0.8, 1.12)
        may = np.flatnonzero(np.isin(town.road_class, ("street", "avenue", "boulevard")))
        self.edge = np.where(self._slow, random.choice(may, count), random.integers(0, len(town.start), count))
        self.along_m = random.uniform(0, 1, count) * town.length_m[self.edge]
        self.speed = np.zeros(count)
        self.acceleration = np.zeros(count)
        self.odometer_m = random.uniform(200, 90_000, count) * np.where(self._slow, 20, 1000) / 10
        self.trip_m = np.zeros(count)
        self.parked_s = np.where(random.random(count) < 0.1, random.uniform(0, 60, count), 0.0)
        self._drive_s = random.uniform(120, 1500, count)
        self._is_held = np.zeros(count, bool)
        self._next = self._choose(np.arange(count))

    def step(self, dt_s: float, now_s: float, must_stop: NDArray[np.bool_]) -> None:
        """Move everything by dt; `must_stop` holds vehicles where they are (charging, refuelling)."""
        town, edge = self.town, self.edge
        self._is_held = must_stop
        left = town.length_m[edge] - self.along_m
        wanted = np.minimum(town.limit_mps[edge] * self._habit, self._top)
        brake = 0.75 * self._eager.clip(1.0, 2.2)
        turn = np.abs(np.angle(np.exp(1j * (town.heading_in[self._next] - town.heading_out[edge]))))
        at_end = np.sqrt(_TURN_COMFORT * 9.0 / np.maximum(turn, 0.05)).clip(2.0, 40.0)
        at_end = np.where(turn > 2.6, 1.5, at_end)
        red = town.is_signalled[town.end[edge]] & (
            ((now_s / _LIGHT_CYCLE_S + town.end[edge] * 0.37) % 1 < 0.5).astype(np.int64) != town.green_axis[edge]
        )
        at_end = np.where(red & (left > 3), 0.0, at_end)
        wanted = np.minimum(wanted, np.sqrt(at_end**2 + 2 * brake * np.maximum(left - 2, 0)))
        wanted = np.minimum(wanted, self._behind_leader(brake))
        self._drive_s -= dt_s
        ends = (self._drive_s <= 0) & (self.parked_s <= 0)
        self.parked_s = np.where(ends & (self.speed < 1.5), self._random.uniform(20, 120, len(edge)), self.parked_s)
        wanted = np.where(ends | (self.parked_s > 0) | must_stop, 0.0, wanted)
        starts = (self.parked_s > 0) & (self.parked_s <= dt_s) & ~must_stop
        self._drive_s = np.where(starts, self._random.uniform(300, 1800, len(edge)), self._drive_s)
        self.trip_m = np.where(starts, 0.0, self.trip_m)
        self.parked_s = np.where(must_stop, self.parked_s, np.maximum(self.parked_s - dt_s, 0.0))

        able = np.minimum(self._eager, 0.9 * self._power_w / (self._mass * np.maximum(self.speed, 1.0)))
        target = ((wanted - self.speed) / 1.6).clip(-1.6 * brake, able)
        self.acceleration += (target - self.acceleration) * min(1.0, dt_s / 0.7)
        speed = np.maximum(self.speed + self.acceleration * dt_s, 0.0)
        speed = np.where((wanted < 0.2) & (speed < 0.6), 0.0, speed)
        self.acceleration = (speed - self.speed) / dt_s
        moved = (self.speed + speed) / 2 * dt_s
        self.speed = speed
        self.along_m += moved
        self.odometer_m += moved
        self.trip_m += moved
        done = np.flatnonzero(self.along_m >= town.length_m[self.edge])
        if len(done):
            self.along_m[done] -= town.length_m[self.edge[done]]
            self.edge[done] = self._next[done]
            self._next[done] = self._choose(done)

    def place(self) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """(x, y, z, heading in radians from north, grade) of every vehicle."""
        town = self.town
        share = (self.along_m / town.length_m[self.edge]).clip(0, 1 - 1e-9) * (POINTS - 1)
        at = share.astype(np.int64)
        a, b = town.geometry_m[self.edge, at], town.geometry_m[self.edge, at + 1]
        point = a + (b - a) * (share - at)[:, None]
        run = np.hypot(b[:, 0] - a[:, 0], b[:, 1] - a[:, 1])
        heading = np.arctan2(b[:, 0] - a[:, 0], b[:, 1] - a[:, 1]) % (2 * np.pi)
        return point[:, 0], point[:, 1], point[:, 2], heading, (b[:, 2] - a[:, 2]) / np.maximum(run, 1.0)

    def _behind_leader(self, brake: Floats) -> Floats:
        """Speed that still stops behind the vehicle ahead on the same edge; two-wheelers pass."""
        order = np.lexsort((self.along_m, self.edge))
        order = order[~self._is_narrow[order]]
        leader, follower = order[1:], order[:-1]
        same = self.edge[leader] == self.edge[follower]
        leader, follower = leader[same], follower[same]
        gap = np.maximum(self.along_m[leader] - self.along_m[follower] - _CAR_GAP_M, 0.0)
        limit = np.full(len(self.edge), np.inf)
        is_parked = (self.parked_s[leader] > 0) | (self._drive_s[leader] <= 0) | self._is_held[leader]
        limit[follower] = np.where(is_parked, np.inf, np.sqrt(self.speed[leader] ** 2 + 2 * brake[follower] * gap))
        return limit

    def _choose(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The next edge of some vehicles: straight on is likelier, the way back only where nothing else leads on."""
        town = self.town
        options = town.turns[self.edge[rows]]
        there = options >= 0
        turn = np.angle(np.exp(1j * (town.heading_in[options] - town.heading_out[self.edge[rows]][:, None])))
        weight = np.where(there, np.exp(-np.abs(turn) * 0.8), 0.0)
        is_back = options == (self.edge[rows] ^ 1)[:, None]
        weight = np.where(is_back, 1e-6, weight)
        fast = town.limit_mps[options] > 14.5
        weight = np.where(fast & self._slow[rows][:, None], weight * 1e-3, weight)
        total = np.cumsum(weight, axis=1)
        pick = (self._random.random(len(rows))[:, None] * total[:, -1:] > total).sum(axis=1)
        return np.asarray(options[np.arange(len(rows)), pick.clip(0, options.shape[1] - 1)])
