"""Limits that charging vehicles share: a tree of sites, feeders and phases, and the fleet below it.

A `Node` limits the power below it (`limit_kw`) and the current of each of its three phases (`current_a`). Building load and own solar power
stand at the node that meters them; they take from and add to the room of that node and of all above it, spread evenly over the phases. A
vehicle hangs below one node and draws on one, two or three phases, evenly. `rows_of` turns tree and fleet into numbers: vehicles of one
node, phase set and priority are one class, and each limit is a row that says what share of a class's power counts there.

Refused: a tree with two roots or a loop, limits that are not numbers, arrays that do not fit together. A building that alone exceeds its
limit is no error: nothing is left for vehicles there then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rocade.core.errors import Refused

VOLT = 230.0
"""Between a phase and neutral."""
ALL_PHASES = 0b111
type Floats = NDArray[np.float64]
type Ints = NDArray[np.int64]
type PowerAt = ArrayLike | Mapping[str, ArrayLike] | None


@dataclass(frozen=True, slots=True)
class Node:
    """A point where power is limited; a number or one for each slot. None: not limited here."""

    id: str
    parent: str = ""
    limit_kw: ArrayLike | None = None
    current_a: ArrayLike | None = None


class Tree:
    """Nodes below one root, parents known by name."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = tuple(nodes)
        self.number = {node.id: at for at, node in enumerate(self.nodes)}
        if not nodes or len(self.number) < len(nodes):
            raise _wrong_tree("needs nodes with different names")
        if sum(not node.parent for node in nodes) != 1:
            raise _wrong_tree("needs exactly one node without a parent")
        self.paths = tuple(self._path(at) for at in range(len(nodes)))
        """For each node the numbers of itself and of all above it."""

    @classmethod
    def single(cls, limit_kw: ArrayLike) -> Tree:
        return cls([Node("feeder", limit_kw=limit_kw)])

    def _path(self, at: int) -> tuple[int, ...]:
        path = [at]
        while parent := self.nodes[path[-1]].parent:
            if parent not in self.number:
                raise _wrong_tree(f"names a parent that is not there: {parent}")
            if self.number[parent] in path:
                raise _wrong_tree(f"runs in a circle at {parent}")
            path.append(self.number[parent])
        return tuple(path)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Vehicles as columns. `node` is the number of the node a vehicle hangs below (`Tree.number`).

    Units: instants in microseconds UTC; energy at the plug; `min_a` is the least current per phase of a vehicle that charges at all, 0 for
    one that takes any power. A higher `priority` is served before a lower one where not all can be served.
    """

    arrival_us: Ints
    departure_us: Ints
    energy_kwh: Floats
    max_kw: Floats
    node: Ints
    phases: Ints
    priority: Ints
    min_a: Floats

    @classmethod
    def of(
        cls, arrival_us: ArrayLike, departure_us: ArrayLike, energy_kwh: ArrayLike, max_kw: ArrayLike, *,
        node: ArrayLike = 0, phases: ArrayLike = ALL_PHASES, priority: ArrayLike = 0, min_a: ArrayLike = 0.0,
    ) -> Fleet:  # fmt: skip
        """A fleet of columns or of single values that hold for all."""
        number = len(np.atleast_1d(energy_kwh))
        whole = [np.broadcast_to(np.asarray(v, np.int64), number) for v in (arrival_us, departure_us)]
        real = [np.broadcast_to(np.asarray(v, np.float64), number) for v in (energy_kwh, max_kw, min_a)]
        kinds = [np.broadcast_to(np.asarray(v, np.int64), number) for v in (node, phases, priority)]
        _check_fleet(real, kinds)
        return cls(whole[0], whole[1], real[0], real[1], kinds[0], kinds[1], kinds[2], real[2])

    def __len__(self) -> int:
        return len(self.energy_kwh)

    @property
    def min_kw(self) -> Floats:
        """The least power of a vehicle that charges, at most its greatest."""
        return np.minimum(kw_of(self.min_a, self.phases), self.max_kw)


@dataclass(frozen=True, slots=True)
class Rows:
    """All limits as rows. Shape: room (R, T) in kW left for vehicles, share (R, C), names R; `over` kW that buildings take too much."""

    room: Floats
    share: Floats
    names: tuple[str, ...]
    over: Floats

    def excess(self, load_kw: Floats) -> float:
        """The worst part by which a load of classes (C, T) exceeds a limit."""
        if not self.room.size:
            return 0.0
        over = self.share @ load_kw - self.room
        return float(max((over / np.maximum(self.room, 1e-3 * self.room.max() + 1e-9)).max(), 0.0))


def kw_of(current_a: ArrayLike, phases: ArrayLike) -> Floats:
    """Power of a current on each phase of a set."""
    return np.asarray(np.asarray(current_a) * count_phases(phases) * VOLT / 1000, np.float64)


def count_phases(phases: ArrayLike) -> NDArray[np.uint8]:
    return np.bitwise_count(np.asarray(phases, np.uint8))


def rows_of(tree: Tree, class_node: Ints, class_phases: Ints, own_load: Floats) -> Rows:
    """The tree's limits as rows over classes of vehicles. Raises: Refused `charging.limits.tree` if a limit is no number."""
    load, slots = own_load, own_load.shape[1]
    below = below_of(tree, class_node)
    room, share, names = [], [], []
    for at, node in enumerate(tree.nodes):
        if node.limit_kw is not None:
            room.append(_limit(node, node.limit_kw, slots) - load[at])
            share.append(below[at])
            names.append(node.id)
        if node.current_a is not None:
            for phase in range(3):
                room.append(_limit(node, node.current_a, slots) * VOLT / 1000 - load[at] / 3)
                share.append(below[at] * (class_phases >> phase & 1) / count_phases(class_phases))
                names.append(f"{node.id}/L{phase + 1}")
    rooms = np.array(room, np.float64).reshape(-1, slots)
    return Rows(
        np.maximum(rooms, 0.0), np.array(share, np.float64).reshape(len(room), len(class_node)), tuple(names),
        np.maximum(-rooms, 0.0),
    )  # fmt: skip


def below_of(tree: Tree, class_node: Ints) -> Floats:
    """1 where a class hangs below a node. Shape: (nodes, C)."""
    below = [[at in tree.paths[node] for node in class_node] for at in range(len(tree.nodes))]
    return np.array(below, np.float64).reshape(len(tree.nodes), len(class_node))


def own_load(tree: Tree, slots: int, building_kw: PowerAt, solar_kw: PowerAt) -> Floats:
    """What buildings less their solar power take at each node, with all below it. Shape: (nodes, T) kW."""
    load = np.zeros((len(tree.nodes), slots))
    for power, sign in ((building_kw, 1.0), (solar_kw, -1.0)):
        for name, values in at_nodes(tree, power).items():
            for at in tree.paths[tree.number[name]]:
                load[at] += sign * np.broadcast_to(np.asarray(values, np.float64), slots)
    if not np.isfinite(load).all():
        raise _wrong_tree("has building or solar power that is no number")
    return load


def at_nodes(tree: Tree, power_kw: PowerAt) -> Mapping[str, ArrayLike]:
    """Power by node; what is given without a place stands at the root."""
    if power_kw is None:
        return {}
    if not isinstance(power_kw, Mapping):
        return {next(node.id for node in tree.nodes if not node.parent): power_kw}
    if unknown := set(power_kw) - set(tree.number):
        raise _wrong_tree(f"has no node {min(unknown)}")
    return power_kw


def _limit(node: Node, limit: ArrayLike, slots: int) -> Floats:
    values = np.broadcast_to(np.asarray(limit, np.float64), slots)
    if not np.isfinite(values).all() or (values < 0).any():
        raise _wrong_tree(f"has a limit at {node.id} that is negative or no number")
    return values


def _check_fleet(real: list[Floats], kinds: list[Ints]) -> None:
    if not all(np.isfinite(values).all() and (values >= 0).all() for values in real):
        raise Refused("charging.fleet.number", "energy, power and current of a vehicle must be numbers of 0 or more")
    if kinds[1].size and (kinds[1].min() < 1 or kinds[1].max() > ALL_PHASES):
        raise Refused("charging.fleet.phases", "a vehicle draws on phases 1 to 3: give a set of bits from 1 to 7")


def _wrong_tree(what: str) -> Refused:
    return Refused("charging.limits.tree", f"the tree of limits {what}")
