"""Sentences of facts: catalogues in three languages, one folder of TOML files each.

    [codes]   "trust.certificate.expired" = ["what it means", "what brought it about", "what to do"]
              "trust.certificate.*"       = ["", "...", "..."]    what its codes share; an empty or missing part is looked up
                                            there, then in "trust.*"
    [facts]   "gap.open" = "Batches {first} to {last} ... since {opened_us}."

Values named `..._us` are shown as instants in UTC. A test compares the languages key by key, and every code the source
can raise with what stands here.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import resources

import msgspec

from rocade.core.errors import Misconfigured
from rocade.core.why.model import PARTS, Chain, Fact, Value

LANGUAGES = ("en", "fr", "zh")


class Sentence(msgspec.Struct, frozen=True):
    """Shape: `id` asks further, "" = nothing further."""

    text: str
    id: str = ""


class Texts(msgspec.Struct, frozen=True):
    """One language."""

    codes: Mapping[str, tuple[str, ...]]
    facts: Mapping[str, str]


@cache
def texts(language: str) -> Texts:
    """The catalogue of one language: all files of its folder. A key given twice is refused.

    Raises: Misconfigured `why.texts`.
    """
    codes: dict[str, tuple[str, ...]] = {}
    facts: dict[str, str] = {}
    for file in resources.files(__package__).joinpath("languages", language).iterdir():
        read = tomllib.loads(_written(file.read_text(encoding="utf-8"), language))
        more, sentences = read.get("codes", {}), read.get("facts", {})
        if twice := codes.keys() & more | facts.keys() & sentences:
            raise Misconfigured("why.texts", f"{language}/{file.name}: {min(twice)} is given twice")
        codes |= {code: tuple(parts) for code, parts in more.items()}
        facts |= sentences
    return Texts(codes, facts)


def _written(text: str, language: str) -> str:
    """French has an apostrophe of its own."""
    return re.sub(r"(?<=\w)'(?=\w)", "’", text) if language == "fr" else text


def is_code(text: str) -> bool:
    """Whether this is a code that has texts of its own or of its family."""
    return "." in text and ":" not in text and bool(part(text, "means", "en"))


def has_sentence(key: str) -> bool:
    """Whether a fact of this key can be told."""
    return key in texts("en").facts


def part(code: str, name: str, language: str) -> str:
    """One part of a code's texts: its own, else its nearest family's, else ''."""
    place, known = PARTS.index(name), texts(language).codes
    words = code.split(".")
    for key in (code, *(".".join([*words[:count], "*"]) for count in range(len(words) - 1, 0, -1))):
        found = known.get(key, ())
        if place < len(found) and found[place]:
            return found[place].replace("{code}", code)
    return ""


def sentence(fact: Fact, language: str) -> str:
    """The sentence of one fact; '' for a code's part that its texts leave out."""
    kind, _, name = fact.key.partition(".")
    if kind == "code" and name in PARTS:
        return part(str(fact.values["code"]), name, language)
    return texts(language).facts[fact.key].format_map(_Shown(fact.values))


def sentences(chain: Chain, language: str) -> list[Sentence]:
    """A chain as sentences."""
    return [Sentence(text, fact.id) for fact in chain.facts if (text := sentence(fact, language))]


class _Shown(dict[str, str]):
    def __init__(self, values: Mapping[str, Value]) -> None:
        super().__init__({name: _shown(name, value) for name, value in values.items()})


def _shown(name: str, value: Value) -> str:
    if name.endswith("_us") and isinstance(value, int):
        try:
            return datetime.fromtimestamp(value / 1e6, UTC).isoformat(" ", "seconds").replace("+00:00", " UTC")
        except (ValueError, OverflowError, OSError):  # a vehicle may say any time
            return f"{value} µs"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
