"""Frames of a CAN log as a struct of arrays: one row a frame, payloads in one matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXTENDED = 1 << 31
"""Bit 31 of an id marks a 29-bit identifier, as in DBC files and SocketCAN."""


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames in the order of the log.

    Shape: all arrays have n rows; `data` is (n, width) with `width` >= the longest payload, unused bytes are zero.
    Units: `stamp_us` counts from an origin only the logger knows; it may be negative and may run backwards.
    """

    stamp_us: NDArray[np.int64]
    id: NDArray[np.uint32]
    bus: NDArray[np.uint8]
    length: NDArray[np.uint16]
    data: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.id)

    def where(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Frames:
        """The frames selected by a mask or by row numbers."""
        return Frames(self.stamp_us[rows], self.id[rows], self.bus[rows], self.length[rows], self.data[rows])
