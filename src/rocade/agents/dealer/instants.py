"""Instants as people and programs write them."""

from __future__ import annotations

from datetime import UTC, datetime

from rocade.core.errors import Refused


def instant(text: str | int, now_us: int) -> int:
    """Microseconds since 1970 from a number of them or ISO 8601 with an offset; '' = now.

    Raises: Refused `dealer.instant.malformed`.
    """
    if text == "":
        return now_us
    try:
        if isinstance(text, int) or text.lstrip("-").isdigit():
            return int(text)
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise ValueError(text)
        return round(at.timestamp() * 1_000_000)
    except (ValueError, OverflowError):
        raise Refused(
            "dealer.instant.malformed",
            "an instant is like 2026-05-04T12:00:00+02:00 (the offset is needed), or microseconds since 1970",
        ) from None


def instant_utc(text: str) -> int:
    """A date, or a date with a time, as a page's form gives it, in UTC; 0 = none. Raises: as `instant`."""
    if not text:
        return 0
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Refused("dealer.instant.malformed", "write a date like 2026-05-04 or 2026-05-04T12:00") from None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def iso(us: int) -> str:
    """An instant in UTC, whole seconds; a dash for none."""
    return datetime.fromtimestamp(us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if us else "–"
