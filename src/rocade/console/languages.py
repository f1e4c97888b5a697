"""The console's languages: a folder of TOML catalogues each, chosen by cookie, else by Accept-Language, else English.

All languages have the same keys (a test compares); a page gets one flat mapping "section.key" -> text.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib import resources

import msgspec

CODES = ("en", "fr", "zh")
COOKIE = "rocade_language"


@cache
def texts(code: str) -> Mapping[str, str]:
    """The flat catalogue of one language: all files of its folder."""
    flat: dict[str, str] = {}
    for file in resources.files(__package__).joinpath("languages", code).iterdir():
        for key, value in tomllib.loads(file.read_text(encoding="utf-8")).items():
            if isinstance(value, str):
                flat[key] = value
            else:
                flat |= {f"{key}.{name}": text for name, text in value.items()}
    return flat


@cache
def module(code: str) -> str:
    """The catalogue as an ECMAScript module, for scripts."""
    return f"export default {msgspec.json.encode(texts(code)).decode()};\n"


@cache
def version(code: str) -> str:
    """Changes with the catalogue."""
    return sha256(module(code).encode()).hexdigest()[:12]


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
