"""Passwords of stations (scrypt at rest) and digests of tags (keyed, so that a stolen table names nobody).

A station's password is made here: 20 symbols, 100 random bits, shown once. Checking one costs 4 MiB and some 10 ms in a thread (so
many random bits need no more), two at once at most; what was right once is remembered for this process as a keyed digest, so
that a depot that reconnects costs nothing. Wrong ones are counted by address (`Attempts`) before anything is computed.
Source: RFC 7914; OCPP 2.0.1 part 2, A00.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
from pathlib import Path

from rocade.core.errors import Refused
from rocade.core.ports import Clock, Random
from rocade.services.charging.stations import errors
from rocade.trust.authority.attempts import Attempts
from rocade.trust.identity.keys import create_secret, read_secret

SYMBOLS = 20
MOST_TAG = 36
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_COST, _BLOCK, _LANES = 1 << 12, 8, 1


def new_password(random: Random) -> str:
    """OCPP 1.6 wants 16 to 20 characters, 2.x 16 to 40."""
    return "".join(_ALPHABET[random.bits(5)] for _ in range(SYMBOLS))


def hash_password(password: str) -> bytes:
    salt = os.urandom(16)
    return salt + _scrypt(password, salt)


def is_password(password: str, kept: bytes) -> bool:
    return hmac.compare_digest(_scrypt(password, kept[:16]), kept[16:])


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=_COST, r=_BLOCK, p=_LANES, maxmem=64 << 20, dklen=32)


class Gatekeeper:
    """Checks passwords of this process."""

    def __init__(self, clock: Clock, at_once: int = 2) -> None:
        self._attempts = Attempts(clock)
        self._free = asyncio.Semaphore(at_once)
        self._key = os.urandom(32)
        self._right: dict[str, tuple[bytes, bytes]] = {}

    async def check(self, station: str, password: str | None, kept: list[bytes], peer: str) -> bytes:
        """Which of the kept hashes it is. Raises: Refused `stations.refused.password`, `stations.refused.attempts`."""
        try:
            self._attempts.check(peer)
        except Refused:
            raise errors.refused("attempts") from None
        if password is None or not 1 <= len(password) <= 128:
            raise errors.refused("password")
        digest = hmac.digest(self._key, password.encode(), "sha256")
        known = self._right.get(station)
        if known is not None and known[0] in kept and hmac.compare_digest(known[1], digest):
            return known[0]
        async with self._free:
            for one in kept:
                if await asyncio.to_thread(is_password, password, one):
                    self._right[station] = one, digest
                    return one
        self._attempts.fail(peer)
        raise errors.refused("password")

    def fail(self, peer: str) -> None:
        """Somebody named a station that is not there."""
        self._attempts.fail(peer)


class Tags:
    """Digests of tags under a key of the region that is in no table."""

    def __init__(self, key_file: Path, random: Random) -> None:
        """Raises: Corrupt `trust.secret.damaged`."""
        if not key_file.exists():
            with contextlib.suppress(FileExistsError):  # another process was first
                create_secret(key_file, random)
        self._key = read_secret(key_file)

    def digest(self, tag: str) -> bytes:
        """Tags are compared without case, as OCPP's are."""
        return hashlib.blake2b(tag.strip().upper().encode(), key=self._key, digest_size=16).digest()


def check_tag(tag: str) -> str:
    """Raises: Refused `stations.tag.form`: empty, long, or 17 symbols of a vehicle's number."""
    tag = tag.strip()
    is_vin = len(tag) == 17 and tag.isalnum() and not set(tag.upper()) & set("IOQ") and not tag.isdigit()
    if not 0 < len(tag) <= MOST_TAG or not tag.isprintable() or is_vin:
        raise errors.tag("form")
    return tag
