"""Operator tokens: `rocade_<id>_<secret>`, printed once; only the SHA-256 of the secret is stored, in a 0600 file.

The secret has 256 random bits, so a plain hash is enough: there is nothing to guess. One line per token:
`<id> <sha256 hex> <created_us>`; deleting a line takes the token back, effective with the next request.
"""

from __future__ import annotations

import base64
import hmac
import os
from hashlib import sha256
from pathlib import Path

from rocade.core.errors import Refused
from rocade.core.ports import Clock, Random


def new_token(file: Path, random: Random, clock: Clock) -> str:
    """Make a token, append its hash to `file` (created with mode 0600) and return the token: the only time it is seen."""
    name = f"{random.bits(32):08x}"
    secret = base64.urlsafe_b64encode(random.bits(256).to_bytes(32, "big")).decode().rstrip("=")
    line = f"{name} {sha256(secret.encode()).hexdigest()} {clock.now_us()}\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return f"rocade_{name}_{secret}"


def list_tokens(file: Path) -> list[tuple[str, int]]:
    """Ids of all tokens and when each was made, oldest first."""
    if not file.exists():
        return []
    return [(parts[0], int(parts[2])) for line in file.read_text().splitlines() if len(parts := line.split()) == 3]


def drop_token(file: Path, name: str) -> None:
    """Take a token back.

    Raises: Refused `access.token.unknown`.
    """
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    kept = [line for line in lines if not line.startswith(f"{name} ")]
    if len(kept) == len(lines):
        raise Refused("access.token.unknown", f"there is no token {name}; `rocade token list` shows them")
    draft = file.with_name(f".{file.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.writelines(kept)
        stream.flush()
        os.fsync(descriptor)
    draft.rename(file)


class TokenFile:
    """The token hashes of one file, read again when the file changes."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp: tuple[int, int, int] | None = None
        self._hashes: dict[str, str] = {}

    def check(self, token: str) -> str | None:
        """The token's id if it is valid, else None. Constant time in the secret."""
        prefix, _, rest = token.partition("_")
        name, _, secret = rest.partition("_")
        self._refresh()
        digest = sha256(secret.encode()).hexdigest()
        known = hmac.compare_digest(self._hashes.get(name, "0" * 64), digest)
        return name if known and prefix == "rocade" else None

    def _refresh(self) -> None:
        try:
            status = self._file.stat()
        except FileNotFoundError:
            self._stamp, self._hashes = None, {}
            return
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        if stamp != self._stamp:
            lines = (line.split() for line in self._file.read_text().splitlines())
            self._hashes = {parts[0]: parts[1] for parts in lines if len(parts) >= 2}
            self._stamp = stamp
