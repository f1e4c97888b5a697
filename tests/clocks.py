"""Clocks that tests hand in: the machine's, turned ahead at will, and one that stands until it is moved."""

from __future__ import annotations

from rocade.core.ports import SystemClock


class TurnedClock(SystemClock):
    """The machine's time and `ahead_us`; after `hold` it goes on by that alone. Durations are the machine's."""

    def __init__(self, ahead_us: int = 0) -> None:
        self.ahead_us = ahead_us
        self._held_us: int | None = None

    def hold(self) -> None:
        self._held_us = super().now_us()

    def now_us(self) -> int:
        return (super().now_us() if self._held_us is None else self._held_us) + self.ahead_us


class PassingClock(TurnedClock):
    """As if the time it is turned ahead had passed: durations are longer by it."""

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_us / 1e6


class SetClock:
    """Stands at `at_us` until it is moved, durations with it."""

    def __init__(self, at_us: int = 1_700_000_000_000_000) -> None:
        self.at_us = at_us

    def now_us(self) -> int:
        return self.at_us

    def monotonic_s(self) -> float:
        return self.at_us / 1e6

    def move(self, seconds: float = 0, *, hours: float = 0) -> None:
        self.at_us += round((seconds + hours * 3600) * 1e6)
