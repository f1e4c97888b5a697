"""Real minutes as load: 20 signals at 1 Hz from the Twizy drives, different for each vehicle, no constant column.

Speed, state of charge, position, altitude and GPS speed are the real rows of `ROCADE_DATA` (or ../shared/data); the other
fourteen signals, which that car did not record, follow from them by simple physics plus sensor noise in the sensor's own
resolution. Without the data folder the drives come from the simulator, and the conditions of the report say so.
Shape: `drives()` gives arrays [rows, 20]; `minute_bodies` packed batches of 60 rows x 20 signals; `small_bodies` three
points each (speed, state of charge, power).
"""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rocade.core import catalogue
from rocade.wire import batch as wire

POWERTRAIN = "Vehicle.Powertrain"
SIGNALS: tuple[tuple[str, int], ...] = (
    ("Vehicle.Speed", 1),
    (f"{POWERTRAIN}.TractionBattery.StateOfCharge.Current", 2),
    ("Vehicle.CurrentLocation.Latitude", 7),
    ("Vehicle.CurrentLocation.Longitude", 7),
    ("Vehicle.CurrentLocation.Altitude", 1),
    ("Vehicle.CurrentLocation.Heading", 1),
    ("Vehicle.TraveledDistance", 0),
    ("Vehicle.Acceleration.Longitudinal", 2),
    ("Vehicle.Acceleration.Lateral", 2),
    (f"{POWERTRAIN}.TractionBattery.CurrentVoltage", 1),
    (f"{POWERTRAIN}.TractionBattery.CurrentCurrent", 1),
    (f"{POWERTRAIN}.TractionBattery.CurrentPower", 0),
    (f"{POWERTRAIN}.TractionBattery.Temperature.Average", 1),
    (f"{POWERTRAIN}.ElectricMotor.Speed", 0),
    (f"{POWERTRAIN}.ElectricMotor.Torque", 0),
    (f"{POWERTRAIN}.ElectricMotor.Temperature", 1),
    ("Vehicle.Exterior.AirTemperature", 1),
    ("Vehicle.Chassis.SteeringWheel.Angle", 0),
    ("Vehicle.Chassis.Accelerator.PedalPosition", 0),
    ("Vehicle.AngularVelocity.Yaw", 2),
)
type Rows = NDArray[np.float64]


def data_folder() -> Path:
    return Path(os.environ.get("ROCADE_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def drives() -> tuple[list[Rows], str]:
    """All usable drives as [rows, 6] (speed, soc, latitude, longitude, altitude, gps speed), and where they come from."""
    files = sorted((data_folder() / "twizy_gps_soc").glob("*.csv.gz"))
    if not files:
        return _simulated(), "simulated drives (no data folder)"
    found = []
    for file in files:
        with gzip.open(file, "rt", encoding="utf-8-sig") as text:
            rows = [
                [float(row[name]) for name in ("Speed", "Soc", "LAT", "LON", "ALT", "GpsSpeed")]
                for row in csv.DictReader(text)
            ]
        found.append(np.array(rows))
    return found, f"{len(files)} real Twizy drives, {sum(map(len, found)):,} rows"


def _simulated() -> list[Rows]:
    random = np.random.default_rng(7)
    found = []
    for _ in range(17):
        n = 3_300
        wanted = np.repeat(random.uniform(0, 80, n // 30), 30)[:n]
        speed = np.convolve(wanted, np.ones(15) / 15, "same") + random.normal(0, 0.3, n)
        speed = np.maximum(speed, 0)
        north = np.cumsum(speed / 3.6 * np.cos(np.arange(n) / 200)) / 111_000
        east = np.cumsum(speed / 3.6 * np.sin(np.arange(n) / 200)) / 92_000
        altitude = 60 + 30 * np.sin(np.arange(n) / 400)
        found.append(np.stack([speed, 95 - np.cumsum(speed) / 4000, 34 + north, -6.8 + east, altitude, speed + 0.4], 1))
    return found


def widen(drive: Rows, random: np.random.Generator) -> Rows:
    """Shape: [rows, 6] -> [rows, 20], in the order of SIGNALS. Units: VSS."""
    n = len(drive)
    speed, soc, latitude, longitude, altitude, _ = drive.T

    def noise(scale: float) -> NDArray[np.float64]:
        return random.normal(0, scale, n)

    def drift(scale: float) -> NDArray[np.float64]:
        return np.cumsum(random.normal(0, scale, n))

    metres = speed / 3.6
    acceleration = np.gradient(metres) + noise(0.03)
    heading = (np.degrees(np.arctan2(np.gradient(longitude), np.gradient(latitude))) + drift(1.5)) % 360
    yaw = np.gradient(np.unwrap(np.radians(heading))) * 57.3 / 8 + noise(0.1)
    force = 650 * acceleration + 90 + 0.45 * metres**2
    power = force * metres * 1.12 + 250 + noise(20)
    current = power / 56
    voltage = 52 + soc * 0.09 - current * 0.02 + noise(0.05)
    columns = [
        speed, soc, latitude, longitude, altitude + drift(0.05), heading,
        random.integers(1_000, 80_000_000) + np.cumsum(metres), acceleration, metres * np.radians(yaw) + noise(0.05),
        voltage, current, power, 24 + drift(0.03), speed * 105 + noise(4), force * 0.28 / 9, 45 + drift(0.12),
        19 + drift(0.02), yaw * 14 + noise(1.2), np.clip(force / 12, 0, 100) + np.abs(noise(0.8)), yaw,
    ]  # fmt: skip
    wide = np.stack(columns, 1)
    wide[:, 2] += random.uniform(-0.02, 0.02)
    wide[:, 3] += random.uniform(-0.02, 0.02)
    return wide


def minute_bodies(vehicle: int, minutes: int, found: list[Rows], seed: int) -> list[bytes]:
    """`minutes` packed batches of one vehicle: consecutive real minutes from its own place in the drives."""
    random = np.random.default_rng([seed, vehicle])
    usable = [drive for drive in found if len(drive) >= (minutes + 1) * 60]
    drive = usable[int(random.integers(len(usable)))]
    start = int(random.integers(len(drive) - minutes * 60))
    wide = widen(drive[start : start + minutes * 60], random)
    names = catalogue.standard()
    bodies = []
    for minute in range(minutes):
        rows = wide[minute * 60 : (minute + 1) * 60]
        columns = []
        for index, (name, decimals) in enumerate(SIGNALS):
            values = np.round(rows[:, index], decimals)
            if (values == values[0]).all():  # a standing car: the sensor's last digit still moves
                values = np.round(values + random.integers(0, 2, 60) * 10.0**-decimals, decimals)
            columns.append(wire.Column(names.by_name(name).id, 0, values, decimals=decimals))
        clock = wire.Clock(np.arange(60, dtype=np.int64) * 1_000_000)
        bodies.append(wire.pack(wire.Batch(1, 1, 60_000_000, [clock], columns, start_us=0)))
    return bodies


REAL: tuple[tuple[str, int], ...] = tuple(SIGNALS[i] for i in (0, 1, 2, 3, 4))
"""What the Twizy itself recorded of these signals."""


def real_bodies(vehicle: int, minutes: int, found: list[Rows], _seed: int) -> list[bytes]:
    """Consecutive minutes of one real drive as they were recorded: its own five signals, nothing added, nothing repeated.

    Vehicle i gets drive i.
    """
    drive, names, bodies = found[vehicle % len(found)], catalogue.standard(), []
    for minute in range(min(minutes, len(drive) // 60)):
        rows = drive[minute * 60 : (minute + 1) * 60]
        columns = [
            wire.Column(names.by_name(name).id, 0, np.round(rows[:, index], decimals + (index == 0)))
            for index, (name, decimals) in enumerate(REAL)
        ]
        clock = wire.Clock(np.arange(60, dtype=np.int64) * 1_000_000)
        bodies.append(wire.pack(wire.Batch(1, 1, 60_000_000, [clock], columns, start_us=0)))
    return bodies


def small_bodies(vehicle: int, count: int, found: list[Rows], seed: int) -> list[bytes]:
    """`count` packed messages of three points each."""
    random = np.random.default_rng([seed, vehicle, 3])
    drive = found[int(random.integers(len(found)))]
    start = int(random.integers(len(drive) - count))
    wide = widen(drive[start : start + count], random)
    names = catalogue.standard()
    chosen = (0, 1, 11)
    bodies = []
    for row in wide:
        columns = [
            wire.Column(
                names.by_name(SIGNALS[i][0]).id, 0, np.round(row[i : i + 1], SIGNALS[i][1]), decimals=SIGNALS[i][1]
            )
            for i in chosen
        ]
        clock = wire.Clock(np.zeros(1, dtype=np.int64))
        bodies.append(wire.pack(wire.Batch(1, 1, 1_000_000, [clock], columns, start_us=0)))
    return bodies
