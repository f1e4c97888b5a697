"""Where the region key lives: `RegionCustody`, and the kind that keeps it in files.

The region key wraps the 1,024 bucket keys and nothing else. It has versions; a puncture makes the next and destroys the last.
`FileCustody` reads its file at every use, so that a mount that was taken away is noticed at the next lease. A key others can
read is refused. With PKCS#11 (pkcs11.py) the key never leaves the token.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from rocade.core.errors import Corrupt, Misconfigured, Unavailable
from rocade.trust.identity.keys import write_private

NONCE_BYTES = 12
REGION_FILE = "region"


class RegionCustody(Protocol):
    """Every method may block and raises Unavailable `custody.down` (ask again) or `custody.refused` (cut off, or gone)."""

    def current(self) -> int:
        """The newest version; 0 if there is none."""
        ...

    def versions(self) -> list[int]:
        """All versions that are here, ascending."""
        ...

    def create(self, after: int = 0) -> int:
        """Make the next version, above `after`, and return it; the ones before stay."""
        ...

    def wrap(self, version: int, plain: bytes, aad: bytes) -> bytes: ...

    def unwrap(self, version: int, wrapped: bytes, aad: bytes) -> bytes:
        """Raises: also Corrupt `custody.wrap`."""
        ...

    def files(self) -> list[Path]:
        """Files that a backup of keys may carry and put back at the same place; none of a key that cannot leave."""
        ...

    def destroy(self, version: int) -> None:
        """Destroy a version for good; one that is not here is no error."""
        ...


class FileCustody:
    """Keys as `<version>.key`, 32 bytes, mode 0600, in a directory to be put on a mount of somebody else.

    `region`: whose keys they are, kept beside them; a puncture of another region must not destroy them.
    """

    def __init__(self, directory: Path, region: str = "") -> None:
        self._directory = directory
        self._region = region

    def current(self) -> int:
        return max(self.versions(), default=0)

    def versions(self) -> list[int]:
        try:
            names = [file.name for file in self._directory.iterdir()]
            if (
                self._region
                and REGION_FILE in names
                and (self._directory / REGION_FILE).read_bytes() != self._region.encode()
            ):
                raise Misconfigured(
                    "custody.foreign", f"{self._directory} holds the key of another region; name another"
                )
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _gone(error) from error
        return sorted(int(name[:-4]) for name in names if name.endswith(".key") and name[:-4].isdigit())

    def create(self, after: int = 0) -> int:
        version = max(self.current(), after) + 1
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._region:
                write_private(self._directory / REGION_FILE, self._region.encode())
            write_private(self._path(version), AESGCM.generate_key(256))
        except OSError as error:
            raise _gone(error) from error
        return version

    def wrap(self, version: int, plain: bytes, aad: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + AESGCM(self._read(version)).encrypt(nonce, plain, aad)

    def unwrap(self, version: int, wrapped: bytes, aad: bytes) -> bytes:
        try:
            return AESGCM(self._read(version)).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], aad)
        except InvalidTag:
            raise Corrupt(
                "custody.wrap", "a bucket key does not open with the region key: not this region's, or changed"
            ) from None

    def destroy(self, version: int) -> None:
        """Overwritten before it is removed; on a disk that remaps what it writes only the holder's own means are sure."""
        path = self._path(version)
        try:
            with path.open("r+b") as file:
                file.write(os.urandom(32))
                file.flush()
                os.fsync(file.fileno())
            path.unlink()
            folder = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _gone(error) from error

    def files(self) -> list[Path]:
        """The key files and whose they are, of which a copy is as good as the key: whoever backs them up keeps them apart, and for a short time."""
        marks = [self._directory / REGION_FILE] if self._region else []
        return marks + [self._path(version) for version in self.versions()]

    def _path(self, version: int) -> Path:
        return self._directory / f"{version}.key"

    def _read(self, version: int) -> bytes:
        path = self._path(version)
        try:
            mode, key = path.stat().st_mode, path.read_bytes()
        except FileNotFoundError:
            if not self.versions():
                raise Unavailable("custody.down", "no region key is where custody should be; mount it again") from None
            raise unknown_version(version) from None
        except PermissionError:
            raise Unavailable("custody.refused", "this process may not read the region key in custody") from None
        except OSError as error:
            raise _gone(error) from error
        if mode & 0o077:
            raise Misconfigured("custody.exposed", f"{path.name} can be read by others; chmod 600 it, then rotate")
        if len(key) != 32:
            raise Corrupt("custody.wrap", f"{path.name} holds no region key")
        return key


def unknown_version(version: int) -> Unavailable:
    """What a custody says of a version that it does not hold while it holds others."""
    return Unavailable(
        "custody.refused",
        f"custody holds no region key {version}: it was destroyed, or these key tables are older than a puncture",
    )


def _gone(error: OSError) -> Unavailable:
    return Unavailable("custody.down", f"key custody does not answer: {type(error).__name__}")
