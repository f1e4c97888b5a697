"""Ports for what has to be told its port before it starts.

A port that the system gave out and took back may be given to anybody's outgoing connection meanwhile. These lie below the
range it gives out (32768 upwards), and each process walks through them from another place.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from errno import EADDRINUSE

FIRST, LAST = 10_000, 32_000
APART = 7919
"""Between the places of processes that were started one after the other."""
_steps = itertools.count()


def free_port() -> int:
    """A port of loopback that nobody listens on, and that this process has not been given before.

    Raises: OSError when all are taken.
    """
    for step in itertools.islice(_steps, LAST - FIRST):
        port = FIRST + (os.getpid() * APART + step) % (LAST - FIRST)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(EADDRINUSE, "all ports are taken")
