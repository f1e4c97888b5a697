"""What the door counts. Plain numbers, read by whoever exports them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter


class Histogram:
    """Latency counts in fixed steps, about 19 % apart, from 100 us to 2 minutes."""

    BOUNDS_US = tuple(round(100 * 2 ** (step / 4)) for step in range(82))

    def __init__(self) -> None:
        self.counts = [0] * (len(self.BOUNDS_US) + 1)
        self.total_us = 0

    def add(self, latency_us: int, count: int = 1) -> None:
        self.counts[bisect_left(self.BOUNDS_US, latency_us)] += count
        self.total_us += latency_us * count

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile_us(self, share: float) -> int:
        """Upper bound of the step that holds this share of all values (0 when empty)."""
        wanted, seen = share * self.count, 0
        for bound_us, count in zip((*self.BOUNDS_US, self.BOUNDS_US[-1]), self.counts, strict=True):
            seen += count
            if seen and seen >= wanted:
                return bound_us
        return 0


class Meter:
    """Counters since start; `connections`, `handshaking`, `unacknowledged_bytes`, `partial_bytes` are present values."""

    def __init__(self) -> None:
        self.connections = 0
        self.handshaking = 0
        self.unacknowledged_bytes = 0
        self.partial_bytes = 0
        self.is_paused = False
        self.handshakes_done = 0
        self.probes = 0
        """Connections that ended before a word of TLS."""
        self.connects = 0
        self.publishes = 0
        self.publishes_qos0 = 0
        self.published_bytes = 0
        self.acknowledged = 0
        self.ticks = 0
        self.accept_retries = 0
        self.paused_us = 0
        self.down_sent = 0
        self.down_acknowledged = 0
        self.refusals: Counter[str] = Counter()
        """By code: handshakes, connects, publishes, subscriptions and broken rules."""
        self.ack_latency = Histogram()
        """PUBLISH read -> PUBACK written."""
        self.accept_duration = Histogram()
