"""Memory given back to the machine: an agent shares a small computer with the dealer's other programs.

glibc keeps what was freed for the next time: after a list was applied, that is more than the list. Large blocks are
therefore taken from the system one by one (and go back when freed), threads share two arenas, and what is left is trimmed
after each list. Where the C library is another one, all of this does nothing.
"""

from __future__ import annotations

import ctypes
import gc

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
"""Parameters of mallopt(3)."""
_LARGE_BYTES = 256 << 10


def be_frugal() -> None:
    """Call it once, before anything large is made."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        library.mallopt(_ARENA_MAX, 2)


def give_back() -> None:
    """Return what is free. Cost: milliseconds."""
    gc.collect()
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
