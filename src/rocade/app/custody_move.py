"""Put the region key into another custody: the tables are wrapped by a new key there, rocade.toml names it, the old key goes.

Killed in between it is simply done again: the new custody then knows the tables already, and where the key that is to be
destroyed lies stands in `custody.left` from before the tables change until it is destroyed. Nothing is destroyed before the
new custody opens the tables.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from rocade.app.configuration import Configuration, Custody, render_section
from rocade.app.custodies import custody_of
from rocade.app.local import Hand
from rocade.app.supervisor import PID_FILE
from rocade.core.errors import Refused
from rocade.trust.authority.sealing import puncturing
from rocade.trust.identity.keys import write_atomically

LEFT = "custody.left"


async def move(hand: Hand, settings: Custody, *, destroys_old: bool) -> int:
    """Returns the version in the new custody.

    Raises: Refused `custody.same`, `custody.running`; what both custodies raise.
    """
    configuration = hand.configuration
    now, new = custody_of(configuration), custody_of(configuration, settings)
    is_there = place_of(configuration, settings) == place_of(configuration, configuration.custody)
    kept = {place_of(configuration, one) for one in (settings, configuration.custody)}
    left = [one for one in await asyncio.to_thread(_left, configuration) if place_of(configuration, one) not in kept]
    if is_there and not (left and destroys_old):
        more = "; repeat with --destroy-old to destroy the key it left" if left else ""
        raise Refused("custody.same", f"the region key is there already; `rocade custody rotate` makes a new one{more}")
    if await asyncio.to_thread(_is_running, configuration):
        raise Refused("custody.running", "stop the region first: its processes would go on with the old custody")
    await hand.record("custody.moved", "custody", kind=settings.kind)
    if destroys_old and not is_there:
        left.append(configuration.custody)
    await asyncio.to_thread(_leave, configuration, left)
    version = await puncturing.rewrap(hand.database.pool, now, new)
    await asyncio.to_thread(_write, configuration.root / "rocade.toml", render_section("custody", settings))
    if destroys_old:
        for one in left:
            old = custody_of(configuration, one)
            for older in await asyncio.to_thread(old.versions):
                await asyncio.to_thread(old.destroy, older)
        await asyncio.to_thread(_leave, configuration, [])
    return version


def place_of(configuration: Configuration, settings: Custody) -> str:
    """Where the key is, in words."""
    if settings.kind == "file":
        return f"files in {(configuration.root / settings.directory).resolve()}"
    return f"token {settings.token!r} by {settings.library}"


def _left(configuration: Configuration) -> list[Custody]:
    """Custodies whose keys a move was to destroy and has not yet; what cannot be read names none."""
    try:
        return msgspec.json.decode((configuration.root / LEFT).read_bytes(), type=list[Custody])
    except (FileNotFoundError, msgspec.MsgspecError):
        return []


def _leave(configuration: Configuration, left: list[Custody]) -> None:
    if left:
        write_atomically(configuration.root / LEFT, msgspec.json.encode(left))
    else:
        (configuration.root / LEFT).unlink(missing_ok=True)


def _write(file: Path, section: str) -> None:
    """Put a section in the place of the one that is there, or at the end."""
    lines = file.read_text().splitlines()
    name = section.splitlines()[0]
    if name in lines:
        first = lines.index(name)
        last = next((at for at in range(first + 1, len(lines)) if lines[at].startswith("[")), len(lines))
        lines[first:last] = [*section.splitlines(), ""]
    else:
        lines += ["", *section.splitlines()]
    write_atomically(file, ("\n".join(lines).rstrip() + "\n").encode())


def _is_running(configuration: Configuration) -> bool:
    try:
        os.kill(int((configuration.socket_directory / PID_FILE).read_text()), 0)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
