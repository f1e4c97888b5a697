"""Put the region key into another custody: the tables are wrapped by a new key there, rocade.toml names it, the old key goes.

Killed in between it is simply done again: the new custody then knows the tables already.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from rocade.app.configuration import Configuration, Custody, render_section
from rocade.app.custodies import custody_of
from rocade.app.local import Hand
from rocade.app.supervisor import PID_FILE
from rocade.core.errors import Refused
from rocade.trust.authority.sealing import puncturing
from rocade.trust.identity.keys import write_atomically


async def move(hand: Hand, settings: Custody, *, destroys_old: bool) -> int:
    """Returns the version in the new custody.

    Raises: Refused `custody.same`, `custody.running`; what both custodies raise.
    """
    configuration = hand.configuration
    old, new = custody_of(configuration), custody_of(configuration, settings)
    if place_of(configuration, settings) == place_of(configuration, configuration.custody):
        raise Refused("custody.same", "the region key is there already; `rocade custody rotate` makes a new one")
    if await asyncio.to_thread(_is_running, configuration):
        raise Refused("custody.running", "stop the region first: its processes would go on with the old custody")
    await hand.record("custody.moved", "custody", kind=settings.kind)
    version = await puncturing.rewrap(hand.database.pool, old, new)
    await asyncio.to_thread(_write, configuration.root / "rocade.toml", render_section("custody", settings))
    if destroys_old:
        for older in await asyncio.to_thread(old.versions):
            await asyncio.to_thread(old.destroy, older)
    return version


def place_of(configuration: Configuration, settings: Custody) -> str:
    """Where the key is, in words."""
    if settings.kind == "file":
        return f"files in {(configuration.root / settings.directory).resolve()}"
    return f"token {settings.token!r} by {settings.library}"


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
