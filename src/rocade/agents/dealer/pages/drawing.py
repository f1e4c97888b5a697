"""A price over time as a step curve: points for an SVG that the page draws without any script."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

WIDTH, HEIGHT, MARGIN = 640, 200, 12


class Mark(msgspec.Struct, frozen=True):
    """Where a price begins on the drawing."""

    x: float
    y: float
    at_us: int
    price_minor: int


class Curve(msgspec.Struct, frozen=True):
    """`paths` are polylines (a withdrawn part interrupts the line); `least`, `most` its prices."""

    paths: list[str]
    marks: list[Mark]
    least: int
    most: int
    begin_us: int
    end_us: int


def curve(steps: Sequence[tuple[int, int | None, str, int]], now_us: int) -> Curve | None:
    """The curve of these steps up to now, or to the last step if that lies ahead; None without a price."""
    priced = [price for _, price, _, _ in steps if price is not None]
    if not priced:
        return None
    begin_us, end_us = steps[0][0], max(now_us, steps[-1][0])
    span_us, least, most = max(1, end_us - begin_us), min(priced), max(priced)
    height = max(1, most - least)

    def place(at_us: int, price: int) -> tuple[float, float]:
        x = MARGIN + (at_us - begin_us) / span_us * (WIDTH - 2 * MARGIN)
        return round(x, 1), round(HEIGHT - MARGIN - (price - least) / height * (HEIGHT - 2 * MARGIN), 1)

    paths: list[str] = []
    marks: list[Mark] = []
    points: list[tuple[float, float]] = []
    ends = [at_us for at_us, _, _, _ in steps[1:]] + [end_us]
    for (at_us, price, _, _), until_us in zip(steps, ends, strict=True):
        if price is None:
            paths, points = [*paths, *_path(points)], []
            continue
        points += [place(at_us, price), place(until_us, price)]
        marks.append(Mark(*place(at_us, price), at_us, price))
    return Curve([*paths, *_path(points)], marks, least, most, begin_us, end_us)


def _path(points: Sequence[tuple[float, float]]) -> list[str]:
    return [" ".join(f"{x},{y}" for x, y in points)] if points else []
