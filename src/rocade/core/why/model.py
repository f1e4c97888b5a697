"""Facts, chains of them, whom they concern, and who explains them."""

from __future__ import annotations

from typing import Protocol

import msgspec

from rocade.core.errors import Refused

type Value = str | int | float
PARTS = ("means", "cause", "do")
"""What a code's texts say: what it means, what brought it about, what to do."""


class Fact(msgspec.Struct, frozen=True):
    """One link of a chain. `key` names the sentence, `values` fill it in (`..._us` are instants), `id` asks further."""

    key: str
    values: dict[str, Value] = {}
    id: str = ""


class About(msgspec.Struct, frozen=True):
    """Whom facts concern: who may do one of `acts` may read them, for these are the acts of reading the same thing by itself.

    Shape: `acts` are names of the gate's table, none = nobody by that way; `ref` the vehicle it is about (0 = none), `classes` what
    of it (a mask of `core.data_classes`, 0 = as the act says), `signals` which values are told: a look the owner sees;
    `parties` are ids of principals (`person:<hex>`, an identity URI, `peer:<address>`) whose own business it is; `recipients` the same as a consent names them (`partner:<id>`).
    """

    acts: tuple[str, ...] = ()
    ref: int = 0
    classes: int = 0
    signals: tuple[int, ...] = ()
    parties: frozenset[str] = frozenset()
    recipients: frozenset[str] = frozenset()
    is_public: bool = False


class Chain(msgspec.Struct, frozen=True):
    """The facts behind one id, from what happened to what it rests on."""

    id: str
    facts: tuple[Fact, ...]
    about: About = About()


class Explainer(Protocol):
    """One kind of ids. Reads only; never decides who may ask."""

    async def explain(self, rest: str) -> Chain | None:
        """The chain behind `<kind>:<rest>`, or None if there is no such thing. Malformed ids are None too."""
        ...


def code_facts(code: str) -> tuple[Fact, ...]:
    """What a code means, what brings it about, what to do, in general."""
    return tuple(Fact(f"code.{part}", {"code": code}, code if part == "means" else "") for part in PARTS)


def unknown() -> Refused:
    """One answer for what does not exist and for what is not the asker's business: neither tells the other apart."""
    return Refused(
        "why.unknown",
        "nothing that is yours to see has this id; ids stand beside refusals, flags, gaps, looks and entries,"
        " and every error code is explained to everybody",
    )
