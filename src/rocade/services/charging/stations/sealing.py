"""What stations tell of who charges there, as it is stored: values under the vehicle's key, and which vehicle under the region's.

    station_transaction   body            registers, power, state of charge, why it ended         key of the vehicle, or of the region
                          vehicle_sealed  the vehicle's reference                                 key of the region
                          vehicle_blind   by which its transactions are found                     index of the region
    station_meter         body            a reading of the meter, whole                           as its transaction's, if `is_owned`
                          digest          tells readings of one instant apart, keyed              index of the region

Where no vehicle is known (a tag that is nobody's, a meter between two charges) the region's own key seals. Each value is bound
to its row: station and reference of the transaction; station, EVSE, instant and digest of the reading. Station, EVSE and
instants stay readable: rows are found by them, and without the reference they say that somebody charged, not who.
An erased vehicle's values open no more. Raises: Unavailable `custody.*`; Corrupt `seal.broken`.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Self

from rocade.fabric.database import Database
from rocade.trust.authority.sealing import REGION, Group, Name, aad, blind, open_sealed, seal
from rocade.trust.authority.sealing.columns import SCHEMA, Column, Columns

VALUES = Column("station_transaction.body", Group.SERVICE)
VEHICLE = Column("station_transaction.vehicle", Group.SERVICE)
READING = Column("station_meter.body", Group.SERVICE)
_SERVICE, _INDEX = int(Group.SERVICE), int(Group.INDEX)


class StationSeals:
    """Keys of one process, by the database it was given."""

    def __init__(self, database: Database) -> None:
        self._columns = Columns(database)

    async def at_hand(self, owners: Iterable[int] = ()) -> Hand:
        """The region's keys, and those of these vehicles. Cost: one query for all that are not in memory."""
        hand = await Hand.of(self._columns)
        await hand.take_owners(owners)
        return hand


class Hand:
    """Keys for one tick or one answer."""

    __slots__ = ("_columns", "_keys")

    def __init__(self, columns: Columns) -> None:
        self._columns, self._keys = columns, dict[Name, bytes]()

    @classmethod
    async def of(cls, columns: Columns) -> Self:
        """With the region's keys."""
        hand = cls(columns)
        await hand.take([(REGION, _SERVICE), (REGION, _INDEX)])
        return hand

    async def take(self, names: Iterable[Name]) -> None:
        missing = []
        for name in names:
            if name in self._keys:
                continue
            if key := self._columns.keys.held(*name):
                self._keys[name] = key
            else:
                missing.append(name)
        if missing:
            self._keys |= await self._columns.keys.ensure(missing)

    async def take_owners(self, owners: Iterable[int]) -> None:
        await self.take([(owner, _SERVICE) for owner in owners])

    def has(self, owner: int) -> bool:
        """False: whom this belonged to was erased."""
        return (owner, _SERVICE) in self._keys

    def seal(self, column: Column, owner: int, row: int, plain: bytes) -> bytes:
        return seal(self._keys[owner, _SERVICE], plain, aad(owner, column.name, SCHEMA, row))

    def open(self, column: Column, owner: int, row: int, sealed: bytes | None) -> bytes | None:
        """None where there is nothing, or its key is destroyed."""
        key = self._keys.get((owner, _SERVICE))
        if key is None or sealed is None:
            return None
        return open_sealed(key, sealed, aad(owner, column.name, SCHEMA, row))

    def seal_vehicle(self, vehicle: int | None, row: int) -> bytes | None:
        return None if not vehicle else self.seal(VEHICLE, REGION, row, vehicle.to_bytes(8))

    def open_vehicle(self, sealed: bytes | None, row: int) -> int | None:
        plain = self.open(VEHICLE, REGION, row, sealed)
        return None if plain is None else int.from_bytes(plain)

    def blind_vehicle(self, vehicle: int | None) -> bytes | None:
        return None if not vehicle else blind(self._keys[REGION, _INDEX], f"{VEHICLE.name}={vehicle}")

    def blind_reference(self, reference: str) -> str:
        """For a name of ours that holds what the meter showed."""
        return f"begun/{blind(self._keys[REGION, _INDEX], f'station_transaction.reference={reference}').hex()}"

    def blind_tag(self, digest: bytes) -> bytes:
        """Of a tag's digest, whose key is a file beside the configuration: whoever holds that file alone cannot try numbers."""
        return blind(self._keys[REGION, _INDEX], f"station_tag.digest={digest.hex()}")

    def digest(self, body: bytes) -> int:
        """63 bits that tell readings of one instant apart, and nothing of what they say."""
        key = self._keys[REGION, _INDEX]
        return int.from_bytes(blake2b(body, key=key, person=b"station_meter", digest_size=8).digest()) >> 1


def row_of(*place: object) -> int:
    """The number of a row in what is sealed."""
    return int.from_bytes(blake2b("/".join(map(str, place)).encode(), digest_size=8).digest())
