"""How far a backup or a restore is: bytes done of bytes expected, told to whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Progress:
    """`show(done_bytes, all_bytes, what)` is called as things move; `all_bytes` may grow."""

    show: Callable[[int, int, str], object] = lambda *_: None
    all_bytes: int = 0
    done_bytes: int = 0
    what: str = ""

    def expect(self, size_bytes: int) -> None:
        self.all_bytes += size_bytes

    def begin(self, what: str) -> None:
        self.what = what
        self.show(self.done_bytes, self.all_bytes, what)

    def moved(self, size_bytes: int) -> None:
        self.done_bytes += size_bytes
        self.all_bytes = max(self.all_bytes, self.done_bytes)
        self.show(self.done_bytes, self.all_bytes, self.what)
