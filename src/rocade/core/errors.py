"""One root error, four families; every refusal in Rocade is one of them.

`code` is stable text (`trust.certificate.expired`) that clients may rely on and docs/errors.md lists; `message` says
what was wrong and what to do; `facts` are safe to show to the caller (never another party's identifier, never a secret).
"""

from __future__ import annotations


class RocadeError(Exception):
    """Root of all errors that cross a room's boundary."""

    def __init__(self, code: str, message: str, **facts: object) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.facts = facts


class Refused(RocadeError):
    """The caller's fault: bad input, no permission, unknown thing. Do not retry unchanged."""


class Unavailable(RocadeError):
    """Not now: an engine is down, full or behind. Retry later; nothing was half done."""


class Corrupt(RocadeError):
    """Stored data is not what was written. Stop and alarm."""


class Misconfigured(RocadeError):
    """The set-up is wrong; found at start."""
