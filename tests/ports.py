"""Ports for what has to be told its port before it starts.

A port that the system gave out and took back may be given to anybody's outgoing connection meanwhile. These lie below the
range it gives out (32768 upwards), and each process of a test run walks through them from another place.
"""

from __future__ import annotations

import itertools
import os
import socket

FIRST, LAST = 10_000, 32_000
_steps = itertools.count()


def free_port() -> int:
    """A port of loopback that nobody listens on, and that this process has not been given before."""
    for step in _steps:
        port = FIRST + (os.getpid() * 7919 + step) % (LAST - FIRST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("counting never ends")
