"""A fleet in motion: steps all vehicles, remembers the last minutes, gives one vehicle's samples as a batch.

Flow: `step` once a second (traffic in half-second steps, energy, receiver noise) records one row for everybody; `batch`
cuts the rows of one vehicle since its last batch; `sample` says how one is now, for what a command changed. Same seed,
models and times give the same samples.
Cost: docs/decisions/0020-vehicle-agent.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rocade.agents.vehicle.simulation.channels import CHANNELS, TIMER, round_like_sensor
from rocade.agents.vehicle.simulation.controls import Controls
from rocade.agents.vehicle.simulation.energy import Energy
from rocade.agents.vehicle.simulation.models import MODELS, Model
from rocade.agents.vehicle.simulation.town import Town
from rocade.agents.vehicle.simulation.traffic import Floats, Traffic
from rocade.core.catalogue import Catalogue
from rocade.wire.batch import Batch, Clock, Column

_SUBSTEPS = 2
_NOISE_M = 1.2
_ASLEEP_STEPS = 60
"""A sleeping vehicle sends one of so many samples."""


def draw_models(count: int, seed: int, models: Sequence[Model] = MODELS) -> list[Model]:
    """A mixed fleet: every model at least once when there is room, then by their shares."""
    random = np.random.default_rng(seed)
    share = np.array([model.share for model in models])
    drawn = random.choice(len(models), count, p=share / share.sum())
    drawn[: min(count, len(models))] = np.arange(min(count, len(models)))
    return [models[place] for place in drawn]


class Fleet:
    """Shape: vehicle i of `models` is column i everywhere; `remember_s` rows are kept."""

    def __init__(
        self,
        models: Sequence[Model],
        town: Town,
        catalogue: Catalogue,
        seed: int = 1,
        remember_s: int = 120,
        sleep_after_s: float = math.inf,
    ) -> None:
        self._random = np.random.default_rng(seed)
        self.models, self.town = list(models), town
        self.outside_c: Floats = np.full(len(models), 14.0)
        self.traffic: Traffic = Traffic(models, town, self._random)
        self.controls: Controls = Controls(models, np.random.default_rng(seed + 1), sleep_after_s)
        self.energy: Energy = Energy(models, 14.0, self._random, self.controls)
        self._noise = self._random.normal(0, _NOISE_M, (2, len(models)))
        self._rows = np.zeros((remember_s, len(CHANNELS), len(models)))
        self._at_us = np.zeros(remember_s, np.int64)
        self._is_silent = np.zeros((remember_s, len(models)), bool)
        """Rows that a sleeping vehicle does not send."""
        self._minute = np.arange(len(models))
        self.steps = 0
        ids = [catalogue.by_name(channel.signal).id for channel in CHANNELS]
        self._columns = [
            [
                (place, ids[place], channel.decimals)
                for place, channel in enumerate(CHANNELS)
                if channel.belongs_to(model)
            ]
            for model in models
        ]
        timer = tuple(int(catalogue.by_name(name).id) for name in TIMER)
        self._texts = [timer if model.battery_kwh > 3 else () for model in models]
        self.latitude: Floats = np.zeros(len(models))
        self.longitude: Floats = np.zeros(len(models))
        self.altitude: Floats = np.zeros(len(models))
        self.heading: Floats = np.zeros(len(models))
        self._locate()

    def step(self, at_us: int, dt_s: float = 1.0) -> None:
        """Move by dt and record one sample of everything at `at_us`."""
        now_s = at_us / 1e6
        ambient = 14 + 6 * math.sin((now_s % 86_400) / 86_400 * 2 * math.pi - 2.2)
        self.outside_c = ambient + 0.3 * self._noise[0]
        for _ in range(_SUBSTEPS):
            self.traffic.step(dt_s / _SUBSTEPS, now_s, self.energy.must_stop)
        grade = self._locate()
        self.controls.step(at_us, dt_s, self.traffic.speed, self.energy.charge, self.energy.is_charging)
        self.energy.step(dt_s, self.traffic.speed, self.traffic.acceleration, grade, ambient)
        self.energy.trip_l = np.where(self.traffic.trip_m < 1, 0.0, self.energy.trip_l)
        row = self.steps % len(self._rows)
        self._at_us[row] = at_us
        for place, channel in enumerate(CHANNELS):
            self._rows[row, place] = round_like_sensor(channel.read(self), channel.decimals)
        self._is_silent[row] = self.controls.asleep & ((self.steps + self._minute) % _ASLEEP_STEPS != 0)
        self.steps += 1

    def batch(self, vehicle: int, since: int) -> tuple[Batch, int] | None:
        """Samples of one vehicle from step `since` on, as a batch without epoch and number, with its points."""
        first = max(since, self.steps - len(self._rows))
        rows = np.arange(first, self.steps) % len(self._rows)
        rows = rows[~self._is_silent[rows, vehicle]]
        if not len(rows):
            return None
        return self._packed(vehicle, self._at_us[rows], self._rows[rows, :, vehicle], self._columns[vehicle])

    def sample(self, vehicle: int, at_us: int) -> tuple[Batch, int]:
        """What of one vehicle is switched or asked for, as it is at this instant: what must be told at once."""
        self.controls.decide(self.energy.charge)
        self.energy.choose_charging()
        chosen = [one for one in self._columns[vehicle] if CHANNELS[one[0]].is_switched]
        row = np.zeros((1, len(CHANNELS)))
        for place, _, decimals in chosen:
            row[0, place] = round_like_sensor(CHANNELS[place].read(self)[vehicle], decimals)
        return self._packed(vehicle, np.array([at_us]), row, chosen)

    def _packed(
        self, vehicle: int, at_us: NDArray[np.int64], values: Floats, chosen: Sequence[tuple[int, int, int]]
    ) -> tuple[Batch, int]:
        columns = [
            Column(signal, 0, values[:, place] if decimals >= 0 else values[:, place] > 0.5, decimals=max(decimals, 0))
            for place, signal, decimals in chosen
        ]
        points = len(at_us) * len(columns)
        if self._texts[vehicle]:
            last = np.arange(len(at_us)) == len(at_us) - 1
            said = self.controls.timer(vehicle)
            columns += [
                Column(signal, 0, [text] * len(at_us), present=last)
                for signal, text in zip(self._texts[vehicle], said, strict=True)
            ]
            points += len(said)
        return Batch(0, 0, 0, [Clock(at_us)], columns), points

    @property
    def range_m(self) -> Floats:
        """What the dashboard promises: charge times a usual consumption of the model."""
        capacity = np.array([model.battery_kwh for model in self.models])
        usual = np.array([max(model.mass_kg, 150) * 0.000085 + 0.015 for model in self.models])
        return np.asarray(capacity * self.energy.charge / 100 / usual * 1000)

    @property
    def cadence(self) -> Floats:
        return np.where(self.energy.rider_w > 8, 55 + self.traffic.speed * 3.2, 0.0)

    @property
    def nitrogen_after(self) -> Floats:
        """After the catalyst: it works when it is hot and has its fluid."""
        works = ((self.energy.exhaust_c - 180) / 80).clip(0, 1) * (self.energy.urea > 1)
        return np.asarray((40 + 900 * self.energy.load) * (1 - 0.95 * works))

    def _locate(self) -> NDArray[np.float64]:
        """Positions with a receiver's slow wander; returns the grade under the wheels."""
        x, y, z, heading, grade = self.traffic.place()
        self._noise = 0.98 * self._noise + self._random.normal(0, _NOISE_M * 0.2, self._noise.shape)
        still = self.traffic.speed < 0.1
        self.latitude, self.longitude = self.town.to_degrees(x + self._noise[0], y + self._noise[1])
        self.altitude = z
        self.heading = np.where(still & (self.steps > 0), self.heading, np.degrees(heading)) % 360
        return grade
