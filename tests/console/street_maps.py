"""A PMTiles v3 file of our own, for the test that shows one: vector tiles (MVT 2.1) of a few roads, a park and the land.

Source: the PMTiles version 3 and Mapbox Vector Tile 2.1 specifications. Features are (layer, kind, geometry) with a line or
a ring of (longitude, latitude) that runs along the axes; every tile that is asked for holds its part of each.
"""

from __future__ import annotations

import gzip
import json
import math
import struct
from collections.abc import Sequence

EXTENT, MARGIN = 4096, 64
GZIP, VECTOR = 2, 1
type Feature = tuple[str, str, bool, Sequence[tuple[float, float]]]
"""Layer, kind, whether it is an area, its line or ring."""


def write(features: Sequence[Feature], tiles: Sequence[tuple[int, int, int]]) -> bytes:
    """One file with these (z, x, y) tiles."""
    contents = {identifier(*tile): gzip.compress(vector_tile(features, *tile)) for tile in tiles}
    order = sorted(contents)
    lengths = [len(contents[one]) for one in order]
    steps = [one - before for one, before in zip(order, [0, *order], strict=False)]
    directory = gzip.compress(
        varints([len(order), *steps, *[1] * len(order), *lengths, 1, *[0] * (len(order) - 1)])
    )  # run lengths of 1; the first tile begins at 0, each other one follows the tile before it
    metadata = gzip.compress(json.dumps({"vector_layers": [{"id": layer} for layer, *_ in features]}).encode())
    data = b"".join(contents[one] for one in order)
    at = 127
    places = []
    for part in (directory, metadata, b"", data):
        places += [at, len(part)]
        at += len(part)
    zooms = [zoom for zoom, _, _ in tiles]
    header = struct.pack("<7sB11Q", b"PMTiles", 3, *places, len(order), len(order), len(order))
    header += struct.pack("<6B", 1, GZIP, GZIP, VECTOR, min(zooms), max(zooms))
    header += struct.pack("<4iB2i", -1_800_000_000, -850_000_000, 1_800_000_000, 850_000_000, 0, 0, 0)
    assert len(header) == 127
    return header + directory + metadata + data


def tile_at(zoom: int, longitude: float, latitude: float) -> tuple[int, int, int]:
    x, y = mercator(longitude, latitude)
    return zoom, int(x * 2**zoom), int(y * 2**zoom)


def mercator(longitude: float, latitude: float) -> tuple[float, float]:
    y = math.asinh(math.tan(math.radians(latitude)))
    return (longitude + 180) / 360, (1 - y / math.pi) / 2


def identifier(zoom: int, x: int, y: int) -> int:
    """Position of a tile on the Hilbert curves of all zooms, one after the other."""
    found = (4**zoom - 1) // 3
    side = 2**zoom // 2
    while side:
        right, low = int(x & side > 0), int(y & side > 0)
        found += side * side * ((3 * right) ^ low)
        if not low:
            if right:
                x, y = side - 1 - x, side - 1 - y
            x, y = y, x
        side //= 2
    return found


def vector_tile(features: Sequence[Feature], zoom: int, x: int, y: int) -> bytes:
    layers: dict[str, list[Feature]] = {}
    for feature in features:
        layers.setdefault(feature[0], []).append(feature)
    return b"".join(field(3, layer(name, found, zoom, x, y)) for name, found in layers.items())


def layer(name: str, features: Sequence[Feature], zoom: int, x: int, y: int) -> bytes:
    made = field(1, name.encode()) + field(3, b"kind")
    for place, (_, kind, is_area, line) in enumerate(features):
        points = [within(point, zoom, x, y) for point in line]
        geometry = varints(commands(points, is_area)) if len(set(points)) > 1 + is_area else b""
        made += field(2, field(2, varints([0, place])) + number(3, 3 if is_area else 2) + field(4, geometry))
        made += field(4, field(1, kind.encode()))
    return made + number(5, EXTENT) + number(15, 2)


def within(point: tuple[float, float], zoom: int, x: int, y: int) -> tuple[int, int]:
    east, south = mercator(*point)
    return cut((east * 2**zoom - x) * EXTENT), cut((south * 2**zoom - y) * EXTENT)


def cut(place: float) -> int:
    """Move to the tile's edge what lies beyond; exact for what runs along the axes."""
    return round(min(max(place, -MARGIN), EXTENT + MARGIN))


def commands(points: Sequence[tuple[int, int]], is_area: bool) -> list[int]:
    """MoveTo, LineTo ..., for an area ClosePath; zigzag steps."""
    points = [point for point, before in zip(points, [None, *points], strict=False) if point != before]
    steps = [(x - a, y - b) for (x, y), (a, b) in zip(points, [(0, 0), *points], strict=False)]
    flat = [[value << 1 ^ value >> 31 for value in step] for step in steps]
    return [1 | 1 << 3, *flat[0], 2 | len(flat) - 1 << 3, *(one for step in flat[1:] for one in step)] + [15] * is_area


def field(tag: int, content: bytes) -> bytes:
    return varints([tag << 3 | 2, len(content)]) + content


def number(tag: int, value: int) -> bytes:
    return varints([tag << 3, value])


def varints(values: Sequence[int]) -> bytes:
    made = bytearray()
    for value in values:
        while value > 127:
            made.append(value & 127 | 128)
            value >>= 7
        made.append(value)
    return bytes(made)
