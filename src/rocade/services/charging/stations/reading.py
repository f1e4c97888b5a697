"""What stations say, read from the three versions of OCPP into one vocabulary; and the answers in each version's words.

Flow: `read(version, action, payload, arrived_us)` -> a fact. Units become Wh, W, A, V, percent; times UTC (a time without zone is
taken for UTC, one that cannot be is replaced by the arrival). Values of other places, phases and kinds are kept under
OCPP's own names. Refuses numbers that are none (`stations.meter`). Source: OCPP 1.6 edition 2, 2.0.1 edition 3, 2.1.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from rocade.core.errors import Refused
from rocade.doors.ocpp.contract import Version
from rocade.services.charging.stations.model import Sample

DAY_US = 86_400_000_000
_ENERGY, _POWER = "Energy.Active.Import.Register", "Power.Active.Import"
_CURRENT, _VOLTAGE = "Current.Import", "Voltage"
_SCALE = {"kWh": 1000.0, "kW": 1000.0, "Wh": 1.0, "W": 1.0}
_PHASES = {"L1": 0, "L2": 1, "L3": 2, "L1-N": 0, "L2-N": 1, "L3-N": 2}


class Booted(msgspec.Struct, frozen=True, gc=False):
    vendor: str
    model: str
    serial: str
    firmware: str


class Alive(msgspec.Struct, frozen=True, gc=False):
    pass


class Shown(msgspec.Struct, frozen=True, gc=False):
    """A tag held before the reader."""

    tag: str


class Said(msgspec.Struct, frozen=True, gc=False):
    evse: int
    connector: int
    state: str
    error: str
    at_us: int


class Turn(msgspec.Struct, frozen=True):
    """A transaction begins, goes on or ends. 1.6 names it by our `number` after its beginning, 2.x by its own `reference`."""

    kind: Literal["began", "updated", "ended"]
    evse: int
    connector: int
    reference: str
    number: int
    tag: str
    at_us: int
    wh: float | None
    reason: str
    sequence: int
    samples: tuple[Sample, ...]
    is_named_here: bool = False
    """The reference is made of connector, instant and register."""


class Metered(msgspec.Struct, frozen=True):
    """Values of a meter outside any turn; `number` 0 = of no transaction."""

    evse: int
    number: int
    samples: tuple[Sample, ...]


class Alarm(msgspec.Struct, frozen=True, gc=False):
    """A security event."""

    kind: str
    at_us: int


class Profiles(msgspec.Struct, frozen=True):
    """Profiles a 2.x station holds, as it reports them on request."""

    request: int
    evse: int
    profiles: tuple[dict[str, Any], ...]
    is_last: bool


class Signing(msgspec.Struct, frozen=True, gc=False):
    """A station wants its key certified."""

    csr: str
    is_own: bool


class Noted(msgspec.Struct, frozen=True):
    """Taken, and answered as the version wants; nothing here follows from it."""

    answer: dict[str, Any]


type Fact = Booted | Alive | Shown | Said | Turn | Metered | Alarm | Profiles | Signing | Noted

_STATES = {
    "Available": "available", "Preparing": "preparing", "Charging": "charging", "SuspendedEV": "suspended_car",
    "SuspendedEVSE": "suspended_station", "Finishing": "finishing", "Reserved": "reserved", "Unavailable": "unavailable",
    "Faulted": "faulted", "Occupied": "preparing",
}  # fmt: skip
_NOTED: dict[str, dict[str, Any]] = {
    "FirmwareStatusNotification": {}, "DiagnosticsStatusNotification": {}, "LogStatusNotification": {},
    "SignedFirmwareStatusNotification": {}, "NotifyReport": {}, "NotifyEvent": {}, "NotifyMonitoringReport": {},
    "NotifyChargingLimit": {}, "ClearedChargingLimit": {}, "NotifyDisplayMessages": {}, "NotifyCustomerInformation": {},
    "PublishFirmwareStatusNotification": {}, "ReservationStatusUpdate": {}, "DataTransfer": {"status": "UnknownVendorId"},
    "NotifyEVChargingNeeds": {"status": "Rejected"}, "NotifyEVChargingSchedule": {"status": "Accepted"},
}  # fmt: skip


def read(version: Version, action: str, payload: dict[str, Any], arrived_us: int) -> Fact | None:
    """The fact; None for an action that is valid and not served here. Raises: Refused `stations.meter`."""
    reader = _READERS[version].get(action)
    if reader is not None:
        fact = reader(payload, arrived_us)
        numbers = (getattr(fact, name, 0) for name in ("evse", "connector", "sequence", "number", "request"))
        if any(not -1 <= number < 1 << 31 for number in numbers):
            raise Refused("stations.meter", "a number of this message is larger than any station counts")
        return fact
    answer = _NOTED.get(action)
    return None if answer is None else Noted(answer)


# --- both ---------------------------------------------------------------------------------------------------------------


def instant(text: object, arrived_us: int) -> int:
    """Microseconds of a time as stations write it."""
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return arrived_us
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    at_us = round(at.timestamp() * 1e6)
    return at_us if 0 < at_us < arrived_us + DAY_US else arrived_us


def write_instant(at_us: int) -> str:
    at = datetime.fromtimestamp(at_us // 1000 / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _alive(_payload: dict[str, Any], _arrived_us: int) -> Fact:
    return Alive()


def _alarm(payload: dict[str, Any], arrived_us: int) -> Fact:
    return Alarm(str(payload["type"])[:50], instant(payload["timestamp"], arrived_us))


class _Collected:
    """One meter value while it is read."""

    __slots__ = ("amounts", "context", "other", "phases")

    def __init__(self) -> None:
        self.amounts: dict[str, float] = {}
        self.phases: dict[str, dict[int, float]] = {}
        self.other: dict[str, float] = {}
        self.context = ""

    def add(self, measurand: str, phase: str, location: str, value: float) -> None:
        if location not in {"Outlet", "EV", "Cable"}:
            self.other[f"{measurand}@{location}{'/' + phase if phase else ''}"] = value
        elif not phase:
            self.amounts[measurand] = value
        elif phase in _PHASES and measurand in {_CURRENT, _VOLTAGE, _POWER, _ENERGY}:
            self.phases.setdefault(measurand, {})[_PHASES[phase]] = value
        else:
            self.other[f"{measurand}/{phase}"] = value

    def sample(self, at_us: int) -> Sample:
        amounts = self.amounts
        currents, voltages = self._by_phase(_CURRENT), self._by_phase(_VOLTAGE)
        return Sample(
            at_us=at_us,
            energy_wh=self._total(_ENERGY),
            power_w=self._total(_POWER),
            current_a=currents,
            voltage_v=voltages,
            soc_percent=amounts.pop("SoC", None),
            offered_a=amounts.pop("Current.Offered", None),
            context=self.context,
            other={**self.other, **amounts},
        )

    def _total(self, measurand: str) -> float | None:
        total = self.amounts.pop(measurand, None)
        phases = self.phases.get(measurand)
        if total is None and phases:
            return sum(phases.values())
        if phases:
            self.other.update({f"{measurand}/L{phase + 1}": value for phase, value in phases.items()})
        return total

    def _by_phase(self, measurand: str) -> tuple[float, ...]:
        total = self.amounts.pop(measurand, None)
        phases = self.phases.get(measurand)
        if phases:
            return tuple(phases.get(phase, 0.0) for phase in range(max(phases) + 1))
        return () if total is None else (total,)


def _number(value: object) -> float:
    try:
        number = float(str(value))
    except ValueError:
        raise Refused("stations.meter", "a sampled value is no number") from None
    if not abs(number) < 1e15:
        raise Refused("stations.meter", "a sampled value is no number that a meter can show")
    return number


def _samples(values: list[dict[str, Any]], arrived_us: int) -> tuple[Sample, ...]:
    """Both versions: 1.6 writes numbers as text with a unit, 2.x numbers with a unit and a power of ten."""
    samples = []
    for value in values:
        collected = _Collected()
        for one in value["sampledValue"]:
            if one.get("format") == "SignedData":
                continue  # the same value again, signed for a calibration office
            number = _number(one["value"])
            unit = one.get("unit", "")
            if (measure := one.get("unitOfMeasure")) is not None:
                unit = measure.get("unit", "")
                number *= 10.0 ** measure.get("multiplier", 0)
            number *= _SCALE.get(unit, 1.0)
            collected.context = collected.context or one.get("context", "")
            collected.add(one.get("measurand", _ENERGY), one.get("phase", ""), one.get("location", "Outlet"), number)
        samples.append(collected.sample(instant(value.get("timestamp"), arrived_us)))
    return tuple(samples)


def _energy(samples: tuple[Sample, ...], context: str) -> float | None:
    """The register of the sample of this context, else None."""
    for sample in samples:
        if sample.context == context and sample.energy_wh is not None:
            return sample.energy_wh
    return None


# --- 1.6 ----------------------------------------------------------------------------------------------------------------


def _boot_16(payload: dict[str, Any], _arrived_us: int) -> Fact:
    serial = payload.get("chargePointSerialNumber") or payload.get("chargeBoxSerialNumber") or ""
    return Booted(payload["chargePointVendor"], payload["chargePointModel"], serial, payload.get("firmwareVersion", ""))


def _authorize_16(payload: dict[str, Any], _arrived_us: int) -> Fact:
    return Shown(payload["idTag"])


def _status_16(payload: dict[str, Any], arrived_us: int) -> Fact:
    at_us = instant(payload["timestamp"], arrived_us) if "timestamp" in payload else arrived_us
    connector, error = payload["connectorId"], payload["errorCode"]
    return Said(connector, connector, _STATES[payload["status"]], "" if error == "NoError" else error, at_us)


def _start_16(payload: dict[str, Any], arrived_us: int) -> Fact:
    at_us, connector, meter = instant(payload["timestamp"], arrived_us), payload["connectorId"], payload["meterStart"]
    # a station repeats what was not answered: the same beginning again is the same transaction
    reference = f"{connector}/{payload['timestamp']}/{meter}"
    return Turn("began", connector, connector, reference, 0, payload["idTag"], at_us, float(meter), "", 0, (), True)


def _stop_16(payload: dict[str, Any], arrived_us: int) -> Fact:
    samples = _samples(payload.get("transactionData", []), arrived_us)
    return Turn(
        "ended", 0, 0, "", payload["transactionId"], payload.get("idTag", ""), instant(payload["timestamp"], arrived_us),
        float(payload["meterStop"]), payload.get("reason", "Local"), 0, samples,
    )  # fmt: skip


def _meter_16(payload: dict[str, Any], arrived_us: int) -> Fact:
    number = payload.get("transactionId", 0)
    return Metered(payload["connectorId"], max(0, number), _samples(payload["meterValue"], arrived_us))


def _sign_16(payload: dict[str, Any], _arrived_us: int) -> Fact:
    return Signing(payload["csr"], is_own=True)


# --- 2.x ----------------------------------------------------------------------------------------------------------------


def _boot_2(payload: dict[str, Any], _arrived_us: int) -> Fact:
    station = payload["chargingStation"]
    return Booted(
        station["vendorName"], station["model"], station.get("serialNumber", ""), station.get("firmwareVersion", "")
    )


def _authorize_2(payload: dict[str, Any], _arrived_us: int) -> Fact:
    return Shown(payload["idToken"]["idToken"])


def _status_2(payload: dict[str, Any], arrived_us: int) -> Fact:
    at_us = instant(payload["timestamp"], arrived_us)
    return Said(payload["evseId"], payload["connectorId"], _STATES[payload["connectorStatus"]], "", at_us)


def _event_2(payload: dict[str, Any], arrived_us: int) -> Fact:
    told, evse = payload["transactionInfo"], payload.get("evse", {})
    samples = _samples(payload.get("meterValue", []), arrived_us)
    kind: Literal["began", "updated", "ended"] = "updated"
    wh = samples[-1].energy_wh if samples else None
    if payload["eventType"] == "Started":
        kind, wh = "began", _energy(samples, "Transaction.Begin") or wh
    elif payload["eventType"] == "Ended":
        kind, wh = "ended", _energy(samples, "Transaction.End") or wh
    return Turn(
        kind, evse.get("id", 0), evse.get("connectorId", 1), told["transactionId"], 0,
        payload.get("idToken", {}).get("idToken", ""), instant(payload["timestamp"], arrived_us), wh,
        told.get("stoppedReason", "") if kind == "ended" else "", payload["seqNo"], samples,
    )  # fmt: skip


def _meter_2(payload: dict[str, Any], arrived_us: int) -> Fact:
    return Metered(payload["evseId"], 0, _samples(payload["meterValue"], arrived_us))


def _profiles_2(payload: dict[str, Any], _arrived_us: int) -> Fact:
    return Profiles(
        payload["requestId"], payload["evseId"], tuple(payload["chargingProfile"]), not payload.get("tbc", False)
    )


def _sign_2(payload: dict[str, Any], _arrived_us: int) -> Fact:
    kind = payload.get("certificateType", "ChargingStationCertificate")
    return Signing(payload["csr"], is_own=kind == "ChargingStationCertificate")


_READERS_2 = {
    "BootNotification": _boot_2, "Heartbeat": _alive, "Authorize": _authorize_2, "StatusNotification": _status_2,
    "TransactionEvent": _event_2, "MeterValues": _meter_2, "SecurityEventNotification": _alarm,
    "ReportChargingProfiles": _profiles_2, "SignCertificate": _sign_2,
}  # fmt: skip
_READERS = {
    "1.6": {
        "BootNotification": _boot_16, "Heartbeat": _alive, "Authorize": _authorize_16, "StatusNotification": _status_16,
        "StartTransaction": _start_16, "StopTransaction": _stop_16, "MeterValues": _meter_16,
        "SecurityEventNotification": _alarm, "SignCertificate": _sign_16,
    },
    "2.0.1": _READERS_2,
    "2.1": _READERS_2,
}  # fmt: skip
