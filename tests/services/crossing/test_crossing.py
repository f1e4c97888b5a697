"""The wall: what crosses was drafted by one, seen whole, let go by another; and nothing else is accepted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from tests.clocks import TurnedClock
from tests.notebook import Notebook

from rocade.core import catalogue
from rocade.core.errors import Corrupt, Refused
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database
from rocade.services.crossing import SIGNER, Content, Crossing, topics
from rocade.services.crossing.model import DAY_US, DRAFT_LIFE_US, PACKET_TYPE, Packet, Sealed
from rocade.services.crossing.service import CARRIED_US
from rocade.trust.authority.region import Region, create_region, issue_directory
from rocade.trust.authority.signing import ServiceSigner
from rocade.trust.identity import envelope
from rocade.trust.identity.directory import load_issuers, load_key

ADA, BEN, MEI = "person:ada", "person:ben", "person:mei"
FROM_US, UNTIL_US = 20_000 * DAY_US, 20_007 * DAY_US
ROWS = (("Vehicle.Speed", "renault", "Zoe", "2024-10-04", 12, 4_000, 41.5),)


class Lines:
    """Stands for the region's summaries."""

    async def content(self, topic: str, *_: Any) -> Content:
        return Content(ROWS if topic == "fleet.daily" else (("batch.crc", 3),), {"owned vehicles": 2})


@dataclass
class Side:
    """One region at the wall."""

    crossing: Crossing
    region: Region
    folder: Path
    audit: Notebook
    clock: TurnedClock

    @property
    def root(self) -> bytes:
        return (self.folder / "trust" / "trust.pem").read_bytes()

    async def release(self, topic: str = "fleet.daily", to: str = "cn") -> bytes:
        signals = ("Vehicle.Speed",) if topic == "fleet.daily" else ()
        made = await self.crossing.draft(topic, to, FROM_US, UNTIL_US, signals, "yearly report", ADA)
        await self.crossing.release(made.number, made.sha256, BEN)
        return await self.crossing.packet(made.number, BEN)

    async def accept(self, content: bytes) -> Any:
        return await self.crossing.accept(content, sha256(content).hexdigest(), MEI)


async def side(database: Database, folder: Path, name: str) -> Side:
    clock, audit = TurnedClock(), Notebook()
    region = create_region(folder / "trust", name, f"{name}.test", SystemClock(), SystemRandom())
    issue_directory(region, folder / SIGNER, region.identity("service", SIGNER))

    async def publish(*_: object) -> None: ...

    signer = await ServiceSigner.open(folder / SIGNER, SIGNER, publish, clock)
    lines: Any = Lines()
    made = Crossing(database, lines, signer, lambda: load_issuers(folder / "trust").sealed, name, audit, clock)
    return Side(made, region, folder, audit, clock)


@pytest.fixture
async def eu(database: Database, tmp_path: Path) -> Side:
    return await side(database, tmp_path / "eu", "eu")


@pytest.fixture
async def cn(database: Database, tmp_path: Path, eu: Side) -> Side:
    made = await side(database, tmp_path / "cn", "cn")
    printed = x509.load_pem_x509_certificate(eu.root).fingerprint(hashes.SHA256()).hex()
    await made.crossing.pin("eu", eu.root, printed, MEI)
    return made


async def test_what_was_seen_crosses_and_is_accepted_once(eu: Side, cn: Side) -> None:
    made = await eu.crossing.draft("fleet.daily", "cn", FROM_US, UNTIL_US, ("Vehicle.Speed",), "", ADA)
    _, seen = await eu.crossing.preview(made.number)
    with pytest.raises(Refused, match="not released"):
        await eu.crossing.packet(made.number, ADA)
    await eu.crossing.release(made.number, made.sha256, BEN)
    content = await eu.crossing.packet(made.number, BEN)
    first, again = await cn.accept(content), await cn.accept(content)
    assert first == again
    assert await cn.crossing.arrived("eu", made.number) == seen
    assert seen.rows == ROWS
    assert [one.action for one in eu.audit.entries] == ["crossing.draft", "crossing.release", "crossing.fetch"]
    assert {one.facts["sha256"] for one in eu.audit.entries} == {made.sha256}


async def test_who_drafted_cannot_release(eu: Side) -> None:
    made = await eu.crossing.draft("quality.reasons", "cn", FROM_US, UNTIL_US, (), "", ADA)
    with pytest.raises(Refused) as refused:
        await eu.crossing.release(made.number, made.sha256, ADA)
    assert refused.value.code == "crossing.same_person"
    assert (eu.audit.entries[-1].outcome, eu.audit.entries[-1].reason) == ("refused", "crossing.same_person")


async def test_only_what_was_shown_is_released(eu: Side, database: Database) -> None:
    made = await eu.crossing.draft("quality.reasons", "cn", FROM_US, UNTIL_US, (), "", ADA)
    with pytest.raises(Refused) as other:
        await eu.crossing.release(made.number, "00" * 32, BEN)
    assert other.value.code == "crossing.draft.changed"
    await database.pool.execute(
        "UPDATE crossing_export SET packet = packet || ' '::bytea WHERE number = $1", made.number
    )
    with pytest.raises(Refused) as changed:
        await eu.crossing.release(made.number, made.sha256, BEN)
    assert changed.value.code == "crossing.draft.changed"
    with pytest.raises(Corrupt):
        await eu.crossing.preview(made.number)


async def test_a_draft_is_decided_once_and_ages(eu: Side) -> None:
    made = [await eu.crossing.draft("quality.reasons", "cn", FROM_US, UNTIL_US, (), "", ADA) for _ in range(2)]
    await eu.crossing.drop(made[0].number, ADA)
    with pytest.raises(Refused) as settled:
        await eu.crossing.release(made[0].number, made[0].sha256, BEN)
    eu.clock.ahead_us = DRAFT_LIFE_US + 1_000_000
    with pytest.raises(Refused) as old:
        await eu.crossing.release(made[1].number, made[1].sha256, BEN)
    assert (settled.value.code, old.value.code) == ("crossing.draft.settled", "crossing.draft.old")


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"topic": "twins"}, "crossing.topic.unknown"),
        ({"to": "eu"}, "crossing.region"),
        ({"to": "../cn"}, "crossing.region"),
        ({"until_us": FROM_US + DAY_US - 1}, "crossing.range"),
        ({"until_us": FROM_US + 32 * DAY_US}, "crossing.range"),
        ({"topic": "quality.reasons", "signals": ("Vehicle.Speed",)}, "crossing.signal"),
    ],
)
async def test_what_may_not_be_drafted(eu: Side, asked: dict[str, Any], code: str) -> None:
    asked = {
        "topic": "fleet.daily", "to": "cn", "from_us": FROM_US, "until_us": UNTIL_US, "signals": (), "note": "",
    } | asked  # fmt: skip
    with pytest.raises(Refused) as refused:
        await eu.crossing.draft(**asked, actor=ADA)
    assert refused.value.code == code


def _edited(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    sealed = msgspec.json.decode(content)
    change(sealed)
    return msgspec.json.encode(sealed)


def _resigned(content: bytes, folder: Path, **changes: Any) -> bytes:
    """The packet with other content, signed by the key of a directory."""
    sealed = msgspec.json.decode(content, type=Sealed)
    packet = msgspec.json.decode(envelope.payload_of(bytes(sealed.packet)), type=Packet)
    body = msgspec.json.encode(msgspec.structs.replace(packet, **changes))
    signed = envelope.seal(PACKET_TYPE, body, load_key(folder))
    return msgspec.json.encode(msgspec.structs.replace(sealed, packet=msgspec.Raw(signed)))


ATTACKS: dict[str, Callable[[bytes, Side, Side], bytes]] = {
    "cut short": lambda content, *_: content[:-40],
    "no packet": lambda *_: b"{}",
    "brackets within brackets": lambda *_: b'{"packet":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "another signature": lambda content, *_: _edited(
        content, lambda one: one["packet"]["signatures"][0].update(sig="AAAA" * 21 + "AA==")
    ),
    "another payload": lambda content, *_: _edited(
        content, lambda one: one["packet"].update(payload=one["packet"]["payload"][:-8] + "AAAAfQ==")
    ),
    "signed by the other region's key": lambda content, eu, cn: _resigned(content, cn.folder / SIGNER),
    "for a third region": lambda content, eu, cn: _resigned(content, eu.folder / SIGNER, to="us"),
    "of an unknown topic": lambda content, eu, cn: _resigned(content, eu.folder / SIGNER, topic="twins"),
    "with another version": lambda content, eu, cn: _resigned(content, eu.folder / SIGNER, version=9),
    "with a cell too many": lambda content, eu, cn: _resigned(content, eu.folder / SIGNER, rows=((1, 2),)),
    "from an unknown region": lambda content, eu, cn: _resigned(content, eu.folder / SIGNER, origin="us"),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_nothing_else_is_accepted(eu: Side, cn: Side, attack: str) -> None:
    content = ATTACKS[attack](await eu.release(), eu, cn)
    with pytest.raises(Refused):
        await cn.accept(content)
    assert await cn.crossing.arrivals() == []
    assert cn.audit.entries[-1].outcome == "refused"


async def test_another_packet_under_a_number_is_a_conflict(eu: Side, cn: Side) -> None:
    content = await eu.release()
    await cn.accept(content)
    with pytest.raises(Refused) as refused:
        await cn.accept(_resigned(content, eu.folder / SIGNER, note="another"))
    assert refused.value.code == "crossing.conflict"
    said = [(one.outcome, one.reason) for one in cn.audit.entries if one.action == "crossing.accept"]
    assert said == [("done", ""), ("refused", "crossing.conflict")]


async def test_a_packet_is_not_carried_for_ever(eu: Side, cn: Side) -> None:
    content = await eu.release()
    cn.clock.ahead_us = CARRIED_US + 400 * DAY_US
    with pytest.raises(Refused, match="ended long ago"):
        await cn.accept(content)


async def test_a_root_is_pinned_by_its_fingerprint_and_put_away(eu: Side, cn: Side) -> None:
    with pytest.raises(Refused) as refused:
        await cn.crossing.pin("us", eu.root, "00" * 32, MEI)
    assert refused.value.code == "crossing.neighbour.root"
    await cn.crossing.unpin("eu", MEI)
    with pytest.raises(Refused) as unknown:
        await cn.accept(await eu.release())
    assert unknown.value.code == "crossing.neighbour.unknown"


class Fleet:
    """Three models: one with enough vehicles, one with too few, one owned."""

    vehicles = [("renault", "Zoe", n) for n in range(12)] + [("ds", "3", n) for n in range(100, 109)]

    def is_owned(self, ref: int) -> bool:
        return ref >= 10 and ref < 100

    async def list(self, *_: Any) -> Any:
        from rocade.services.vehicles import Page, Vehicle

        made = [
            Vehicle(n, f"id{n}", "car", brand, model, "electric", "eu", "", 0, 0) for brand, model, n in self.vehicles
        ]
        return Page(made, None)

    async def models(self) -> list[tuple[str, str, str, int]]:
        return [("renault", "car", "electric", 12), ("ds", "car", "electric", 9)]


async def test_few_owned_and_places_never_become_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    speed = int(catalogue.standard().by_name("Vehicle.Speed").id)

    async def hourly(_history: Any, signals: list[int], *_: Any, vehicles: list[int], **__: Any) -> pa.Table:
        assert not set(vehicles) & {10, 11}, "an owned vehicle was read"
        return pa.table(
            {
                "signal": [speed] * len(vehicles), "group": vehicles, "from_us": [FROM_US] * len(vehicles),
                "count": [2] * len(vehicles), "mean": [10.0 + n for n in range(len(vehicles))],
            }
        )  # fmt: skip

    monkeypatch.setattr(topics.store, "hourly", hourly)
    fleet: Any = Fleet()
    sources = topics.Sources(fleet, fleet, fleet, fleet, catalogue.standard())
    found = await sources.content("fleet.daily", ["Vehicle.Speed"], FROM_US, UNTIL_US)
    assert found == Content(
        (("Vehicle.Speed", "renault", "Zoe", "2024-10-04", 10, 20, 14.5),),
        {"fewer than 10 vehicles": 1, "owned vehicles": 2},
    )
    assert (await sources.content("fleet.models", [], 0, 0)).rows == (("renault", "car", "electric", 12),)
    for name in ("Vehicle.CurrentLocation.Latitude", "Vehicle.VehicleIdentification.VIN"):
        with pytest.raises(Refused) as refused:
            await sources.content("fleet.daily", [name], FROM_US, UNTIL_US)
        assert refused.value.code == "crossing.signal"
