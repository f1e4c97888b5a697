"""What a model can be told to do: the matrix of brands/*.toml. What nobody has written down is `unknown`, and may be tried."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from rocade.core.catalogue import Catalogue, Commands
from rocade.wire.commands import ACTS

NOTHING = Commands()


class Capabilities:
    """Read once; the catalogue does not change while a process runs."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._of = cache(self._read)

    def of(self, brand: str, model: str) -> Mapping[str, str]:
        """Each act with yes, no or unknown."""
        return self._of(brand, model)

    def _read(self, brand: str, model: str) -> Mapping[str, str]:
        commands = self._commands(brand)
        return {act: commands.can(act, model) for act in ACTS}

    def rate(self, brand: str) -> tuple[float, float] | None:
        """Commands a second and at once that a brand's back end takes; None = as many as there are."""
        commands = self._commands(brand)
        return None if commands.rate_per_s is None else (commands.rate_per_s, float(commands.burst))

    def _commands(self, brand: str) -> Commands:
        overlay = self._catalogue.brands.get(brand)
        return overlay.commands if overlay else NOTHING
