"""What the operator's pages ask (`Desk`), and what they share: names of vehicles, how a vehicle is, codes as pictures.

Every handler names its act and the guard asks the gate. Where a page speaks of many vehicles, each is asked for apart
(`right_of`): of an owned one only what its owner shares is shown.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import segno
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from markupsafe import Markup

from rocade.core import data_classes
from rocade.core.catalogue import Catalogue
from rocade.core.identifiers import Identity, VehicleRef
from rocade.core.ports import Audit, Clock
from rocade.fabric.log import Log
from rocade.services.consent import Consents
from rocade.services.telemetry import Ledger
from rocade.services.vehicles import SILENT_AFTER_US, Registry, Vehicle
from rocade.services.vehicles.twin import Position, TwinStore
from rocade.trust.authority import Authority
from rocade.trust.authority.book import AuditBook
from rocade.trust.authority.papers import Papers
from rocade.trust.authority.people import People

MOVING_KMH = 1.0


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Everything these pages ask; put together in `create_app`."""

    registry: Registry
    twins: TwinStore
    ledger: Ledger
    log: Log
    catalogue: Catalogue
    authority: Authority
    papers: Papers
    book: AuditBook
    audit: Audit
    clock: Clock
    consents: Consents | None = None
    people: People | None = None


DeskDependency = NamedDependency[SkipValidation[Desk]]


class Line(msgspec.Struct, frozen=True):
    """One vehicle in a list. `states`: how it is, as far as may be seen; `id` '' = its number is not for this viewer."""

    ref: str
    name: str
    kind: str
    powertrain: str
    id: str
    states: tuple[str, ...]
    seen_us: int


def name_of(vehicle: Vehicle, catalogue: Catalogue) -> str:
    brand = catalogue.brands.get(vehicle.brand)
    return f"{brand.title if brand else vehicle.brand} {vehicle.model}".strip()


async def names_of(desk: Desk, refs: Sequence[int]) -> Mapping[int, str]:
    """Names of the registered ones among these."""
    found = await desk.registry.by_refs(VehicleRef(ref) for ref in refs)
    return {int(ref): name_of(vehicle, desk.catalogue) for ref, vehicle in found.items()}


def states_of(position: Position | None, classes: int, now_us: int) -> tuple[str, ...]:
    """How a vehicle is: silent, moving, standing, never; and doubtful. Of an owned one only what is shared."""
    if not classes:
        return ("hidden",)
    if position is None:
        return ("never",)
    doubt = ("doubtful",) if position.doubts else ()
    if position.arrived_us < now_us - SILENT_AFTER_US:
        return ("silent", *doubt)
    if not classes & data_classes.bit("driving"):
        return doubt
    return ("moving" if (position.speed_kmh or 0.0) > MOVING_KMH else "standing", *doubt)


async def lines_of(
    desk: Desk, vehicles: Sequence[Vehicle], classes: Callable[[int], int], *, with_ids: bool
) -> list[Line]:
    now_us, found = desk.clock.now_us(), await desk.twins.positions(int(one.ref) for one in vehicles)
    return [
        Line(
            str(one.ref),
            name_of(one, desk.catalogue),
            one.kind,
            one.powertrain,
            one.id if with_ids else "",
            states_of(found.get(one.ref), classes(one.ref), now_us),
            found[one.ref].arrived_us if one.ref in found and classes(one.ref) else 0,
        )
        for one in vehicles
    ]


def party_of(identity: Identity | str) -> tuple[str, str]:
    """Kind and id of a party's URI."""
    one = identity if isinstance(identity, Identity) else Identity.parse(identity)
    return one.kind, one.id


def qr(text: str) -> Markup:
    """A QR code as a picture inside the page: no style, no script, dark on light in both themes."""
    drawn = io.BytesIO()
    made = segno.make(text, error="m", micro=False)
    made.save(drawn, kind="svg", xmldecl=False, svgns=False, border=2, omitsize=True, dark="#14171d", light="#ffffff")
    return Markup(drawn.getvalue().decode())  # noqa: S704 - segno's own drawing; the text stands in it as squares
