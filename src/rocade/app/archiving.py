"""The raw batch archive in a region: where its objects are, who fills it, who puts a vehicle's batches back on the road."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rocade.app.configuration import Configuration
from rocade.app.wiring import Common
from rocade.fabric.blobs import open_blobs
from rocade.fabric.database import Database, Leases
from rocade.fabric.log import Log
from rocade.services.telemetry.archive import GROUP, Archive, Archiver, put_away, sweep
from rocade.services.telemetry.model import STREAM


def archive_of(configuration: Configuration, database: Database) -> Archive:
    """The region's archive, also where it is off: what it held before is still erased. Raises: Misconfigured `blobs.url`."""
    return Archive(open_blobs(configuration.blobs_url), database)


def lies_inside(configuration: Configuration) -> bool:
    """Whether the objects are among the region's own files, and so in its backup."""
    url = urlsplit(configuration.blobs_url)
    return url.scheme == "file" and Path(unquote(url.path)).resolve() == (configuration.root / "blobs").resolve()


def keep_days(configuration: Configuration) -> float:
    """How long objects stay: a batch holds all signals, so none outlives the shortest of the rules of retention."""
    shortest = min(rule.days for rule in configuration.retention)
    return min(configuration.archive.keep_days or shortest, shortest)


async def keep_archive(parts: Common, log: Log) -> None:
    """In each worker: archive for ever; where the archive is off, tell the log so. What is too old goes either way."""
    archive, days = archive_of(parts.configuration, parts.database), keep_days(parts.configuration)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(sweep(archive, parts.database, parts.audit, parts.clock, days), name="archive-sweep")
        if parts.configuration.archive.keep_days <= 0:
            await put_away(log)
            return
        owner = f"{socket.gethostname()}:{os.getpid()}:{parts.random.bits(32):08x}"
        leases = Leases(parts.database, GROUP, STREAM, owner)
        await Archiver(archive, log, leases, parts.clock).run()
