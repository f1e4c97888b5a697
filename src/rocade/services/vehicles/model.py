"""What the registry knows of a vehicle, and the rules that need nothing but that."""

from __future__ import annotations

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
