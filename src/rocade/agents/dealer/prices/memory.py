"""Memory that a first load or an apply needed for a moment, given back to the system.

The C library keeps freed pieces for the next time and, after large ones, ever larger pieces; a process that applies a list once a day would hold
what that needed for the rest of it (measured with 500,000 parts: 170 MiB instead of 105). Where there is no `malloc_trim` (musl), nothing is done.
"""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Cost: some milliseconds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
