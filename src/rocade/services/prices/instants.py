"""Instants as people write them for a release -> microseconds UTC; what could mean two instants, or none, is refused.

Two forms: with an offset (`2026-11-25T00:00:00+01:00`, `...Z`), or a local time with its zone's name in brackets
(`2026-11-25T00:00[Europe/Paris]`). A local time that the clocks pass twice, or leap over, is refused, and so is a time with
neither offset nor zone. Source: ISO 8601, RFC 3339, RFC 9557 (the brackets).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rocade.services.prices import errors

_FORM = re.compile(
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)(Z|[+-]\d\d:\d\d)?(?:\[([A-Za-z0-9_+/-]{1,40})\])?"
)


def parse(text: str) -> int:
    """Raises: Refused `prices.instant.malformed`, `.offset`, `.zone`, `.twice`, `.never`, `.contradiction`."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise errors.instant("malformed")
    try:
        local = datetime.fromisoformat(found[1])
        zone = ZoneInfo(found[3]) if found[3] else None
        if found[2]:
            at = datetime.fromisoformat(found[1] + found[2].replace("Z", "+00:00"))
        elif zone is None:
            raise errors.instant("offset")
        else:
            at = _only(local, zone)
        if zone is not None and at.astimezone(zone).replace(tzinfo=None) != local:
            raise errors.instant("contradiction")
        return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    except (ZoneInfoNotFoundError, IsADirectoryError):
        raise errors.instant("zone") from None
    except (ValueError, OverflowError):
        raise errors.instant("malformed") from None


def _only(local: datetime, zone: ZoneInfo) -> datetime:
    """The one instant at which clocks of this zone show this time."""
    shown = [local.replace(tzinfo=zone, fold=fold) for fold in (0, 1)]
    real = {at.astimezone(UTC) for at in shown if at.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == local}
    if not real:
        raise errors.instant("never")
    if len(real) == 2:
        raise errors.instant("twice")
    return real.pop()


def show(at_us: int) -> str:
    """An instant as reports show it."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
