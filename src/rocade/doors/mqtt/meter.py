"""What the door counts. Plain numbers, read by whoever exports them."""

from __future__ import annotations

from collections import Counter

from rocade.core.latency import Histogram

__all__ = ["Histogram", "Meter"]


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
