"""State of health found again in made segments whose truth is known, beside the two ways others use.

    python benchmarks/charging_health.py [--full]

400 vehicles, 40 charges each over 400 days: health 70 to 100 % (sd of a reading 1.5 or 3 points, rounded to whole percent; gain of
each vehicle's current sensor 0 or 1 %; no ageing, or up to 4 points a year; in one case every tenth segment is wrong by up to a third).
Peers, on the same segments: the median of the segments' own ratios (what loggers show), and least squares through the origin.
"Total least squares alone" is the same fit without drift and prior. Where nothing ages the drift that is expected makes our
answer read low; no pack is known that does not age, so those cases have no goal. Truth and noise are drawn here, so the noise is what the method expects in kind though not in size: a real pack is harder.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from rocade.services.battery.estimating import estimate
from rocade.services.battery.model import CHARGE, KNOWN, Pack, Seen, Segment

DAY_US = 86_400_000_000
NOW_US = 1_790_000_000_000_000
NEW_KWH = 64.0
SEEN = Seen("charge", "power", has_temperature=True)
CASES = (
    # name, sd of a reading, gain, segments, share of wrong ones, most ageing a year
    ("reading sd 1.5, gain 1 %, no ageing", 1.5, 0.01, 40, 0.0, 0.0),
    ("reading sd 3, gain 1 %, no ageing", 3.0, 0.01, 40, 0.0, 0.0),
    ("reading sd 1.5, no gain error, no ageing", 1.5, 0.0, 40, 0.0, 0.0),
    ("reading sd 1.5, gain 1 %, 10 segments, no ageing", 1.5, 0.01, 10, 0.0, 0.0),
    ("reading sd 1.5, gain 1 %, ageing", 1.5, 0.01, 40, 0.0, 4.0),
    ("reading sd 1.5, gain 1 %, ageing, every tenth wrong", 1.5, 0.01, 40, 0.1, 4.0),
)
type Figure = dict[str, object]


def vehicle(
    random: np.random.Generator, reading_sd: float, gain_sd: float, count: int, wrong: float, most_yearly: float
) -> tuple[float, list[Segment]]:
    """Health now, and the segments of one made vehicle."""
    health, yearly = random.uniform(70, 100), random.uniform(0, most_yearly)
    gain = 1 + gain_sd * random.standard_normal()
    segments = list[Segment]()
    for age_days in sorted(random.uniform(0, 400, count), reverse=True):
        capacity_kwh = NEW_KWH * min(health + yearly * age_days / 365.25, 100) / 100
        begin = random.uniform(5, 55)
        end = random.uniform(begin + 25, 100)
        energy = capacity_kwh * (end - begin) / 100 * gain * (1 + 0.005 * random.standard_normal())
        if random.random() < wrong:
            energy *= random.uniform(0.67, 1.0)
        first, last = np.clip(np.round(np.array([begin, end]) + reading_sd * random.standard_normal(2)), 0, 100)
        at_us = int(NOW_US - age_days * DAY_US)
        if last - first >= 20:
            segments.append(
                Segment(CHARGE, at_us - 3_600_000_000, at_us, float(first), float(last), float(energy), 0.0, 22.0)
            )
    return float(health), segments


def rows(*, full: bool = False) -> list[Figure]:
    vehicles = 400 if full else 150
    found = list[Figure]()
    for name, reading_sd, gain_sd, count, wrong, most_yearly in CASES:
        random = np.random.default_rng(53)
        inside, truth = 0, list[float]()
        ours, plain, median, least, width = list[float](), list[float](), list[float](), list[float](), list[float]()
        began = time.process_time()
        refused = 0
        while len(truth) < vehicles:
            health, segments = vehicle(random, reading_sd, gain_sd, count, wrong, most_yearly)
            answer = estimate(segments, Pack(NEW_KWH, "NMC"), SEEN, NOW_US)
            if answer.state != KNOWN or answer.percent is None:
                refused += 1
                if refused > 10 * vehicles:
                    break
                continue
            swing = np.array([one.swing / 100 for one in segments])
            energy = np.array([one.energy_kwh for one in segments])
            truth.append(health)
            ours.append(answer.percent.value)
            plain.append(100 * (answer.fit_kwh or 0.0) / NEW_KWH)
            inside += answer.percent.low <= health <= answer.percent.high
            width.append((answer.percent.high - answer.percent.low) / 2)
            median.append(100 * float(np.median(energy / swing)) / NEW_KWH)
            least.append(100 * float(swing @ energy / (swing @ swing)) / NEW_KWH)
        spent_ms = 1000 * (time.process_time() - began) / len(truth)
        real = np.array(truth)
        wrong_by = {
            who: np.array(said) - real
            for who, said in (("ours", ours), ("plain", plain), ("median", median), ("least", least))
        }
        mae = {who: float(np.abs(by).mean()) for who, by in wrong_by.items()}
        bias = {who: float(by.mean()) for who, by in wrong_by.items()}
        goal = mae["median"] if most_yearly else None
        for who, peer in (
            ("median", "median of ratios"),
            ("least", "least squares"),
            ("plain", "total least squares alone"),
        ):
            found.append(_row(f"battery health, {name}: mean absolute error", mae["ours"], "points", goal if who == "median" else None,
                              peer=peer, peer_value=mae[who], bias=round(bias["ours"], 2), peer_bias=round(bias[who], 2)))  # fmt: skip
        found.append(_row(f"battery health, {name}: truth inside the 90 % interval", inside / len(truth), "share", 0.85 if most_yearly else None,
                          less=False, half_width=round(float(np.mean(width)), 2), vehicles=len(truth), refused=refused,
                          cpu_ms_each=round(spent_ms, 1)))  # fmt: skip
    return found


def _row(
    name: str, value: float, unit: str, goal: float | None, *, less: bool = True, peer: str = "", peer_value: float | None = None,
    **detail: object,
) -> Figure:  # fmt: skip
    met = None if goal is None else value <= goal if less else value >= goal
    ratio = value / peer_value if peer_value else None
    return {"figure": name, "value": round(value, 3), "unit": unit, "goal": goal and round(goal, 3), "met": met, "peer": peer,
            "peer_value": peer_value and round(peer_value, 3), "ratio": ratio and round(ratio, 2), **detail}  # fmt: skip


def measure(*, full: bool = False) -> list[Figure]:
    return rows(full=full)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    for row in rows(full=parser.parse_args().full):
        print(json.dumps(row))
