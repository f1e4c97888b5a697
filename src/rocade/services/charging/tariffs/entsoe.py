"""Day-ahead prices as ENTSO-E publishes them: a Publication_MarketDocument (IEC 62325-451-3) of type A44.

Per time series: zone (EIC of `in_Domain`), currency, price per MWh, and periods of points at positions 1, 2, ... of a resolution. With curve
type A01 each position stands there; with A03 one that repeats the value before it is left out, up to the period's end. Several
auctions for one time carry a classification sequence; which of them is the coupled market's has changed, so it is asked for, not guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Any, NamedTuple

from rocade.services.charging.planning.areas import is_eic, zone_name
from rocade.services.charging.tariffs import clocks, errors
from rocade.services.charging.tariffs.model import LENGTHS_US, MINUTE_US, Note, Parsed, Row, series_of
from rocade.wire import strict_xml

DOCUMENT = re.compile(r"\{urn:iec62325\.351:tc57wg16:451-3:publicationdocument:\d+:\d+\}Publication_MarketDocument")
REFUSAL = re.compile(r"\{[^}]*\}Acknowledgement_MarketDocument")
LIMITS = strict_xml.Limits(size_bytes=16 << 20, elements=200_000, attributes=20_000)
ROW_LIMIT = 200_000
LONGEST_US = 400 * 24 * 60 * MINUTE_US
_RESOLUTION = re.compile(r"PT(\d{1,2})M")
_AMOUNT = re.compile(r"-?\d{1,9}(\.\d{1,9})?")


class _Auction(NamedTuple):
    """One time series' rows. `sequence` 0 = it names none."""

    sequence: int
    currency: str
    zone: str
    rows: list[Row]


def read_entsoe(content: bytes, *, zone: str = "", currency: str = "", sequence: int = 0) -> Parsed:
    """The prices of one document, per kWh. `zone` (name or EIC) and `currency` are checked, `sequence` chooses an auction.

    Raises: Refused `xml.*`, `charging.file.*`.
    """
    root = strict_xml.parse(content, limits=LIMITS)
    tag = str(root.tag)
    if REFUSAL.fullmatch(tag):
        raise errors.tariff(
            "acknowledgement", more=" ".join(_optional(reason, "text") for reason in _children(root, "Reason"))
        )
    if not DOCUMENT.fullmatch(tag) or _optional(root, "type") != "A44":
        raise errors.tariff("document", more=tag.rpartition("}")[2])
    auctions: list[_Auction] = []
    left = ROW_LIMIT
    for series in _children(root, "TimeSeries"):
        auctions.append(_auction(series, left))
        left -= len(auctions[-1].rows)
    auctions = _of_zone(auctions, zone_name(zone))
    auctions = _of_sequence(auctions, sequence)
    currencies = {auction.currency for auction in auctions}
    if len(currencies) > 1 or (currency and currencies - {currency}):
        raise errors.tariff("currency", more=", ".join(sorted(currencies)))
    if not auctions:
        raise errors.tariff("empty")
    rows = [row for auction in auctions for row in auction.rows]
    notes: list[Note] = []
    found = auctions[0]
    return series_of(rows, notes, unit=f"{found.currency}/kWh", zone=found.zone, currency=found.currency)


def _of_zone(auctions: list[_Auction], zone: str) -> list[_Auction]:
    """Raises: Refused `charging.file.zone`."""
    zones = {auction.zone for auction in auctions}
    if auctions and (zone not in zones if zone else len(zones) > 1):
        raise errors.tariff("zone", more=", ".join(sorted(zones)[:8]))
    return [auction for auction in auctions if auction.zone == zone or not zone]


def _of_sequence(auctions: list[_Auction], sequence: int) -> list[_Auction]:
    """The auction that is meant; one that names no sequence is everybody's. Raises: Refused `charging.file.sequence`."""
    named = {auction.sequence for auction in auctions} - {0}
    if sequence and sequence not in named and named:
        raise errors.tariff("sequence", more=f"it holds {', '.join(map(str, sorted(named)))}")
    if not sequence and len(named) > 1 and _overlap(auctions):
        raise errors.tariff("sequence", more=f"it holds {', '.join(map(str, sorted(named)))}")
    return [auction for auction in auctions if not sequence or auction.sequence in {0, sequence}]


def _overlap(auctions: list[_Auction]) -> bool:
    """Whether auctions of different sequences speak of the same time."""
    spans = sorted((row.start_us, row.end_us, one.sequence) for one in auctions for row in one.rows)
    return any(later[0] < first[1] and later[2] != first[2] for first, later in pairwise(spans))


# --- elements ---------------------------------------------------------------------------------------------------------


def _auction(series: Any, most: int) -> _Auction:
    """Raises: Refused `charging.file.*`; `.large` if it has more than so many rows."""
    eic, currency, unit = (
        _text(series, name) for name in ("in_Domain.mRID", "currency_Unit.name", "price_Measure_Unit.name")
    )
    if not is_eic(eic):
        raise errors.tariff("zone", series.sourceline, eic)
    if not re.fullmatch(r"[A-Z]{3}", currency):
        raise errors.tariff("currency", series.sourceline, currency)
    if unit != "MWH":
        raise errors.tariff("unit", series.sourceline, unit)
    curve = _optional(series, "curveType") or "A01"
    if curve not in {"A01", "A03"}:
        raise errors.tariff("curve", series.sourceline, curve)
    sequence = _optional(series, "classificationSequence_AttributeInstanceComponent.position") or "0"
    if not re.fullmatch(r"\d{1,3}", sequence):
        raise errors.tariff("sequence", series.sourceline, sequence)
    periods = (row for period in _children(series, "Period") for row in _period(period, is_whole=curve == "A01"))
    rows = list(islice(periods, most + 1))
    if len(rows) > most:
        raise errors.tariff("large", series.sourceline)
    return _Auction(int(sequence), currency, zone_name(eic), rows)


def _period(period: Any, *, is_whole: bool) -> Iterator[Row]:
    """Raises: Refused `charging.file.resolution`, `.position`, `.number`, `.time`, `.missing`."""
    interval = _child(period, "timeInterval")
    begin, end = (clocks.read(_text(interval, name), None, interval.sourceline, None) for name in ("start", "end"))
    resolution = _text(period, "resolution")
    minutes = _RESOLUTION.fullmatch(resolution)
    step = int(minutes[1]) * MINUTE_US if minutes else 0
    if step not in LENGTHS_US or not 0 < end - begin <= LONGEST_US or (end - begin) % step:
        raise errors.tariff("resolution", period.sourceline, resolution)
    points = list(_points(period))
    places = [place for place, _, _ in points]
    last = (end - begin) // step
    is_right = places[:1] == [1] and all(a < b for a, b in pairwise(places)) and places[-1] <= last
    if not is_right or (is_whole and len(places) != last):
        raise errors.tariff("position", period.sourceline, f"{len(places)} of {last}")
    for (place, value, line), after in zip(points, [*places[1:], last + 1], strict=True):
        for at in range(place, after):
            yield Row(line, begin + (at - 1) * step, begin + at * step, value)


def _points(period: Any) -> Iterator[tuple[int, float, int]]:
    for point in _children(period, "Point"):
        place, amount = _text(point, "position"), _text(point, "price.amount")
        if not re.fullmatch(r"\d{1,6}", place):
            raise errors.tariff("position", point.sourceline, place)
        if not _AMOUNT.fullmatch(amount):
            raise errors.tariff("number", point.sourceline, amount)
        yield int(place), float(amount) / 1000, point.sourceline


def _children(of: Any, name: str) -> list[Any]:
    return [child for child in of if str(child.tag).rpartition("}")[2] == name]


def _child(of: Any, name: str) -> Any:
    """Raises: Refused `charging.file.missing`."""
    found = _children(of, name)
    if len(found) != 1:
        raise errors.tariff("missing", of.sourceline, f"{len(found)} x {name}")
    return found[0]


def _text(of: Any, name: str) -> str:
    return (_child(of, name).text or "").strip()


def _optional(of: Any, name: str) -> str:
    """The text of the first such element, '' if there is none."""
    found = _children(of, name)
    return (found[0].text or "").strip() if found else ""
