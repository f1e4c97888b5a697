"""Trouble codes in diagnostic answers: OBD-II services 03, 07, 0A (SAE J1979) and UDS 19 02 (ISO 14229-1).

Takes a complete payload (see `isotp`); anything that is no such answer gives None.
"""

from __future__ import annotations

_SYSTEMS = "PCBU"


def read_codes(payload: bytes) -> list[str] | None:
    """Codes such as `P0301` or `B1812-87` (with its failure type); [] = the module reports none."""
    if len(payload) >= 2 and payload[0] in (0x43, 0x47, 0x4A):
        pairs = payload[2 : 2 + 2 * payload[1]]
        if len(pairs) == 2 * payload[1]:
            return [_code(pairs[at : at + 2]) for at in range(0, len(pairs), 2)]
    if len(payload) >= 3 and payload[:2] == b"\x59\x02" and (len(payload) - 3) % 4 == 0:
        return [f"{_code(payload[at : at + 2])}-{payload[at + 2]:02X}" for at in range(3, len(payload), 4)]
    return None


def _code(pair: bytes) -> str:
    """Two bits of system, then four hexadecimal digits of which the first has two bits. Source: SAE J2012."""
    return f"{_SYSTEMS[pair[0] >> 6]}{pair[0] >> 4 & 3:X}{pair[0] & 15:X}{pair[1]:02X}"
