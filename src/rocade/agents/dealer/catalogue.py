"""The words of the agent's pages and commands: one TOML file a language, the same keys in each."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources


@cache
def texts(code: str) -> Mapping[str, str]:
    """The flat catalogue of one language: "section.key" -> text."""
    read = tomllib.loads(resources.files(__package__).joinpath("languages", f"{code}.toml").read_text("utf-8"))
    return {f"{section}.{key}": text for section, values in read.items() for key, text in values.items()}
