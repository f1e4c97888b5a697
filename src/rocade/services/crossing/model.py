"""Topics, drafts of exports, packets and what arrived: values, and the rules that need nothing but them."""

from __future__ import annotations

import re

import msgspec

from rocade.services.crossing import errors

DAY_US = 86_400_000_000
LONGEST_DAYS = 31
DRAFT_LIFE_US = 7 * DAY_US
"""A draft that nobody releases within a week has to be made anew: what was seen has become old."""
FEWEST_VEHICLES = 10
"""A line that stands for fewer vehicles does not cross."""
MAX_PACKET_BYTES = 16 << 20
PACKET_TYPE = "application/vnd.rocade.crossing+json"
DRAFTED, RELEASED, DROPPED = "drafted", "released", "dropped"
type Cell = str | int | float
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,15}\Z")


class Topic(msgspec.Struct, frozen=True):
    """What may cross under this name. `version` changes with the columns; `about` is for whoever decides."""

    name: str
    version: int
    columns: tuple[str, ...]
    about: str
    needs_signals: bool = False


TOPICS = {
    topic.name: topic
    for topic in (
        Topic(
            "fleet.daily",
            1,
            ("signal", "brand", "model", "day", "vehicles", "values", "mean"),
            "Mean of a signal by model and day, over vehicles without an owner; lines of fewer than"
            f" {FEWEST_VEHICLES} vehicles and everything about places and people are left out.",
            needs_signals=True,
        ),
        Topic(
            "fleet.models",
            1,
            ("brand", "kind", "powertrain", "vehicles"),
            f"How many vehicles of a brand, kind and powertrain are registered; fewer than {FEWEST_VEHICLES} are left out.",
        ),
        Topic(
            "quality.reasons",
            1,
            ("reason", "records"),
            "How many records stand in quarantine, by reason; no record, no vehicle.",
        ),
    )
}
"""All there is. Whoever wants another one adds it here, where it can be read and reviewed."""


class Content(msgspec.Struct, frozen=True):
    """What would cross. Shape: `rows` have one cell a column; `left_out`: lines that do not cross, by reason."""

    rows: tuple[tuple[Cell, ...], ...]
    left_out: dict[str, int]


class Packet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The signed part: these bytes were seen by whoever released them, and nothing else crosses."""

    number: int
    topic: str
    version: int
    origin: str
    to: str
    from_us: int
    until_us: int
    made_us: int
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left_out: dict[str, int]
    note: str


class Draft(msgspec.Struct, frozen=True):
    """An export from draft to release. `sha256` names the exact content; `rows` counts its lines."""

    number: int
    topic: str
    to: str
    from_us: int
    until_us: int
    state: str
    sha256: str
    rows: int
    left_out: dict[str, int]
    note: str
    made_us: int
    made_by: str
    decided_us: int
    decided_by: str


class Neighbour(msgspec.Struct, frozen=True):
    """A region whose packets may be accepted here; `root` is its root certificate (PEM), pinned by hand."""

    region: str
    root: str
    added_us: int
    added_by: str


class Arrival(msgspec.Struct, frozen=True):
    """A packet accepted here."""

    origin: str
    number: int
    topic: str
    from_us: int
    until_us: int
    rows: int
    accepted_us: int
    accepted_by: str


class Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What travels: the signed packet, its signer's certificate chain, the origin's issuer table."""

    packet: msgspec.Raw
    chain: str
    issuers: msgspec.Raw


def topic_of(name: str) -> Topic:
    """Raises: Refused `crossing.topic.unknown`."""
    if name not in TOPICS:
        raise errors.topic_unknown(TOPICS)
    return TOPICS[name]


def check_region(to: str, here: str) -> None:
    """Raises: Refused `crossing.region`."""
    if not _REGION.match(to) or to == here:
        raise errors.region("name another region by 1 to 16 small letters, digits or hyphens")


def whole_days(from_us: int, until_us: int) -> tuple[int, int]:
    """The whole UTC days that lie within; Refused `crossing.range` if that is none, or more than a month."""
    first, last = -(-from_us // DAY_US) * DAY_US, until_us // DAY_US * DAY_US
    if not 0 < last - first <= LONGEST_DAYS * DAY_US:
        raise errors.days(LONGEST_DAYS)
    return first, last


def check_packet(packet: Packet) -> None:
    """A packet must be what its topic says. Raises: Refused `crossing.packet`."""
    topic = TOPICS.get(packet.topic)
    if topic is None or (packet.version, packet.columns) != (topic.version, topic.columns):
        raise errors.packet("its topic, or the topic's version, is not known here")
    if any(len(row) != len(topic.columns) for row in packet.rows):
        raise errors.packet("a line has not one cell a column")
