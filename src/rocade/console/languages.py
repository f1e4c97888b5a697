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

from rocade.core.languages import CODES, COOKIE, choose

__all__ = ["CODES", "COOKIE", "choose", "module", "texts", "version"]


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
