"""`rocade dealer status`: what the running agent last wrote about itself, and whether it still runs."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from rocade.agents.dealer.agent import STATE_FILE, Standing
from rocade.agents.dealer.instants import iso
from rocade.core.errors import Refused


class Read(msgspec.Struct, frozen=True):
    is_running: bool
    standing: Standing


def read(place: Path) -> Read:
    """Raises: Refused `dealer.state.missing` where no agent has ever run."""
    try:
        standing = msgspec.json.decode((place / STATE_FILE).read_bytes(), type=Standing)
    except (OSError, msgspec.MsgspecError):
        raise Refused("dealer.state.missing", f"no agent has run on {place} yet; `rocade dealer run`") from None
    return Read(_is_held(place / ".lock"), standing)


def as_json(read: Read) -> bytes:
    return msgspec.json.encode(read)


def lines(read: Read) -> Iterator[str]:
    """For people."""
    now = read.standing
    role = "" if now.role == "alone" else f", {now.role}"
    yield f"{now.site}: {f'running (pid {now.pid}{role})' if read.is_running else 'NOT running'}, version {now.version}, as of {iso(now.at_us)}"
    for hub in now.hubs:
        state = f"connected since {iso(hub.since_us)}" if hub.is_connected and read.is_running else "not connected"
        yield f"  hub {hub.name} ({hub.host}): {state}; certificate ends {iso(hub.certificate_end_us)}"
        if not hub.is_connected and hub.code:
            yield f"    {hub.problem}  [{hub.code}]"
        if hub.renewal_problem:
            yield f"    the certificate is not renewed: {hub.renewal_problem}"
        yield f"    {hub.waiting} messages wait, {hub.set_aside} set aside"
    for one in now.lists:
        yield f"  list {one['list']} ({one['hub']}): number {one['number']}, {one['parts']} parts, applied {iso(one['applied_us'])}"
    if now.page:
        yield f"  page {now.page}, {now.turned_away} connections turned away"


def _is_held(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
