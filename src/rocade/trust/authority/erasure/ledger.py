"""The ledger of erasures: what must stay forgotten, whatever is restored. Files of their own, apart from every backup.

    ledger    one signed entry a line, appended; each names the hash of the line before
    head      signed and written anew with each entry and once a minute: "until this instant there were so many, the last was this"
    signers   the root's statements about the keys that sign: who holds the region's root certificate can check the rest

An erasure is written down when it is ordered, before anything of it is done, and again when it is complete. A restore of
an older copy reads the ledger, has to find a head younger than the copy, and erases again what was ordered since.
The files hold references, instants and counts, never a VIN, a name or a value. They are signed by the key of the audit
log, so whoever can write the directory but has not that key can neither add, drop, swap nor shorten unseen. Who writes holds
what it reads against the hashes in it and the last head: what has changed is not cut off as a crash's rest, nor signed over.
Refuses: Unavailable `erasure.ledger.missing`, Corrupt `erasure.ledger.broken`. docs/decisions/0057-erasure.md.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from rocade.core.errors import Corrupt, Refused, Unavailable
from rocade.core.ports import Clock
from rocade.trust.authority.heads import KEY_TYPE
from rocade.trust.identity import envelope
from rocade.trust.identity.keys import PublicKey, key_id, read_private, write_atomically

ENTRY_TYPE = "application/vnd.rocade.erasure+json"
HEAD_TYPE = "application/vnd.rocade.erasure-head+json"
FILE, HEAD, SIGNERS, LOCK = "ledger", "head", "signers", "lock"


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. `subject`: `vehicle:<ref>`, `person:<number>` or `rules`; `renewed`: the reference a vehicle goes on under."""

    number: int
    previous: str
    at_us: int
    state: Literal["ordered", "done"]
    erasure: str
    subject: str
    renewed: int = 0
    facts: dict[str, int | str] = {}


class LedgerHead(msgspec.Struct, frozen=True):
    """How many entries there were at an instant, and the hash of the last line."""

    entries: int
    last: str
    at_us: int


class ErasureLedger(msgspec.Struct, frozen=True):
    """A ledger that was read and checked as a whole; `until_us`: nothing was erased until then but what stands here."""

    entries: tuple[Entry, ...]
    until_us: int
    hashes: tuple[str, ...]
    """Of the line after so many entries; '' of none: by number and hash a copy knows the ledger it was made beside."""

    @property
    def newest(self) -> tuple[int, str]:
        return len(self.entries), self.hashes[-1]

    def holds(self, number: int, hash: str) -> bool:
        """Whether this ledger goes on from the one whose newest entry this was."""
        return number < len(self.hashes) and self.hashes[number] == hash


def read_ledger(directory: Path, root: x509.Certificate) -> ErasureLedger:
    """Read and check a ledger with nothing but the region's root certificate.

    Raises: Unavailable `erasure.ledger.missing`; Corrupt `erasure.ledger.broken` (or another region's).
    """
    try:
        lines = _whole_lines((directory / FILE).read_bytes()) if (directory / FILE).exists() else []
        signed_head, statements = (directory / HEAD).read_bytes(), (directory / SIGNERS).read_bytes().splitlines()
    except OSError as error:
        raise Unavailable(
            "erasure.ledger.missing", f"the ledger of erasures cannot be read: {error.strerror}; name its directory"
        ) from None
    keys = _vouched(statements, root)
    entries, last, hashes = list[Entry](), "", [""]
    for number, line in enumerate(lines, 1):
        entry = _open(ENTRY_TYPE, line, keys, Entry, f"entry {number}")
        if entry.number != number or entry.previous != last:
            raise _broken(f"entry {number} does not follow the one before; a line was dropped, moved or added")
        last = sha256(line).hexdigest()
        entries.append(entry)
        hashes.append(last)
    head = _open(HEAD_TYPE, signed_head, keys, LedgerHead, "the head")
    if head.entries > len(entries) or hashes[head.entries] != head.last:
        raise _broken("the head speaks of entries that are not there; the ledger was cut off or exchanged")
    newest_us = entries[-1].at_us if len(entries) > head.entries else 0
    return ErasureLedger(tuple(entries), max(head.at_us, newest_us), tuple(hashes))


def entries_after(ledger: ErasureLedger, after_us: int) -> list[Entry]:
    """What has to be erased again in a copy made at `after_us`, each erasure once, in the order it was given.

    One that was ordered before and completed after the copy counts too: the copy holds it half done.
    """
    done = {entry.erasure: entry for entry in ledger.entries if entry.state == "done"}
    return [
        entry
        for entry in ledger.entries
        if entry.state == "ordered" and (entry.erasure not in done or done[entry.erasure].at_us >= after_us)
    ]


class LedgerFiles:
    """The ledger as its writers use it; several processes of one region may, each write waits for a lock.

    `signing`: the directory of the audit key. A line that a crash cut off is removed by the next write. Every act raises
    Corrupt `erasure.ledger.broken` where the ledger is not what was written.
    Cost: what others wrote since the last write of this object is read, nothing twice.
    """

    def __init__(self, directory: Path, signing: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._key = read_private(signing / "key.pem")
        self._statement = (signing / "key.json").read_bytes()
        self._known = _Known()

    def append(
        self,
        state: Literal["ordered", "done"],
        erasure: str,
        subject: str,
        renewed: int = 0,
        facts: Mapping[str, int | str] | None = None,
    ) -> Entry:
        """Write one entry, durable when this returns; one that stands there already is not written twice."""
        with self._locked():
            known = self._read_on()
            if place := known.places.get((state, erasure)):
                self._write_head()
                return _entry(self._line(*place))
            entry = Entry(
                known.entries + 1, known.last, self._clock.now_us(), state, erasure, subject, renewed, dict(facts or {})
            )
            line = envelope.seal(ENTRY_TYPE, msgspec.json.encode(entry), self._key)
            self._add(line)
            known.take(entry, line)
            self._write_head()
            return entry

    def beat(self) -> None:
        """Say that until now nothing was erased but what stands here."""
        with self._locked():
            self._read_on()
            self._write_head()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _read_on(self) -> _Known:
        """What the file says, with what others have written meanwhile; one that was put in its place is read anew."""
        path = self._directory / FILE
        size = path.stat().st_size if path.exists() else 0
        known = self._known
        if size < known.size_bytes or (known.entries and sha256(self._line(*known.newest)).hexdigest() != known.last):
            known = self._known = _Known()
        head = self._head()
        if size > known.size_bytes:
            with path.open("rb") as file:
                file.seek(known.size_bytes)
                lines = _whole_lines(file.read())
            for line in lines:
                self._take(line, head)
        if head.entries > known.entries or (head.entries == known.entries and head.last != known.last):
            self._known = _Known()
            raise _broken("the entries are not those the head was signed over")
        if size > known.size_bytes:
            os.truncate(path, known.size_bytes)
        return known

    def _take(self, line: bytes, head: LedgerHead) -> None:
        """The next line as it stands: a hash covers it, or a signature where neither a line nor the head follows."""
        known = self._known
        entry = self._opened(ENTRY_TYPE, line, Entry, must_verify=known.entries >= head.entries)
        follows = (entry.number, entry.previous) == (known.entries + 1, known.last)
        is_headed = head.entries != known.entries or head.last == known.last
        if not follows or not is_headed:
            self._known = _Known()
            raise _broken(f"entry {known.entries + 1} is not what was written")
        known.take(entry, line)

    def _head(self) -> LedgerHead:
        path = self._directory / HEAD
        return self._opened(HEAD_TYPE, path.read_bytes(), LedgerHead) if path.exists() else LedgerHead(0, "", 0)

    def _opened[T](self, kind: str, signed: bytes, shape: type[T], *, must_verify: bool = True) -> T:
        """What we signed; what an earlier key of the region signed only readers can check."""
        own = {key_id(self._key.public_key()).hex(): self._key.public_key()}
        try:
            is_ours = must_verify and not envelope.signers_of(signed).isdisjoint(own)
            payload = envelope.unseal(kind, signed, own) if is_ours else envelope.payload_of(signed)
            return msgspec.json.decode(payload, type=shape)
        except (Refused, msgspec.MsgspecError, UnicodeDecodeError):
            self._known = _Known()
            raise _broken("a line or the head is not what this region wrote") from None

    def _line(self, begin: int, length: int) -> bytes:
        with (self._directory / FILE).open("rb") as file:
            file.seek(begin)
            return file.read(length)

    def _add(self, line: bytes) -> None:
        path = self._directory / FILE
        is_new = not path.exists()
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            content = line + b"\n"
            if os.write(file, content) != len(content):
                raise Unavailable("erasure.ledger.full", "the ledger of erasures has no room; nothing was erased")
            os.fsync(file)
        except OSError as error:
            raise Unavailable(
                "erasure.ledger.full", f"the ledger of erasures cannot be written: {error.strerror}; nothing was erased"
            ) from error
        finally:
            os.close(file)
        if is_new:
            _sync(self._directory)

    def _write_head(self) -> None:
        signers = self._directory / SIGNERS
        known = signers.read_bytes().splitlines() if signers.exists() else []
        if self._statement not in known:
            write_atomically(signers, b"".join(one + b"\n" for one in [*known, self._statement]))
        head = LedgerHead(self._known.entries, self._known.last, self._clock.now_us())
        write_atomically(self._directory / HEAD, envelope.seal(HEAD_TYPE, msgspec.json.encode(head), self._key))


class _Known(msgspec.Struct):
    """What was read of the file: its size, how many entries, the last line's hash, and where each entry lies (begin, bytes)."""

    size_bytes: int = 0
    entries: int = 0
    last: str = ""
    newest: tuple[int, int] = (0, 0)
    places: dict[tuple[str, str], tuple[int, int]] = {}

    def take(self, entry: Entry, line: bytes) -> None:
        self.newest = self.size_bytes, len(line)
        self.places[entry.state, entry.erasure] = self.newest
        self.size_bytes += len(line) + 1
        self.entries += 1
        self.last = sha256(line).hexdigest()


def _entry(line: bytes) -> Entry:
    """Of a line that this region wrote; whoever reads what others hold uses `read_ledger`."""
    try:
        return msgspec.json.decode(envelope.payload_of(line), type=Entry)
    except (Refused, UnicodeDecodeError, msgspec.MsgspecError):
        raise _broken("a line is not what this region wrote") from None


def _whole_lines(content: bytes) -> list[bytes]:
    """Lines that end; what a crash cut off behind the last end is none."""
    return content.split(b"\n")[:-1]


def _open[T](kind: str, signed: bytes, keys: Mapping[str, PublicKey], shape: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(envelope.unseal(kind, signed, keys), type=shape)
    except (Refused, msgspec.MsgspecError):
        raise _broken(f"{what} is not what this region signed") from None


def _vouched(statements: list[bytes], root: x509.Certificate) -> dict[str, PublicKey]:
    root_key, keys = root.public_key(), dict[str, PublicKey]()
    if not isinstance(root_key, ec.EllipticCurvePublicKey):
        raise _broken("the root certificate has no key on an elliptic curve")
    for statement in statements:
        try:
            key = load_der_public_key(envelope.unseal(KEY_TYPE, statement, {key_id(root_key).hex(): root_key}))
        except (Refused, ValueError):
            continue  # of another region: what it signed will not open
        if isinstance(key, ec.EllipticCurvePublicKey):
            keys[key_id(key).hex()] = key
    return keys


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _broken(why: str) -> Corrupt:
    return Corrupt(
        "erasure.ledger.broken", f"{why}; take another copy of the ledger, and find out who changed this one"
    )
