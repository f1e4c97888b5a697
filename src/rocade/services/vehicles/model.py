"""What the registry knows of a vehicle, and the rules that need nothing but that."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from rocade.core.catalogue import VEHICLE_KINDS
from rocade.core.identifiers import VehicleRef
from rocade.services.vehicles import vin

KINDS = VEHICLE_KINDS
POWERTRAINS = ("electric", "petrol", "diesel", "gas", "hybrid", "plug_in_hybrid", "hydrogen", "none")
"""`none` is a bicycle without a motor."""
VIN_KINDS = frozenset({"car", "van"})
"""Kinds whose id must be a VIN; bicycles, mopeds and standing scooters carry serials their makers choose freely."""


class Vehicle(msgspec.Struct, frozen=True, gc=False):
    """One vehicle. `id` is the VIN or serial, as in its certificate; `region` the market it is registered in."""

    ref: VehicleRef
    id: str
    kind: str
    brand: str
    model: str
    powertrain: str
    region: str
    hardware: str
    """Telematics unit and revision, free text."""
    added_us: int
    changed_us: int

    @property
    def wmi(self) -> str:
        """World manufacturer identifier, or '' for a vehicle without a VIN."""
        return self.id[:3] if self.kind in VIN_KINDS else ""

    @property
    def model_years(self) -> tuple[int, ...]:
        """Model years the VIN allows: often two, thirty years apart; empty where there is no VIN."""
        return vin.model_years(self.id, self.region) if self.kind in VIN_KINDS else ()


class Page(msgspec.Struct, frozen=True):
    """One page of a list; `cursor` asks for the next one, None at the end."""

    vehicles: list[Vehicle]
    cursor: str | None


STATES = ("moving", "standing", "silent", "doubtful", "never")
"""What a list of vehicles can be narrowed to; silent: its last batch is older than `SILENT_AFTER_US`, never: it sent none."""
SILENT_AFTER_US = 300_000_000


class Wanted(msgspec.Struct, frozen=True):
    """Which vehicles of the registry: equal in `filters`, with all `words`, in `state` ('' = any)."""

    filters: Mapping[str, str] = {}
    words: tuple[str, ...] = ()
    state: str = ""
    is_id_searched: bool = True
    """Whether words are looked for in VINs and serials too."""
    among: tuple[int, ...] | None = None
    """Of these references only; None = of all."""
    fresh_from_us: int = 0
    """Set by the registry."""


EVERYTHING = Wanted()
