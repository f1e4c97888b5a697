"""Files that only a program reads back, kept below a digest of what stands in them: one whose bits have turned is refused."""

from __future__ import annotations

import hmac
from hashlib import sha256
from pathlib import Path

from rocade.trust.identity.keys import write_private


def write_record(path: Path, body: bytes) -> None:
    """Durable and whole, mode 0600. Raises: OSError."""
    write_private(path, _digest(body) + b"\n" + body)


def read_record(path: Path) -> bytes | None:
    """What was written; None if nothing was. Raises: ValueError if it is not what was written."""
    try:
        digest, _, body = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    if not hmac.compare_digest(digest, _digest(body)):
        raise ValueError(f"{path.name} is not what was written")
    return body


def _digest(body: bytes) -> bytes:
    return sha256(b"rocade settings" + body).hexdigest().encode()
