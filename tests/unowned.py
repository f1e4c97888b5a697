"""The rights of a region in which nobody owns a vehicle yet: its operators see everything, nobody else anything."""

from __future__ import annotations

from rocade.core.data_classes import ALL
from rocade.trust.authority.gate import Principal, Right


class Unowned:
    def right(self, principal: Principal, ref: int, purpose: str, at_us: int) -> Right:
        return Right("none", self.mask(ref, principal.recipient, purpose, at_us))

    def mask(self, ref: int, recipient: str, purpose: str, at_us: int) -> int:
        return ALL if recipient == "operator" else 0

    def refs(self, principal: Principal, purpose: str, at_us: int) -> list[int]:
        return []

    def hidden(self, recipient: str, purpose: str, classes: int, at_us: int) -> list[int]:
        return []
