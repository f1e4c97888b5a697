"""What the pages of owners and drivers share: the services they ask (`Mine`), the vehicle's card, numbers and names in words.

Every handler names its act, the guard asks the gate; `permit_of(request).right` then says who the viewer is to the vehicle
(owner, former, driver) and which data classes he may see. Nothing here decides.
"""

from __future__ import annotations

import asyncio
import functools
import re
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import segno
from litestar import Response
from litestar.datastructures import FormMultiDict
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from rocade.console import languages, pages
from rocade.core import data_classes
from rocade.core.catalogue import Catalogue
from rocade.core.errors import Refused
from rocade.core.identifiers import VehicleRef
from rocade.core.ports import Audit, Clock
from rocade.doors.http import AnyRequest, permit_of, right_of
from rocade.fabric.database import Database
from rocade.fabric.history import History
from rocade.services.consent import FOREVER_US, Consents, ConsentTable, Grant, Guest, Looks
from rocade.services.telemetry import Ledger
from rocade.services.vehicles import Registry
from rocade.services.vehicles.twin import TwinStore
from rocade.trust.authority.gate import Right
from rocade.trust.authority.machines import Clients
from rocade.trust.authority.people import People

DAY_US = 86_400_000_000
IN_FORCE_LOOKS = 100


@dataclass(frozen=True, kw_only=True)
class Mine:
    """Everything these pages ask, put together in `create_app`."""

    consents: Consents
    table: ConsentTable
    looks: Looks
    people: People
    clients: Clients
    registry: Registry
    twins: TwinStore
    history: History
    ledger: Ledger
    database: Database
    catalogue: Catalogue
    audit: Audit
    clock: Clock
    erase: Callable[[int, str], Awaitable[str]]
    """`await erase(ref, actor)`: remove every value of this reference for good; a vehicle that has it goes on under another. The
    erasure's number."""
    has_town: bool = False
    has_streets: bool = False


MineDependency = NamedDependency[SkipValidation[Mine]]


class Car(msgspec.Struct, frozen=True):
    """A vehicle as its owner, a former owner or a driver knows it. `until_us`: when his time with it ends or ended."""

    ref: str
    title: str
    brand_title: str
    kind: str
    powertrain: str
    relation: str
    since_us: int
    until_us: int


def texts_of(request: AnyRequest) -> Any:
    return languages.texts(pages.language_of(request))


def figure(language: str, value: float, digits: int = 0) -> str:
    """A number as this language writes it."""
    plain = f"{value:,.{digits}f}"
    if digits and "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    if plain in {"-0", ""}:
        plain = "0"
    return plain.replace(",", "\u202f").replace(".", ",") if language == "fr" else plain


def show(request: AnyRequest, template: str, data: dict[str, Any], mine: Mine, **values: Any) -> Response[str]:
    """A whole page of this area."""
    ground = {"town": mine.has_town, "pmtiles": mine.has_streets}
    car = values.setdefault("car", None)
    up = (
        (f"/my/{car.ref}", car.title)
        if car and template != "my/vehicle.html"
        else ("/my", texts_of(request)["my.title"])
    )
    shown = words(request) | {"up": up, "pmtiles": mine.has_streets} | values
    return pages.render(request, template, "my", ground | data, **shown)


def piece(request: AnyRequest, template: str, **values: Any) -> Response[str]:
    """A piece of a page of this area, for htmx."""
    return pages.fragment(request, template, **words(request) | values)


def words(request: AnyRequest) -> dict[str, Any]:
    """What every template of this area may use."""
    return {
        "n": functools.partial(figure, pages.language_of(request)),
        "forever": FOREVER_US,
        "day": day_text,
        "said": "",
        "said_kind": "good",
        "code": None,
    }


async def car_of(request: AnyRequest, mine: Mine, ref: int, right: Right | None = None) -> Car:
    """The vehicle of this page. A former owner's reference names no vehicle any more, only a time."""
    permit, texts = permit_of(request), texts_of(request)
    right = right or permit.right
    relation = right.relation
    since_us, until_us = 0, FOREVER_US
    if relation == "driver":
        guests = await mine.consents.drives(permit.principal.id)
        if found := next((one for one in guests if one.id == right.grant), None):
            since_us, until_us = found.from_us, found.end_us
    elif owner := await mine.consents.owner(ref):
        since_us, until_us = owner.since_us, owner.until_us
    try:
        vehicle = await mine.registry.by_ref(VehicleRef(ref))
    except Refused:
        title = texts["my_handover.past_one"].format(date=day_text(until_us))
        return Car(str(ref), title, "", "car", "none", relation, since_us, until_us)
    brand = mine.catalogue.brands.get(vehicle.brand)
    brand_title = brand.title if brand else vehicle.brand
    title = f"{brand_title} {vehicle.model}".strip()
    return Car(str(ref), title, brand_title, vehicle.kind, vehicle.powertrain, relation, since_us, until_us)


def mask_names(request: AnyRequest) -> tuple[str, ...]:
    return data_classes.names(permit_of(request).right.classes & data_classes.ALL)


def class_choices(request: AnyRequest, names: Sequence[str] = data_classes.DATA_CLASSES) -> list[tuple[str, str, str]]:
    texts = texts_of(request)
    return [(name, texts[f"my_class.{name}"], texts[f"my_class_text.{name}"]) for name in names]


async def name_of(request: AnyRequest, mine: Mine, party: str) -> str:
    """A recipient or principal in the reader's words. People who forgot or were forgotten have no name."""
    texts = texts_of(request)
    kind, _, id = party.partition(":")
    if party.startswith("spiffe://"):
        kind, id = party.split("/")[4:6]
    if kind in {"partner", "dealer"}:
        return str(texts[f"my_who.{kind}"].format(name=id))
    if kind == "person":
        try:
            return (await mine.people.by_id(party)).name or str(texts["my_who.person"])
        except Refused:
            return str(texts["my_who.person"])
    return str(texts.get(f"my_who.{kind}", texts["my_who.nobody"]))


def version_of(grants: Sequence[Grant], guests: Sequence[Guest]) -> str:
    """Changes whenever consents or drivers of a vehicle do; pages compare it with what they show."""
    live = [f"{one.id}.{one.end_us}" for one in grants]
    accepted = [f"{one.id}.{one.end_us}.{one.accepted_us}" for one in guests]
    return f"{zlib.crc32('|'.join(live + accepted).encode()):08x}"


async def version(mine: Mine, ref: int) -> str:
    return version_of(await mine.consents.grants(ref, True), await mine.consents.guests(ref, True))


async def in_force(request: AnyRequest, ref: int) -> None:
    """Wait until what was just agreed counts here: a change of owner does two seconds after it is made."""
    for _ in range(IN_FORCE_LOOKS):
        if right_of(request, ref).classes:
            return
        await asyncio.sleep(0.05)


def day_text(us: int) -> str:
    """A date as <input type=date> takes it (UTC); '' for never."""
    return "" if us >= FOREVER_US else pages.iso(us)[:10]


def last_moment_us(form: FormMultiDict, name: str) -> int:
    """The last second of a date in a form, in the time zone the page's script says (`zone`: minutes behind UTC).

    Raises: Refused `console.date`.
    """
    zone = str(form.get("zone", "0"))
    behind = int(zone) if re.fullmatch(r"-?\d{1,3}", zone) else 0
    return day_us(str(form.get(name, ""))) + DAY_US + behind * 60_000_000 - 1_000_000


def day_us(text: str) -> int:
    """Begin of a date (UTC). Raises: Refused `console.date`."""
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1e6)
    except ValueError:
        raise Refused("console.date", "write a date as 2026-11-21") from None


def qr(text: str) -> str:
    """A QR code as the address of a picture that carries itself."""
    return segno.make(text, error="m", micro=False).svg_data_uri(border=2, omitsize=True, dark="#14171d", light="#fff")
