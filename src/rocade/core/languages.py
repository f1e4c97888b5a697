"""Which language a reader gets: what the cookie says, else the best of Accept-Language, else English."""

from __future__ import annotations

CODES = ("en", "fr", "zh")
COOKIE = "rocade_language"


def choose(cookie: str | None, accepted: str) -> str:
    """The language of a request: the cookie if it names one we have, else the best of Accept-Language."""
    if cookie in CODES:
        return cookie
    weighed: list[tuple[float, int, str]] = []
    for place, part in enumerate(accepted.split(",")):
        name, _, weight = part.strip().partition(";q=")
        code = name.split("-")[0].lower()
        if code in CODES:
            weighed.append((-_weight(weight), place, code))
    return min(weighed)[2] if weighed else "en"


def _weight(text: str) -> float:
    try:
        return float(text) if text else 1.0
    except ValueError:
        return 0.0
