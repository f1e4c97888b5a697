"""Whether a backup may be restored: everything that can be known before a byte is written.

In this order: the keys part is whole and of one region -> the backup is whole and of that same region -> the keys are not older
than it -> the ledger of erasures is this region's, is newer than the backup and goes on where it knew it -> there is room.
Refuses: `backup.missing`, `backup.unfinished`, `backup.foreign`, `backup.keys.older`, `backup.keys.held`,
`backup.ledger.older`, `backup.ledger.other`, Unavailable `backup.full`, Misconfigured `backup.into`; what keys part, manifest and ledger refuse.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from rocade.app.backup import keeping
from rocade.app.backup.chunks import read_sealed
from rocade.app.backup.making import DRAFT, MANIFEST, finished, unfinished
from rocade.app.backup.model import MANIFEST_TYPE, Manifest, read
from rocade.app.backup.place import Place
from rocade.app.backup.progress import Progress
from rocade.core.errors import Misconfigured, Refused, Unavailable
from rocade.trust.authority.erasure import Entry, ErasureLedger, entries_after, read_ledger
from rocade.trust.identity.directory import load_root

SPARE = 1.25
"""Room asked for each byte of the backup: indexes, the database's own log, a part rewritten."""


class Asked(msgspec.Struct, frozen=True):
    """What somebody wants restored: places, not yet opened."""

    source: str
    keys: str
    ledger: Path
    into: Path
    name: str | None = None
    trust: Path | None = None
    take_over: bool = False
    dry_run: bool = False


class Checked(msgspec.Struct, frozen=True):
    """A backup that may be restored, and what has to be erased again in it."""

    folder: str
    manifest: Manifest
    keys: keeping.KeysPart
    ledger: ErasureLedger
    erasures: tuple[Entry, ...]


def check(asked: Asked, place: Place, keys: Place) -> Checked:
    """Raises: as the module says."""
    if asked.into.exists() and (not asked.into.is_dir() or any(asked.into.iterdir())):
        raise Misconfigured("backup.into", f"{asked.into} is there already; a region is never overwritten")
    part = keeping.newest(keys)
    if asked.trust is not None and _bytes(load_root(asked.trust)) != _bytes(part.root):
        raise Refused("backup.foreign", "the keys part is of another region than the root certificate you named")
    folder = _choose(place, asked.name)
    manifest = read(MANIFEST_TYPE, place.get(f"{folder}/{MANIFEST}") or b"", Manifest, part.root)
    if manifest.origin != part.manifest.origin:
        raise Refused(
            "backup.foreign", f"the backup is of region {manifest.origin.region}, the keys are of another one"
        )
    if part.manifest.at_us < manifest.at_us:
        raise Refused(
            "backup.keys.older",
            f"the newest keys part is of {_said(part.manifest.at_us)}, the backup of {_said(manifest.at_us)}: it lacks its"
            " key; name a newer one",
        )
    if not asked.take_over and not any(file.name.startswith("clear/custody") for file in part.manifest.files):
        raise Refused(
            "backup.keys.held",
            "the region key is in the custody of another party: with --take-over the restored region goes on with it, and"
            " the one that was backed up must not run any more",
        )
    ledger = _newer_ledger(asked.ledger, part.root, manifest)
    _check_room(asked.into, manifest)
    return Checked(folder, manifest, part, ledger, tuple(entries_after(ledger, manifest.at_us)))


def check_chunks(checked: Checked, place: Place, keys: Place, progress: Progress) -> None:
    """Read every chunk and every file of the keys part and compare. Raises: Corrupt `backup.chunk`, `backup.keys.changed`."""
    chunks = checked.manifest.chunks
    progress.expect(checked.manifest.stored_bytes)
    progress.begin("checksums")
    for chunk in chunks.values():
        read_sealed(place, checked.folder, chunk)
        progress.moved(chunk.stored_bytes)
    for file in checked.keys.manifest.files:
        keeping.content(keys, checked.keys, file.name)
    for chunk in checked.keys.manifest.private:
        read_sealed(keys, checked.keys.folder, chunk)


def _choose(place: Place, name: str | None) -> str:
    whole = finished(place)
    if name is not None and name not in whole:
        if place.get(f"{name}/{DRAFT}") is not None:
            raise _unfinished(name)
        raise Refused("backup.missing", f"no backup {name} is there; there are: {', '.join(whole) or 'none'}")
    if not whole:
        if broken := unfinished(place):
            raise _unfinished(broken[-1])
        raise Refused("backup.missing", "no backup is there; name the place that `rocade backup` wrote to")
    return name or whole[-1]


def _unfinished(name: str) -> Refused:
    return Refused(
        "backup.unfinished",
        f"{name} has no manifest: it was broken off; run `rocade backup` again, or name an older one",
    )


def _newer_ledger(directory: Path, root: x509.Certificate, manifest: Manifest) -> ErasureLedger:
    ledger = read_ledger(directory, root)
    if len(ledger.entries) >= manifest.ledger_entries and not ledger.holds(
        manifest.ledger_entries, manifest.ledger_hash
    ):
        raise Refused(
            "backup.ledger.other",
            "this ledger of erasures does not go on from the one the backup knew: it is another region's, or a fork of it",
        )
    if ledger.until_us <= manifest.at_us or len(ledger.entries) < manifest.ledger_entries:
        raise Refused(
            "backup.ledger.older",
            f"this ledger of erasures speaks until {_said(ledger.until_us)}, the backup is of {_said(manifest.at_us)}: what"
            " was erased since would come back; bring the region's newest ledger",
        )
    return ledger


def _check_room(into: Path, manifest: Manifest) -> None:
    here = next(parent for parent in into.absolute().parents if parent.exists())
    free_bytes, wanted = shutil.disk_usage(here).free, int(manifest.size_bytes * SPARE)
    if free_bytes < wanted:
        raise Unavailable(
            "backup.full",
            f"the restored region needs {wanted / 1e6:,.0f} MB, {free_bytes / 1e6:,.0f} MB are free in {here}",
        )


def _said(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="seconds")


def _bytes(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
