"""The key custody that `[custody]` names, and the keyring over it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from rocade.app.configuration import Configuration
from rocade.core.errors import Misconfigured
from rocade.core.ports import Audit, Clock
from rocade.fabric.database import Database
from rocade.trust.authority.sealing import FileCustody, Keyring, RegionCustody
from rocade.trust.authority.sealing.pkcs11 import Pkcs11Custody


def custody_of(configuration: Configuration) -> RegionCustody:
    """Raises: Misconfigured `custody.kind`."""
    settings = configuration.custody
    if settings.kind == "file":
        return FileCustody(configuration.root / settings.directory)
    if settings.kind == "pkcs11":
        pin_file = configuration.root / settings.pin_file
        return Pkcs11Custody(settings.library, settings.token, pin_file, f"rocade-{configuration.region}")
    raise Misconfigured("custody.kind", "[custody] kind is `file` or `pkcs11`")


def create_custody(directory: Path, configuration: Configuration) -> None:
    """Of a new region: make the first region key if it lies with the region; another party's is made at the first start."""
    settings = configuration.custody
    if settings.kind == "file" and not Path(settings.directory).is_absolute():
        FileCustody(directory / settings.directory).create()


async def hang_keyring(
    configuration: Configuration, database: Database, clock: Clock, audit: Audit | None = None
) -> Keyring:
    """The keyring of this process, which `database` carries too; whoever asks closes it."""
    from rocade.app.backup import keeping  # its rooms are needed where a puncture is, and there alone

    keyring: Keyring | None = None

    def held() -> bytes | None:
        return keyring.held(*keeping.OWN) if keyring is not None else None

    custody, lease_s = custody_of(configuration), configuration.custody.lease_s
    keep = keeping.keep_after_puncture(configuration, database.url, custody, clock, held)
    keyring = await Keyring.open(database, custody, clock, lease_s=lease_s, keep=keep, audit=audit)
    database.keyring = keyring
    return keyring


@contextlib.asynccontextmanager
async def open_keyring(
    configuration: Configuration, database: Database, clock: Clock, audit: Audit | None = None
) -> AsyncIterator[Keyring]:
    """As `hang_keyring`, closed and taken off on leaving."""
    before = database.keyring
    keyring = await hang_keyring(configuration, database, clock, audit)
    try:
        yield keyring
    finally:
        database.keyring = before
        await keyring.close()
