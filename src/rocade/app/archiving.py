"""The raw batch archive in a region: where its objects are, who fills it, who puts a vehicle's batches back on the road."""

from __future__ import annotations

import os
import socket

from rocade.app.configuration import Configuration
from rocade.app.wiring import Common
from rocade.fabric.blobs import open_blobs
from rocade.fabric.database import Leases
from rocade.fabric.log import Log
from rocade.services.telemetry.archive import GROUP, Archive, Archiver, put_away
from rocade.services.telemetry.model import STREAM


def archive_of(configuration: Configuration) -> Archive:
    """The region's archive, also where it is off: what it held before is still erased. Raises: Misconfigured `blobs.url`."""
    return Archive(open_blobs(configuration.blobs_url))


async def keep_archive(parts: Common, log: Log) -> None:
    """In each worker: archive for ever; where the archive is off, tell the log so and rest."""
    keep_days = parts.configuration.archive.keep_days
    if keep_days <= 0:
        await put_away(log)
        return
    owner = f"{socket.gethostname()}:{os.getpid()}:{parts.random.bits(32):08x}"
    leases = Leases(parts.database, GROUP, STREAM, owner)
    await Archiver(archive_of(parts.configuration), log, leases, parts.clock, keep_days).run()
