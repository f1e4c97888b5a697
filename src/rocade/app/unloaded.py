"""What the `rocade` command and its processes do not load although a library of theirs would.

pyarrow loads pandas, 0.3 s and 55 MB, at the first list that becomes an array, to see whether that is one of its tables. Nothing here is.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType

UNLOADED = ("pandas",)


class _Refusing(MetaPathFinder):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:  # noqa: ARG002
        if fullname in UNLOADED:
            raise ModuleNotFoundError(f"the rocade command does without {fullname}", name=fullname)


@functools.cache
def leave_out() -> None:
    """From here on, for this process."""
    sys.meta_path.insert(0, _Refusing())
