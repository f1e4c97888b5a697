"""Words of telemetry: kinds of records, what quarantine holds, what a report of an unknown signal says."""

from __future__ import annotations

import zlib

import msgspec

STREAM = "telemetry"
GROUP = "telemetry"

BATCH, JSON, BAD_BATCH, BAD_JSON = 1, 2, 3, 4
"""Kinds of records in the stream. The bad ones failed the structure check at the gateway but could not be refused there
(MQTT 3.1.1 has no negative acknowledgement): they are on their way to quarantine."""

SEALED, NUMBERED = 16, 32
"""Added to the kind of a record whose body is sealed (`sealing`): NUMBERED binds the batch's number, SEALED did not, before."""

HURRY_CHANNEL = "telemetry_hurry"
"""Notified when somebody waits for what was just acknowledged: workers read at once."""

HELD, REPLAYED, DROPPED = "held", "replayed", "dropped"


class Held(msgspec.Struct, frozen=True):
    """A record that could not be processed, as the worker puts it into quarantine."""

    ref: int
    arrived_us: int
    kind: int
    reason: str
    detail: str
    body: bytes


class Unknown(msgspec.Struct, frozen=True):
    """A signal that is not in the catalogue; its values are stored all the same, under this id."""

    signal: int
    name: str
    ref: int
    arrived_us: int
    batches: int = 1


UNNAMED_FROM = 1 << 31
"""Ids from here up stand for signal names nobody knows (JSON form); the catalogue stays below."""


def unnamed_id(name: str) -> int:
    """The id of a signal known by a foreign name only; the same name always gets the same."""
    return UNNAMED_FROM | (zlib.crc32(name.encode()) & (UNNAMED_FROM - 1))


class Quarantined(msgspec.Struct, frozen=True):
    """A record in quarantine as lists show it."""

    id: int
    ref: int
    arrived_us: int
    kind: int
    reason: str
    detail: str
    size_bytes: int
    state: str
