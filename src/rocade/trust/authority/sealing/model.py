"""Whose keys there are and for what: a data key is named by its owner and its group of purposes."""

from __future__ import annotations

from enum import IntEnum

import msgspec

type Name = tuple[int, int]
"""(owner, group). The owner is a `VehicleRef`, new at each change of owner, or a person's number."""

REGION = 0
"""The owner of keys that belong to the whole region; it cannot be destroyed."""
BUCKETS = 1024


class Group(IntEnum):
    """What a key is for. Numbers are stored: add, never change."""

    ROAD = 1
    """Raw batches: log, archive, quarantine."""
    TWIN = 2
    IDENTITY = 3
    """The VIN and what else names a vehicle."""
    COMMAND = 4
    SERVICE = 5
    """Charging goals, calendars, sessions."""
    PERSON = 6
    EXPORT = 7
    BACKUP = 8
    HISTORY = 9
    INDEX = 10
    """Blind indexes."""


class Punctured(msgspec.Struct, frozen=True):
    """A puncture that has ended: no copy of the tables from before it can be opened any more."""

    version_before: int
    version_after: int
    buckets: int
    """Buckets that got a new key because an owner in them was destroyed."""


class State(msgspec.Struct, frozen=True):
    """How the keys of a region stand."""

    version: int
    """Of the region key the tables are wrapped with."""
    held: tuple[int, ...]
    """Versions in custody."""
    trouble: str
    """Why custody cannot be used; empty = it answers and opens these tables."""
    keys: int
    destroyed: int
    unpunctured: int
    """Destroyed owners whose keys an older copy of the tables still gives, until the next puncture."""


def bucket_of(owner: int) -> int:
    return owner % BUCKETS
