"""A town that Rocade draws itself: a ring road called Rocade, avenues into the centre, streets, a river, parks.

Flow: rings and spokes of nodes, shaken by the seed -> roads between neighbours, some left out -> every road in both
directions as an edge with nine points of geometry, a limit and a height -> arrays for the simulation, GeoJSON for the
map page (`kind` of a feature: rocade, avenue, street, park, water, town, place). The place is nobody's: a spot in open country; names are made of common words. Same seed, same town.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LATITUDE, LONGITUDE = 46.5000, 2.4000
METRES_PER_DEGREE = 111_320.0
POINTS = 9
"""Points of geometry per edge, evenly spread."""
_RADII_M = (180.0, 420.0, 760.0, 1180.0, 1700.0, 2400.0)
_SPOKES = 24
_LIMITS_KMH = {"rocade": 70.0, "avenue": 50.0, "boulevard": 50.0, "street": 30.0, "country": 80.0}
_TREES = (
    "Tilleuls",
    "Platanes",
    "Cerisiers",
    "Marronniers",
    "Peupliers",
    "Acacias",
    "Noyers",
    "Saules",
    "Érables",
    "Charmes",
)
_PLACES = ("Gare", "Mairie", "Fontaine", "Halle", "Écluse", "Tannerie", "Verrerie", "Forge", "Chapelle", "Poste")


@dataclass(frozen=True)
class Town:
    """Road graph as arrays. Shape: n nodes, e directed edges.

    Units: metres from the centre (x east, y north, z up), limits in m/s. `turns[e]` lists the edges that leave the end
    of edge e (padded with -1), the U-turn last; `green_axis` splits the edges that enter a signalled node in two.
    """

    seed: int
    nodes_m: NDArray[np.float64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    geometry_m: NDArray[np.float64]
    length_m: NDArray[np.float64]
    limit_mps: NDArray[np.float64]
    heading_in: NDArray[np.float64]
    heading_out: NDArray[np.float64]
    turns: NDArray[np.int64]
    is_signalled: NDArray[np.bool_]
    green_axis: NDArray[np.int64]
    road_class: tuple[str, ...]
    name: tuple[str, ...]

    def to_degrees(self, x_m: Any, y_m: Any) -> tuple[Any, Any]:
        """(latitude, longitude) of metres from the centre."""
        return LATITUDE + y_m / METRES_PER_DEGREE, LONGITUDE + x_m / (METRES_PER_DEGREE * _COS)

    def geojson(self) -> dict[str, Any]:
        """The town as a FeatureCollection: water, parks, roads, places; `kind` and `class` say what to draw."""
        features = [self._polygon("town", _outline(), ""), self._polygon("water", _river(), "La Ronde")]
        features += [self._polygon("park", ring, name) for name, ring in _parks(self.seed)]
        for edge in range(0, len(self.start), 2):
            line = self.geometry_m[edge] if self.road_class[edge] == "rocade" else self.geometry_m[edge][[0, 4, 8]]
            kind = {"boulevard": "avenue", "country": "avenue"}.get(self.road_class[edge], self.road_class[edge])
            facts = {"kind": kind, "name": self.name[edge], "limit_kmh": round(self.limit_mps[edge] * 3.6)}
            features.append(_feature("LineString", [self._position(x, y) for x, y, _ in line], facts))
        for name, (x, y) in _quarters().items():
            features.append(_feature("Point", self._position(x, y), {"kind": "place", "name": name}))
        return {"type": "FeatureCollection", "features": features}

    def _position(self, x_m: float, y_m: float) -> list[float]:
        latitude, longitude = self.to_degrees(float(x_m), float(y_m))
        return [round(longitude, 6), round(latitude, 6)]

    def _polygon(self, kind: str, ring: list[tuple[float, float]], name: str) -> dict[str, Any]:
        facts = {"kind": kind, "name": name} if name else {"kind": kind}
        return _feature("Polygon", [[self._position(x, y) for x, y in [*ring, ring[0]]]], facts)


def build(seed: int = 7) -> Town:
    """Draw the town of a seed."""
    random = np.random.default_rng(seed)
    nodes = _nodes(random)
    roads = _roads(random)
    start, end, classes, names = [], [], [], []
    for a, b, road_class, name in roads:
        start += [a, b]
        end += [b, a]
        classes += [road_class] * 2
        names += [name] * 2
    geometry = np.stack([_line(nodes[a], nodes[b], kind) for a, b, kind in zip(start, end, classes, strict=True)])
    steps = np.diff(geometry, axis=1)
    length = np.hypot(steps[:, :, 0], steps[:, :, 1]).sum(axis=1)
    headings = np.arctan2(steps[:, :, 0], steps[:, :, 1])
    start_at, end_at = np.array(start), np.array(end)
    degree = np.bincount(start_at, minlength=len(nodes))
    is_avenue = np.zeros(len(nodes), bool)
    for a, b, kind in zip(start, end, classes, strict=True):
        is_avenue[[a, b]] |= kind in ("avenue", "rocade", "boulevard")
    axis = (np.abs(np.sin(headings[:, -1] - np.arctan2(nodes[end_at, 0], nodes[end_at, 1]))) > 0.7).astype(np.int64)
    return Town(
        seed,
        nodes,
        start_at,
        end_at,
        geometry,
        length,
        np.array([_LIMITS_KMH[kind] for kind in classes]) / 3.6,
        headings[:, 0],
        headings[:, -1],
        _turns(start_at, end_at, degree),
        (degree >= 4) & is_avenue,
        axis,
        tuple(classes),
        tuple(names),
    )


def _nodes(random: np.random.Generator) -> NDArray[np.float64]:
    """Node 0 is the centre, then ring after ring, then eight ends of country roads."""
    rows = [(0.0, 0.0)]
    for place, radius in enumerate(_RADII_M):
        shake = 0.0 if place == len(_RADII_M) - 1 else 0.22
        for spoke in range(_SPOKES):
            angle = 2 * math.pi * (spoke + shake * random.normal() * 0.5) / _SPOKES
            distance = radius * (1 + shake * 0.25 * random.normal())
            rows.append((distance * math.sin(angle), distance * math.cos(angle) * 0.86))
    for spoke in range(0, _SPOKES, 3):
        angle = 2 * math.pi * (spoke + 0.3 * random.normal()) / _SPOKES
        rows.append((4300 * math.sin(angle), 4300 * math.cos(angle) * 0.86))
    plane = np.array(rows)
    return np.column_stack((plane, _height(plane[:, 0], plane[:, 1])))


def _height(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gentle hills, at most about 5 % steep."""
    hills = 14 * np.sin(x / 900 + 1) * np.cos(y / 1100) + 9 * np.sin(x / 430 - y / 510)
    return np.asarray(180 + hills + np.hypot(x, y) * 0.012)


def _node(ring: int, spoke: int) -> int:
    return 1 + ring * _SPOKES + spoke % _SPOKES


def _roads(random: np.random.Generator) -> list[tuple[int, int, str, str]]:
    outer = len(_RADII_M) - 1
    roads: list[tuple[int, int, str, str]] = []
    for ring in range(outer + 1):
        kind = "rocade" if ring == outer else "boulevard" if ring == 2 else "street"
        for spoke in range(_SPOKES):
            if kind == "street" and random.random() < 0.16:
                continue
            if ring == 0 and spoke % 2:
                continue
            if kind == "rocade":
                name = "Rocade"
            elif kind == "boulevard":
                name = f"Boulevard des {_TREES[spoke * len(_TREES) // _SPOKES]}"
            else:
                name = f"Rue des {_TREES[(ring * 5 + spoke // 3) % len(_TREES)]}"
            roads.append((_node(ring, spoke), _node(ring, spoke + (2 if ring == 0 else 1)), kind, name))
    for spoke in range(_SPOKES):
        is_avenue = spoke % 3 == 0
        name = f"{'Avenue' if is_avenue else 'Rue'} de la {_PLACES[spoke * len(_PLACES) // _SPOKES]}"
        kind = "avenue" if is_avenue else "street"
        first = 0 if spoke % 2 == 0 else 1
        if first == 0 and is_avenue:
            roads.append((0, _node(0, spoke), kind, name))
        for ring in range(first, outer):
            if not is_avenue and random.random() < 0.12:
                continue
            roads.append((_node(ring, spoke), _node(ring + 1, spoke), kind, name))
    for place, spoke in enumerate(range(0, _SPOKES, 3)):
        roads.append(
            (_node(outer, spoke), 1 + len(_RADII_M) * _SPOKES + place, "country", f"Route de la {_PLACES[place]}")
        )
    return roads


def _line(a: NDArray[np.float64], b: NDArray[np.float64], kind: str) -> NDArray[np.float64]:
    """Points from a to b; the ring road bends along its circle."""
    share = np.linspace(0, 1, POINTS)[:, None]
    line = a + (b - a) * share
    if kind == "rocade":
        wanted = np.hypot(a[0], a[1] / 0.86) * (1 - share[:, 0]) + np.hypot(b[0], b[1] / 0.86) * share[:, 0]
        line[:, :2] *= (wanted / np.hypot(line[:, 0], line[:, 1] / 0.86))[:, None]
    line[1:-1, 2] = _height(line[1:-1, 0], line[1:-1, 1])
    return np.asarray(line)


def _turns(start: NDArray[np.int64], end: NDArray[np.int64], degree: NDArray[np.int64]) -> NDArray[np.int64]:
    """Edges that leave where each edge ends; the way back (edge ^ 1) stands last."""
    turns = np.full((len(start), int(degree.max())), -1)
    for edge in range(len(start)):
        leaving = [int(other) for other in np.flatnonzero(start == end[edge]) if other != edge ^ 1]
        leaving.append(edge ^ 1)
        turns[edge, : len(leaving)] = leaving
    return turns


def _outline() -> list[tuple[float, float]]:
    angles = [2 * math.pi * step / 72 for step in range(72)]
    reach = [2620 + 160 * math.sin(5 * angle) + 90 * math.cos(3 * angle) for angle in angles]
    return [(r * math.sin(a), r * math.cos(a) * 0.86) for r, a in zip(reach, angles, strict=True)]


def _river() -> list[tuple[float, float]]:
    bank = [(x, -560 + 190 * math.sin(x / 1500) + 0.06 * x) for x in range(-4600, 4601, 230)]
    return [*bank, *[(x, y - 75 - 18 * math.sin(x / 600)) for x, y in reversed(bank)]]


def _parks(seed: int) -> list[tuple[str, list[tuple[float, float]]]]:
    random = np.random.default_rng(seed + 1)
    parks = []
    for name, x, y, radius in (
        ("Parc de la Ronde", 560.0, -330.0, 210.0),
        ("Jardin des Halles", -300.0, 250.0, 120.0),
        ("Bois du Nord", -900.0, 1350.0, 380.0),
        ("Stade", 1320.0, 520.0, 190.0),
    ):
        angles = [2 * math.pi * step / 16 for step in range(16)]
        parks.append(
            (
                name,
                [
                    (x + r * math.sin(a), y + r * math.cos(a))
                    for a in angles
                    if (r := radius * random.uniform(0.75, 1.1))
                ],
            )
        )
    return parks


def _quarters() -> dict[str, tuple[float, float]]:
    return {
        "Ronville": (0, 90),
        "Les Halles": (-420, 420),
        "La Gare": (680, 300),
        "Quai Sud": (150, -800),
        "Bois du Nord": (-900, 1350),
        "Zone Est": (1800, 250),
        "La Plaine": (-1700, -500),
    }


def _feature(form: str, coordinates: Any, properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "geometry": {"type": form, "coordinates": coordinates}, "properties": properties}


_COS = math.cos(math.radians(LATITUDE))
