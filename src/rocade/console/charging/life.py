"""A command's life as people read it: which step it has reached, what came of it, and why.

The steps are those of the hub: queued, sent, accepted, woken where the car slept, applied, verified by telemetry; an end
before that (refused, too late, overtaken) stands where it happened. Shared by drivers' and operators' pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from rocade.console.charging.words import because
from rocade.console.my.frame import figure
from rocade.services.vehicles.commands import Standing

STEPS = ("queued", "sent", "accepted", "waking", "applied", "verified")
ENDED = frozenset({"verified", "rejected", "expired", "superseded"})
REACHED = {"created": 0, **{name: place for place, name in enumerate(STEPS)}}
SECOND_US = 1_000_000


class Step(msgspec.Struct, frozen=True):
    """`mark`: done | here | todo | bad | gone"""

    name: str
    mark: str


class CommandView(msgspec.Struct, frozen=True):
    """`outcome`: open | good | doubt | bad | gone; `code`: what the why page explains, '' = nothing."""

    id: str
    act: str
    words: str
    steps: tuple[Step, ...]
    outcome: str
    said: str
    code: str
    issued_us: int


def views(texts: Mapping[str, str], language: str, found: Iterable[Standing]) -> list[CommandView]:
    return [view(texts, language, one) for one in found]


def view(texts: Mapping[str, str], language: str, one: Standing) -> CommandView:
    seen = {moment.state: moment.at_us for moment in one.life}
    return CommandView(
        id=one.id,
        act=one.act,
        words=words(texts, language, one.act, one.parameters),
        steps=_steps(one.state, seen, is_doubtful=one.doubt),
        outcome=_outcome(one),
        said=_said(texts, language, one, seen),
        code="" if one.state == "superseded" else one.code,
        issued_us=one.created_us,
    )


def words(texts: Mapping[str, str], language: str, act: str, parameters: Mapping[str, Any]) -> str:
    """What was asked for, with its figures: "Charge to 80 %"."""
    text = texts.get(f"charging_act.{act.replace('.', '_')}", act)
    shown = {name: figure(language, value, 1) for name, value in parameters.items() if isinstance(value, int | float)}
    try:
        return text.format(**shown)
    except KeyError:
        return text.partition(" {")[0]


def _steps(state: str, seen: Mapping[str, int], *, is_doubtful: bool) -> tuple[Step, ...]:
    """A sleeping car's waking is shown only where it happened."""
    names = [name for name in STEPS if name != "waking" or "waking" in seen]
    last = max((name for name in names if name in seen), key=names.index, default="queued")
    reached = names.index(state) if state in names else names.index(last)
    marks: list[Step] = []
    for place, name in enumerate(names):
        if place < reached or (place == reached and (state == "verified" or state in ENDED)):
            marks.append(Step(name, "done"))
        elif place == reached:
            marks.append(Step(name, "here"))
        else:
            marks.append(Step(name, "todo"))
    if state in ENDED and state != "verified":
        return (*marks[: reached + 1], Step(state, "gone" if state == "superseded" else "bad"))
    if is_doubtful:
        return (*(Step(one.name, "done") for one in marks[:-1]), Step("unproven", "bad"))
    return tuple(marks)


def _outcome(one: Standing) -> str:
    if one.state in {"rejected", "expired"}:
        return "bad"
    if one.doubt:
        return "doubt"
    return {"verified": "good", "superseded": "gone"}.get(one.state, "open")


def _said(texts: Mapping[str, str], language: str, one: Standing, seen: Mapping[str, int]) -> str:
    if one.state == "verified" and "sent" in seen:
        seconds = max(0.0, (seen["verified"] - seen["sent"]) / SECOND_US)
        return texts["charging_life.proven"].format(seconds=figure(language, seconds, 1))
    if one.state == "rejected":
        return because(language, one.code) or texts["charging_life.rejected_text"]
    if one.doubt:
        return texts["charging_life.unproven_text"]
    return texts.get(f"charging_life.{one.state}_text", "")
