"""The refusals at the wall. Messages name topics, regions and numbers, never people."""

from __future__ import annotations

from collections.abc import Iterable

from rocade.core.errors import Refused


def topic_unknown(topics: Iterable[str]) -> Refused:
    return Refused("crossing.topic.unknown", f"no such topic may leave a region; there are {', '.join(sorted(topics))}")


def region(why: str) -> Refused:
    return Refused("crossing.region", why)


def days(most: int) -> Refused:
    return Refused("crossing.range", f"ask for 1 to {most} whole days (UTC)")


def signals(why: str) -> Refused:
    return Refused("crossing.signal", why)


def draft_unknown() -> Refused:
    return Refused("crossing.draft.unknown", "there is no export of this number here")


def draft_settled(state: str) -> Refused:
    return Refused("crossing.draft.settled", f"this export is {state} already; make a new draft")


def draft_old() -> Refused:
    return Refused("crossing.draft.old", "this draft is older than a week; make a new one and look at it")


def draft_changed() -> Refused:
    return Refused(
        "crossing.draft.changed",
        "this is not the content that was shown; look at the draft again before you release it",
    )


def same_person() -> Refused:
    return Refused("crossing.same_person", "who drafted an export cannot release it; somebody else has to look at it")


def not_released() -> Refused:
    return Refused("crossing.not_released", "this export is not released; there is no packet")


def neighbour_unknown(name: str) -> Refused:
    return Refused(
        "crossing.neighbour.unknown", f"region {name} is not known here; pin its root certificate first", region=name
    )


def neighbour_root() -> Refused:
    return Refused(
        "crossing.neighbour.root", "this is no root certificate of a region, or not the one of this fingerprint"
    )


def packet(why: str) -> Refused:
    return Refused("crossing.packet", f"the packet is refused: {why}")


def conflict() -> Refused:
    return Refused("crossing.conflict", "another packet was accepted under this number; ask the region that sent it")
