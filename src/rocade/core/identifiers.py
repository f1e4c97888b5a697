"""Identifiers: who speaks (`Identity`), which vehicle is meant (`VehicleRef`), which partition carries it.

The VIN is known to `services.vehicles` (and stands in the vehicle's certificate); everywhere else a vehicle is a
`VehicleRef`: a random 63-bit integer, never derived from the VIN.
"""

from __future__ import annotations

import re
from typing import NewType, Self

import msgspec

from rocade.core.errors import Refused
from rocade.core.ports import Random

VehicleRef = NewType("VehicleRef", int)

PARTITIONS = 64
"""Fixed from day one: a vehicle's records always travel in one partition of a stream."""

KINDS = ("vehicle", "dealer", "partner", "operator", "service", "station")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


def new_vehicle_ref(random: Random) -> VehicleRef:
    """Draw a fresh reference in [1, 2**63)."""
    return VehicleRef(random.bits(63) or 1)


def partition_of(vehicle: VehicleRef) -> int:
    """Partition of a vehicle: the top six bits of the reference times the 64-bit golden ratio (Fibonacci hashing).

    Source: Knuth, The Art of Computer Programming 3, section 6.4.
    """
    return ((vehicle * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF) >> 58


def whole_number(text: str) -> int | None:
    """The number that ASCII digits write, None for other text and for more than 63 bits (what databases keep)."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        return None
    return number if (number := int(text)) < 1 << 63 else None


class Identity(msgspec.Struct, frozen=True, order=True):
    """A verified party. Written `spiffe://<trust_domain>/<region>/<kind>/<id>`, the one URI SAN of its certificate."""

    trust_domain: str
    region: str
    kind: str
    id: str

    @property
    def uri(self) -> str:
        return f"spiffe://{self.trust_domain}/{self.region}/{self.kind}/{self.id}"

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Read the URI form strictly: four canonical parts, a known kind.

        Raises: Refused `trust.identity.malformed`.
        """
        scheme, _, rest = uri.partition("://")
        parts = rest.split("/")
        if scheme != "spiffe" or len(parts) != 4 or parts[2] not in KINDS or not all(map(_PART.match, parts)):
            raise Refused("trust.identity.malformed", "identity must be spiffe://<trust-domain>/<region>/<kind>/<id>")
        return cls(*parts)
