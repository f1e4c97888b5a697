"""What one agent holds in secret at one hub: the keys that open what is encrypted for it, and the marks of its exports.

    encryption.json    X25519 private keys, newest first, mode 0600; they never leave
    marks.json         by list, the lines that only this holder's exports carry (wire.prices.marks), mode 0600
    marks.sha256       of marks.json, for a mark with a turned bit would name nobody: without its digest there are none, until the next letter
Several encryption keys are valid at once: a new one joins at each renewal, the old ones still open what is on its way.
"""

from __future__ import annotations

import hmac
import logging
from hashlib import sha256
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from rocade.core.errors import Misconfigured
from rocade.core.ports import Clock
from rocade.trust.identity.envelope import seal
from rocade.trust.identity.keys import PrivateKey, write_private
from rocade.wire.exchange import KEYS_TYPE
from rocade.wire.exchange.keys import EncryptionKey, Keys
from rocade.wire.prices import Mark, open_marks, read_letter

_log = logging.getLogger(__name__)
KEY_LIFE_US = 180 * 86_400_000_000
KEPT = 4
KEY_BYTES = 32
MARKS_FILE = "marks.json"


class _Kept(msgspec.Struct):
    """`digest`: of the key and its end; empty in a file from before there was one."""

    private: bytes
    not_after_us: int
    digest: str = ""

    @property
    def is_whole(self) -> bool:
        return not self.digest or hmac.compare_digest(self.digest.encode(), self._made().encode())

    def sealed(self) -> _Kept:
        return _Kept(self.private, self.not_after_us, self._made())

    def _made(self) -> str:
        return sha256(b"rocade encryption key %d " % self.not_after_us + self.private).hexdigest()


class Keyring:
    """The keys of one identity directory."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._file, self._marks_file, self._clock = directory / "encryption.json", directory / MARKS_FILE, clock
        self._keys = self._load()
        if not self._keys:
            self.add_key()
        elif not all(key.digest for key in self._keys):
            self._write()

    def add_key(self) -> None:
        """Begin with a new encryption key; the old ones still open what was wrapped for them."""
        raw = X25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        now_us = self._clock.now_us()
        kept = [key for key in self._keys if key.not_after_us > now_us]
        self._keys = [_Kept(raw, now_us + KEY_LIFE_US), *kept][:KEPT]
        self._write()

    @property
    def private_keys(self) -> list[X25519PrivateKey]:
        """Newest first; one that ended still opens, it is only no longer offered."""
        return [X25519PrivateKey.from_private_bytes(key.private) for key in self._keys]

    def registration(self, signing: PrivateKey, also: tuple[EncryptionKey, ...] = ()) -> bytes:
        """`up/keys`: the public halves, signed; `also` are those of the other agent of the site."""
        now_us = self._clock.now_us()
        own = [key for key in self.public_keys() if key.not_after_us > now_us]
        return seal(KEYS_TYPE, msgspec.json.encode(Keys((*own[:2], *also[:2]), now_us)), signing)

    def public_keys(self) -> tuple[EncryptionKey, ...]:
        return tuple(
            EncryptionKey(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw), key.not_after_us)
            for private, key in zip(self.private_keys, self._keys, strict=True)
        )

    def keep_marks(self, letter: bytes, site: str) -> None:
        """Take the marks that came with a letter of epoch keys. Raises: Refused `prices.marks.sealed`, `prices.epoch.malformed`."""
        found = {one.list_id: open_marks(one, self.private_keys, site) for one in read_letter(letter).marks}
        if found:
            kept = msgspec.json.encode(read_marks(self._marks_file) | found)
            write_private(self._marks_file, kept)
            write_private(_digest_file(self._marks_file), sha256(kept).hexdigest().encode())

    def _write(self) -> None:
        self._keys = [key.sealed() for key in self._keys]
        write_private(self._file, msgspec.json.encode(self._keys))

    def _load(self) -> list[_Kept]:
        """Raises: Misconfigured `dealer.keyring.exposed`, `dealer.keyring.unreadable`."""
        if not self._file.exists():
            return []
        if self._file.stat().st_mode & 0o077:
            raise Misconfigured("dealer.keyring.exposed", f"{self._file.name} can be read by others; chmod 600 it")
        try:
            found = msgspec.json.decode(self._file.read_bytes(), type=list[_Kept])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            found = []
        if not found or not all(key.is_whole and len(key.private) == KEY_BYTES for key in found):
            raise Misconfigured(
                "dealer.keyring.unreadable",
                f"{self._file.name} is damaged; remove it, a new key is made and registered",
            )
        return found


def read_marks(file: Path) -> dict[str, tuple[Mark, ...]]:
    """The marks kept, by list; none where none came, or where they are not what was kept."""
    try:
        content, digest = file.read_bytes(), _digest_file(file).read_bytes()
    except FileNotFoundError:
        return {}
    if not hmac.compare_digest(digest, sha256(content).hexdigest().encode()):
        _log.error("%s is not what was kept; the hub's next letter brings the marks", file.name)
        return {}
    return msgspec.json.decode(content, type=dict[str, tuple[Mark, ...]])


def _digest_file(file: Path) -> Path:
    return file.with_suffix(".sha256")
