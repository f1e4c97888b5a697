"""One vehicle: what it says now, its curves, trips, gaps."""

from __future__ import annotations

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, SkipValidation

from rocade.console.pages import render
from rocade.core.catalogue import Catalogue
from rocade.core.identifiers import VehicleRef
from rocade.doors.http import AnyRequest, does
from rocade.services.vehicles import Registry
from rocade.trust.authority.gate import acts


@get("/vehicles/{ref:int}", opt=does(acts.READ_VEHICLE), include_in_schema=False)
async def show_vehicle(
    request: AnyRequest,
    ref: FromPath[int],
    registry: NamedDependency[SkipValidation[Registry]],
    catalogue: NamedDependency[SkipValidation[Catalogue]],
    town: NamedDependency[SkipValidation[bytes | None]],
    pmtiles: NamedDependency[SkipValidation[object]],
) -> Response[str]:
    vehicle = await registry.by_ref(VehicleRef(ref))
    data = {"ref": str(ref), "town": town is not None, "pmtiles": pmtiles is not None}
    brand = catalogue.brands.get(vehicle.brand)
    title = brand.title if brand else vehicle.brand
    return render(request, "vehicle.html", "vehicle", data, vehicle=vehicle, brand=title, pmtiles=data["pmtiles"])


HANDLERS = [show_vehicle]
