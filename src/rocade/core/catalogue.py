"""The signal catalogue: every signal Rocade knows, by stable numeric id and by any name it ever had.

Flow: the leaves of COVESA VSS 6.0 (data/signals.csv) -> plausible ranges and rates laid over them (data/plausible.csv)
-> what VSS lacks (data/overlay.csv) -> names of earlier VSS versions (data/aliases.csv) -> one overlay per brand
(rocade/brands/*.toml: own signals, own names, colours, kinds, capabilities, command dialects) -> checked -> one
immutable `Catalogue`.

A name may mean the same thing in another unit (a VSS 4 odometer counts kilometres, a VSS 6 one metres): a `Meaning`
carries the factor and offset that turn the foreign value into the catalogue's unit.

Refuses at load, naming file and entry (Misconfigured): an id or name given twice, an id outside its file's range, an
unknown type, kind or data class, a lower limit above the upper, an alias of an unknown signal or one that hides a signal.
Source: docs/decisions/0025-signal-catalogue.md.
"""

from __future__ import annotations

import csv
import functools
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Literal

import msgspec

from rocade.core.data_classes import DATA_CLASSES, class_of
from rocade.core.errors import Misconfigured, Refused
from rocade.core.signals import BRAND_SIGNALS_FROM, Signal, SignalId

DATATYPES = frozenset(
    form
    for plain in ("boolean", "string", "float", "double", *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)))
    for form in (plain, f"{plain}[]")
)
SIGNAL_KINDS = frozenset({"sensor", "actuator", "attribute"})
BRANDS_FROM = 70_000
"""First id of brands' own signals; from BRAND_SIGNALS_FROM up to it lies Rocade's overlay. A brand takes a block of 1,000."""
VEHICLE_KINDS = ("car", "van", "bicycle", "moped", "standing_scooter")


class Meaning(msgspec.Struct, frozen=True):
    """What a name stands for: `value * factor + offset` is in the unit of `signal`."""

    signal: Signal
    factor: float = 1.0
    offset: float = 0.0


class Battery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model's traction battery is when new. `new_kwh` usable; `chemistry` NMC, NCA, LFP, ... , '' = unknown."""

    new_kwh: float
    chemistry: str = ""
    nominal_v: float | None = None


type Ability = Literal["yes", "no", "unknown"]
"""Whether a model obeys an act; unknown = nobody has written it down, it may be tried."""


class Wakes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often a maker lets his vehicles be woken: `most` times in `window_s` seconds."""

    most: int
    window_s: float


class Dialect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a maker's back end is spoken to. `form` names the adapter; `process` and `returned` say what its codes mean."""

    form: str
    process: Mapping[str, Literal["accepted", "waking"]] = {}
    """What it says on the way."""
    returned: Mapping[str, Literal["applied", "rejected", "token"]] = {}
    """What it says at the end; `token`: nothing was done, the access token had ended. A code that is not here means rejected."""


class Commands(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a brand's vehicles are told to do something: what each model obeys, and what its maker's back end asks and allows."""

    acts: Mapping[str, Ability] = {}
    models: Mapping[str, Mapping[str, Ability]] = {}
    """What differs from `acts`, by model."""
    rate_per_s: float | None = None
    """Commands that the maker's back end takes in a second, and `burst` at once; None = no limit known."""
    burst: int = 1
    wakes: Wakes | None = None
    dialect: Dialect | None = None
    """None = these vehicles are reached by Rocade's own agent only."""

    def can(self, act: str, model: str) -> Ability:
        return self.models.get(model, {}).get(act) or self.acts.get(act, "unknown")


class Brand(msgspec.Struct, frozen=True):
    """A brand as data: names, colours, what its vehicles can do, its own signals and its own names for signals."""

    brand: str
    title: str
    owner: str
    """Who keeps this file right."""
    colours: Mapping[str, str]
    kinds: tuple[str, ...]
    capabilities: tuple[str, ...] = ()
    signals: tuple[Signal, ...] = ()
    aliases: Mapping[str, Meaning] = {}
    commands: Commands = Commands()
    batteries: Mapping[str, Battery] = {}
    """By model; what is not here has an unknown capacity when new, and so no state of health in percent."""


class Catalogue:
    """All signals, brands and names; immutable. `signals` is ordered by id, so it can be searched by bisection."""

    def __init__(self, signals: Iterable[Signal], aliases: Mapping[str, Meaning], brands: Mapping[str, Brand]) -> None:
        self.signals = tuple(sorted(signals, key=lambda signal: signal.id))
        self.brands = brands
        self._by_id = {signal.id: signal for signal in self.signals}
        self._names = {signal.name: Meaning(signal) for signal in self.signals} | dict(aliases)

    def __len__(self) -> int:
        return len(self.signals)

    def __iter__(self) -> Iterator[Signal]:
        return iter(self.signals)

    def __contains__(self, signal_id: object) -> bool:
        return signal_id in self._by_id

    def get(self, signal_id: int) -> Signal | None:
        """Return the signal, or None for an id of a newer catalogue than this one."""
        return self._by_id.get(SignalId(signal_id))

    def by_id(self, signal_id: int) -> Signal:
        """Return the signal with this id.

        Raises: Refused `catalogue.signal.unknown`.
        """
        signal = self.get(signal_id)
        if signal is None:
            raise Refused(
                "catalogue.signal.unknown", f"no signal has the id {signal_id} in this catalogue", signal=signal_id
            )
        return signal

    def class_of(self, signal_id: int) -> str:
        """The data class of a signal, `other` for an id of a newer catalogue than this one."""
        found = self.get(signal_id)
        return found.data_class if found else "other"

    def find(self, name: str, brand: str = "") -> Meaning | None:
        """Look a name up: the brand's own names first, then VSS 6.0, then names of earlier VSS versions."""
        overlay = self.brands.get(brand)
        own = overlay.aliases.get(name) if overlay else None
        return own or self._names.get(name)

    def meaning(self, name: str, brand: str = "") -> Meaning:
        """Return what a name stands for, with its conversion.

        Raises: Refused `catalogue.signal.unknown`.
        """
        found = self.find(name, brand)
        if found is None:
            raise Refused("catalogue.signal.unknown", f"no signal is called {name[:128]!r}", signal=name[:128])
        return found

    def by_name(self, name: str, brand: str = "") -> Signal:
        """Return the signal a name stands for; use `meaning` where the value needs converting too.

        Raises: Refused `catalogue.signal.unknown`.
        """
        return self.meaning(name, brand).signal

    def overlay(self, brand: str) -> Brand:
        """Return a brand's data.

        Raises: Refused `catalogue.brand.unknown`.
        """
        found = self.brands.get(brand)
        if found is None:
            known = ", ".join(sorted(self.brands))
            raise Refused("catalogue.brand.unknown", f"no brand {brand[:64]!r}; known are {known}", brand=brand[:64])
        return found


@functools.cache
def standard() -> Catalogue:
    """The catalogue packaged with Rocade: VSS 6.0, Rocade's overlay and all brands. Cost: 20 ms once."""
    return load(resources.files("rocade.core") / "data", resources.files("rocade") / "brands")


def load(data: Traversable, brands: Traversable) -> Catalogue:
    """Read and check a catalogue from a folder of CSV files and a folder of brand files.

    Raises: Misconfigured `catalogue.invalid`, naming file and entry.
    """
    signals: dict[str, Signal] = {}
    limits = {row["name"]: row for row in _rows(data / "plausible.csv")}
    for row in _rows(data / "signals.csv"):
        _add(signals, _signal(row | limits.pop(row["name"], {}), "signals.csv"), range(1, BRAND_SIGNALS_FROM))
    for name in limits:
        raise _invalid("plausible.csv", name, "no such signal in signals.csv")
    for row in _rows(data / "overlay.csv"):
        _add(signals, _signal(row, "overlay.csv"), range(BRAND_SIGNALS_FROM, BRANDS_FROM))
    files = [_brand_file(file) for file in sorted(brands.iterdir(), key=lambda file: file.name) if _is_toml(file)]
    for file in files:
        for signal in file.signals:
            _add(signals, signal, range(BRANDS_FROM, 2**31))
    for signal_id, count in Counter(signal.id for signal in signals.values()).items():
        if count > 1:
            raise _invalid("signals", str(signal_id), "id given twice")
    aliases = {}
    for row in _rows(data / "aliases.csv"):
        if row["alias"] in signals:
            raise _invalid("aliases.csv", row["alias"], "an alias must not hide a signal")
        aliases[row["alias"]] = _meaning(row["alias"], row, signals, "aliases.csv")
    return Catalogue(signals.values(), aliases, {file.brand: _brand(file, signals) for file in files})


class _BrandFile(msgspec.Struct, forbid_unknown_fields=True):
    """Shape of brands/<brand>.toml before its aliases are resolved."""

    brand: str
    title: str
    owner: str
    colours: dict[str, str]
    kinds: tuple[str, ...]
    capabilities: tuple[str, ...] = ()
    signals: tuple[Signal, ...] = ()
    aliases: dict[str, dict[str, str | float]] = {}
    commands: Commands = Commands()
    batteries: dict[str, Battery] = {}


def _is_toml(file: Traversable) -> bool:
    return file.name.endswith(".toml")


def _rows(file: Traversable) -> list[dict[str, str]]:
    """Rows of a CSV file with `#` comment lines; empty cells are left out."""
    lines = [line for line in file.read_text("utf-8").splitlines() if not line.startswith("#")]
    return [{key: value for key, value in row.items() if value} for row in csv.DictReader(lines)]


def _signal(row: Mapping[str, str], file: str) -> Signal:
    fields: dict[str, object] = dict(row)
    fields["allowed"] = tuple(filter(None, row.get("allowed", "").split("|")))
    try:
        return msgspec.convert(fields, Signal, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(file, row.get("name", "?"), str(error)) from error


def _add(signals: dict[str, Signal], signal: Signal, ids: range) -> None:
    """Check one signal and take it in."""
    file = f"{signal.brand}.toml" if signal.brand else "signals.csv" if ids.start == 1 else "overlay.csv"
    if signal.id not in ids:
        raise _invalid(file, signal.name, f"id {signal.id} must lie in {ids.start}..{ids.stop - 1}")
    if signal.name in signals:
        raise _invalid(file, signal.name, "name given twice")
    if signal.datatype not in DATATYPES or signal.kind not in SIGNAL_KINDS:
        raise _invalid(file, signal.name, f"unknown type {signal.datatype!r} or kind {signal.kind!r}")
    if signal.min is not None and signal.max is not None and signal.min > signal.max:
        raise _invalid(file, signal.name, f"min {signal.min} lies above max {signal.max}")
    if signal.is_position and signal.datatype != "double":
        raise _invalid(file, signal.name, "a position must be double: float32 cannot hold 1e-7 degrees")
    data_class = signal.data_class or class_of(signal.name)
    if data_class not in DATA_CLASSES:
        raise _invalid(file, signal.name, f"unknown data class {data_class!r}; known are {', '.join(DATA_CLASSES)}")
    signals[signal.name] = msgspec.structs.replace(signal, data_class=data_class)


def _brand_file(file: Traversable) -> _BrandFile:
    try:
        document = tomllib.loads(file.read_text("utf-8"))
        brand = file.name.removesuffix(".toml")
        for signal in document.get("signals", ()):
            signal["brand"] = brand
        found = msgspec.convert(document, _BrandFile)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise _invalid(file.name, "whole file", str(error)) from error
    if found.brand != brand:
        raise _invalid(file.name, "brand", "must be the file's own name without .toml")
    for model, battery in found.batteries.items():
        if not 0.05 <= battery.new_kwh <= 2_000:
            raise _invalid(file.name, model, "a battery has 0.05 to 2,000 kWh when new")
    for kind in set(found.kinds) - set(VEHICLE_KINDS):
        raise _invalid(file.name, "kinds", f"unknown kind {kind!r}; known are {', '.join(VEHICLE_KINDS)}")
    return found


def _brand(file: _BrandFile, signals: Mapping[str, Signal]) -> Brand:
    name = f"{file.brand}.toml"
    return Brand(
        file.brand,
        file.title,
        file.owner,
        file.colours,
        file.kinds,
        file.capabilities,
        file.signals,
        {alias: _meaning(alias, row, signals, name) for alias, row in file.aliases.items()},
        file.commands,
        file.batteries,
    )


def _meaning(alias: str, row: Mapping[str, object], signals: Mapping[str, Signal], file: str) -> Meaning:
    signal = signals.get(str(row.get("signal")))
    if signal is None:
        raise _invalid(file, alias, f"stands for an unknown signal {row.get('signal')!r}")
    try:
        return Meaning(signal, float(str(row.get("factor", 1))), float(str(row.get("offset", 0))))
    except ValueError as error:
        raise _invalid(file, alias, "factor and offset must be numbers") from error


def _invalid(file: str, entry: str, reason: str) -> Misconfigured:
    return Misconfigured("catalogue.invalid", f"{file}, {entry}: {reason}", file=file, entry=entry)
