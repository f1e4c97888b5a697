"""The key custody that `[custody]` names, and the keyring over it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

from rocade.app.configuration import Configuration, Custody
from rocade.core.errors import Misconfigured
from rocade.core.ports import Audit, Clock
from rocade.fabric.database import Database
from rocade.trust.authority.sealing import FileCustody, Keyring, RegionCustody
from rocade.trust.authority.sealing.pkcs11 import Pkcs11Custody


def custody_of(configuration: Configuration, settings: Custody | None = None) -> RegionCustody:
    """`settings`: others than the configuration's. Raises: Misconfigured `custody.kind`."""
    settings = settings or configuration.custody
    if settings.kind == "file":
        return FileCustody(configuration.root / settings.directory, fingerprint(configuration.trust))
    if settings.kind == "pkcs11":
        pin_file = configuration.root / settings.pin_file
        return Pkcs11Custody(settings.library, settings.token, pin_file, label_of(configuration))
    raise Misconfigured("custody.kind", "[custody] kind is `file` or `pkcs11`")


def create_custody(directory: Path, configuration: Configuration) -> None:
    """Of a new region: make the first region key if it lies with the region; another party's is made at the first start."""
    settings = configuration.custody
    if settings.kind == "file" and not Path(settings.directory).is_absolute():
        FileCustody(directory / settings.directory, fingerprint(directory / "trust")).create()


def fingerprint(trust: Path) -> str:
    """Which region this is: the SHA-256 of its root certificate's file; empty where there is none."""
    root = trust / "trust.pem"
    return sha256(root.read_bytes()).hexdigest() if root.exists() else ""


def label_of(configuration: Configuration) -> str:
    """What the region's keys are called in a token, before their version."""
    return f"rocade-{configuration.region}-{fingerprint(configuration.trust)[:12]}"


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
