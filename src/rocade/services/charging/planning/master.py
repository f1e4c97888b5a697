"""The small linear program between windows and limits: which mix of answers keeps every limit at the least cost.

Each part of the fleet (block) gives one column for each of its answers; a mix of them is again an answer, for what a vehicle may do is
convex. Rows: one for each block (its weights sum to 1), one for each limit and slot that can bind, one for each slot with own solar power to
spare. Its duals are prices: what power below that limit is worth in that slot. Columns are added, and the solver goes on from where it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import highspy
import numpy as np

from rocade.core.errors import Unavailable
from rocade.services.charging.planning.limits import Floats, Ints


@dataclass(frozen=True, slots=True)
class Mix:
    """A solution. Shape: weights (columns,), duals (rows,) that are 0 or more; cost as the columns count it."""

    weights: Floats
    duals: Floats
    cost: float


class Master:
    """`room` (rows,) is what the rows hold; `spare_row`, `spare_most`, `spare_value`: own power that makes energy cheaper."""

    def __init__(self, blocks: int, room: Floats, spare_row: Ints, spare_most: Floats, spare_value: Floats) -> None:
        self._blocks, self._spares = blocks, len(spare_row)
        self._solver = highspy.Highs()  # type: ignore[no-untyped-call]  # the library's own gap
        for option, value in (("output_flag", False), ("presolve", "off"), ("threads", 1), ("simplex_strategy", 4)):
            self._solver.setOptionValue(option, value)
        empty = np.zeros(0, np.int32), np.zeros(0)
        low = np.concatenate([np.ones(blocks), np.full(len(room), -highspy.kHighsInf)])
        high = np.concatenate([np.ones(blocks), room])
        self._solver.addRows(len(low), low, high, 0, np.zeros(len(low), np.int32), *empty)
        if self._spares:  # using spare power is a column of its own: it counts where the load is, not above
            self._solver.addCols(
                self._spares, -spare_value, np.zeros(self._spares), spare_most, self._spares,
                np.arange(self._spares, dtype=np.int32), (blocks + spare_row).astype(np.int32), np.ones(self._spares),
            )  # fmt: skip

    def add(self, cost: Floats, use: Floats, blocks: Ints) -> None:
        """Columns: their cost (k,), what they use of each row (rows, k), and the block of each."""
        count = len(cost)
        whole = np.vstack([np.arange(self._blocks)[:, None] == blocks, use])
        column, row = np.nonzero(whole.T)
        start = np.searchsorted(column, np.arange(count)).astype(np.int32)
        self._solver.addCols(
            count, cost, np.zeros(count), np.full(count, highspy.kHighsInf), len(row), start,
            row.astype(np.int32), whole[row, column],
        )  # fmt: skip

    def solve(self) -> Mix:
        """Raises: Unavailable `charging.solver` if the solver gives up (it has no reason to: leaving all uncharged is always a mix)."""
        self._solver.run()
        if self._solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            raise Unavailable("charging.solver", "the solver of shared limits gave no plan; plan again")
        found = self._solver.getSolution()
        values, duals = np.array(found.col_value), np.array(found.row_dual)
        return Mix(
            np.maximum(values[self._spares :], 0.0), np.maximum(-duals[self._blocks :], 0.0),
            self._solver.getInfo().objective_function_value,
        )  # fmt: skip
