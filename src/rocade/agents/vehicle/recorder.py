"""Live samples in, batches out: what a program in the car calls.

Flow: `sample(name, value)` keeps values in memory -> `flush`, called once a minute or whatever the data plan allows, puts
them into the journal as batches and wakes the agent. Signals sampled at the same instants share a clock.
Refuses (`recorder.value`): a value whose type does not fit the signal's earlier ones. What is not flushed yet is lost
with the process; whoever cannot afford that flushes after each sample.
"""

from __future__ import annotations

import numpy as np

from rocade.agents.vehicle import batching
from rocade.agents.vehicle.agent import Agent
from rocade.agents.vehicle.series import Series
from rocade.core.catalogue import Catalogue
from rocade.core.errors import Refused
from rocade.core.ports import Clock
from rocade.core.signals import Signal

type Value = bool | int | float | str


class Recorder:
    """Collects the samples of one vehicle."""

    def __init__(self, agent: Agent, catalogue: Catalogue, clock: Clock, brand: str = "") -> None:
        self._agent, self._catalogue, self._clock, self._brand = agent, catalogue, clock, brand
        self._samples: dict[Signal, tuple[list[int], list[Value]]] = {}

    def sample(self, name: str, value: Value, at_us: int | None = None) -> None:
        """Keep one value; `name` as in the catalogue, an older VSS version, or the brand's own.

        Raises: Refused `catalogue.signal.unknown`, `recorder.value`.
        """
        meaning = self._catalogue.meaning(name, self._brand)
        times, values = self._samples.setdefault(meaning.signal, ([], []))
        if not isinstance(value, str | bool) and (meaning.factor != 1 or meaning.offset):
            value = value * meaning.factor + meaning.offset
        if values and isinstance(values[0], str) != isinstance(value, str):
            raise Refused("recorder.value", f"{name}: text and numbers cannot be mixed", signal=name)
        times.append(self._clock.now_us() if at_us is None else at_us)
        values.append(value)

    def flush(self) -> int:
        """Put everything into the journal; returns the points.

        Raises: Unavailable `journal.full`: the samples stay and may be flushed again.
        """
        clocks: dict[tuple[int, ...], np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
        series = []
        for signal, (times, values) in self._samples.items():
            order = sorted(range(len(times)), key=times.__getitem__)
            at = tuple(times[place] for place in order)
            clock = clocks.setdefault(at, np.array(at, np.int64))
            ordered = [values[place] for place in order]
            if isinstance(ordered[0], str):
                series.append(Series(signal, clock, [str(value) for value in ordered]))
            else:
                is_flag = all(isinstance(value, bool) for value in ordered)
                series.append(Series(signal, clock, np.array(ordered, bool if is_flag else np.float64)))
        batches = batching.cut(series)
        if batches:
            self._agent.journal.append(batches)
            self._samples.clear()
            self._agent.wake()
        return sum(points for _, points in batches)
