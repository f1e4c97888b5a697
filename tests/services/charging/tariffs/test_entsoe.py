"""Day-ahead documents as ENTSO-E publishes them: both curve types, both resolutions, both changes of the clocks, several auctions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pytest

from rocade.core.errors import Refused
from rocade.services.charging.tariffs import read_prices

NAMESPACE = "urn:iec62325.351:tc57wg16:451-3:publicationdocument:7:3"
NORMAL = ("2026-11-21T23:00Z", "2026-11-22T23:00Z")
SPRING = ("2026-03-28T23:00Z", "2026-03-29T22:00Z")
AUTUMN = ("2026-10-24T22:00Z", "2026-10-25T23:00Z")


def period(points: dict[int, float], day: tuple[str, str] = NORMAL, resolution: str = "PT60M") -> str:
    told = "".join(
        f"<Point><position>{place}</position><price.amount>{price}</price.amount></Point>"
        for place, price in points.items()
    )
    return (
        f"<Period><timeInterval><start>{day[0]}</start><end>{day[1]}</end></timeInterval>"
        f"<resolution>{resolution}</resolution>{told}</Period>"
    )


def series(
    body: str,
    *,
    curve: str = "A03",
    zone: str = "10YFR-RTE------C",
    currency: str = "EUR",
    sequence: int = 0,
    unit: str = "MWH",
) -> str:
    order = (
        f"<classificationSequence_AttributeInstanceComponent.position>{sequence}"
        "</classificationSequence_AttributeInstanceComponent.position>"
    )
    return (
        f"<TimeSeries><mRID>1</mRID><auction.type>A01</auction.type>{order if sequence else ''}"
        f'<in_Domain.mRID codingScheme="A01">{zone}</in_Domain.mRID><currency_Unit.name>{currency}</currency_Unit.name>'
        f"<price_Measure_Unit.name>{unit}</price_Measure_Unit.name><curveType>{curve}</curveType>{body}</TimeSeries>"
    )


def document(*every: str, kind: str = "A44", namespace: str = NAMESPACE) -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Publication_MarketDocument xmlns="{namespace}"><mRID>1</mRID><type>{kind}</type>\n'
        + "\n".join(every)
        + "</Publication_MarketDocument>"
    ).encode()


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


WHOLE = {place: float(place) for place in range(1, 25)}


@pytest.mark.parametrize(
    ("day", "resolution", "count"),
    [
        (NORMAL, "PT60M", 24), (SPRING, "PT60M", 23), (AUTUMN, "PT60M", 25),
        (NORMAL, "PT15M", 96), (SPRING, "PT15M", 92), (AUTUMN, "PT15M", 100), (NORMAL, "PT30M", 48),
    ],
)  # fmt: skip
def test_every_position_of_any_day_is_an_interval(day: tuple[str, str], resolution: str, count: int) -> None:
    points = {place: place / 2 for place in range(1, count + 1)}
    parsed = read_prices(document(series(period(points, day, resolution), curve="A01")), zone="FR", currency="EUR")
    assert parsed.series.value.tolist() == pytest.approx([place / 2000 for place in range(1, count + 1)])
    assert (parsed.series.start_us[0], parsed.series.end_us[-1]) == (us(day[0]), us(day[1]))
    assert (parsed.series.unit, parsed.series.zone, parsed.series.currency) == ("EUR/kWh", "FR", "EUR")


def test_what_a_curve_of_blocks_leaves_out_repeats_the_value_before_it() -> None:
    parsed = read_prices(document(series(period({1: 10, 5: -20.5, 24: 30}))))
    assert parsed.series.value.tolist() == pytest.approx([0.01] * 4 + [-0.0205] * 19 + [0.03])


def test_several_days_and_series_are_one_series_and_holes_are_noted() -> None:
    later = ("2026-11-23T23:00Z", "2026-11-24T23:00Z")
    parsed = read_prices(document(series(period({1: 2}, later)), series(period({1: 1}))))
    assert len(parsed.series) == 48
    assert np.all(np.diff(parsed.series.start_us) > 0)
    assert [note.kind for note in parsed.notes] == ["hole"]


def test_of_several_auctions_the_one_that_is_asked_for_counts() -> None:
    content = document(series(period({1: 10}), sequence=1), series(period({1: 20}, resolution="PT15M"), sequence=2))
    assert read_prices(content, sequence=1).series.value[0] == 0.01
    assert len(read_prices(content, sequence=2).series) == 96
    with pytest.raises(Refused) as refused:
        read_prices(content)
    assert refused.value.code == "charging.file.sequence"
    assert "1, 2" in refused.value.message
    apart = document(series(period({1: 10}), sequence=1), series(period({1: 20}, SPRING), sequence=2))
    assert len(read_prices(apart).series) == 47  # they do not speak of the same time: nothing to choose


REFUSAL = (
    b'<Acknowledgement_MarketDocument xmlns="urn:iec62325.351:tc57wg16:451-1:acknowledgementdocument:7:0"><mRID>1</mRID>'
    b"<Reason><code>999</code><text>No matching data found</text></Reason></Acknowledgement_MarketDocument>"
)


@pytest.mark.parametrize(
    ("content", "asked", "code"),
    [
        (document(series(period({1: 1})), kind="A69"), {}, "charging.file.document"),
        (document(series(period({1: 1})), namespace="urn:other"), {}, "charging.file.document"),
        (b"<a/>", {}, "charging.file.document"),
        (REFUSAL, {}, "charging.file.acknowledgement"),
        (document(), {}, "charging.file.empty"),
        (document(series(period({1: 1}))), {"zone": "BE"}, "charging.file.zone"),
        (document(series(period({1: 1})), series(period({1: 1}), zone="10YBE----------2")), {}, "charging.file.zone"),
        (document(series(period({1: 1}), zone="10YFR-RTE------D")), {}, "charging.file.zone"),
        (document(series(period({1: 1}))), {"currency": "CHF"}, "charging.file.currency"),
        (document(series(period({1: 1})), series(period({1: 1}, SPRING), currency="CHF")), {}, "charging.file.currency"),
        (document(series(period({1: 1}), currency="euro")), {}, "charging.file.currency"),
        (document(series(period({1: 1}), unit="KWH")), {}, "charging.file.unit"),
        (document(series(period({1: 1}), curve="A02")), {}, "charging.file.curve"),
        (document(series(period({1: 1, 5: 2}), curve="A01")), {}, "charging.file.position"),
        (document(series(period({2: 1}))), {}, "charging.file.position"),
        (document(series(period({}))), {}, "charging.file.position"),
        (document(series(period({1: 1, 25: 1}))), {}, "charging.file.position"),
        (document(series(period({1: 1}).replace("<position>1<", "<position>-1<"))), {}, "charging.file.position"),
        (document(series(period({1: 1, 3: 1}).replace("<position>3<", "<position>1<"))), {}, "charging.file.position"),
        (document(series(period({1: 1}, resolution="P1D"))), {}, "charging.file.resolution"),
        (document(series(period({1: 1}, resolution="PT7M"))), {}, "charging.file.resolution"),
        (document(series(period({1: 1}, (NORMAL[1], NORMAL[0])))), {}, "charging.file.resolution"),
        (document(series(period({1: 1}, ("2026-11-22T00:00Z", "2026-11-22T23:30Z")))), {}, "charging.file.resolution"),
        (document(series(period({1: 1}, ("2020-01-01T00:00Z", "2026-01-01T00:00Z")))), {}, "charging.file.resolution"),
        (document(series(period({1: 1}).replace("amount>1<", "amount>1e5<"))), {}, "charging.file.number"),
        (document(series(period({1: 1}).replace("amount>1<", "amount>NaN<"))), {}, "charging.file.number"),
        (document(series(period({1: 99_999_999}))), {}, "charging.file.value"),
        (document(series(period({1: 1}).replace("resolution", "revolution"))), {}, "charging.file.missing"),
        (document(series(period({1: 1}, ("2026-11-22T00:00", NORMAL[1])))), {}, "charging.file.clock"),
        (document(series(period({1: 1}, (NORMAL[0], "tomorrow")))), {}, "charging.file.time"),
        (document(series(period({1: 1}) + period({1: 2}))), {}, "charging.file.overlap"),
        (document(*[series("".join(period({1: 1}, ("2025-01-01T00:00Z", "2026-01-01T00:00Z"), "PT5M") for _ in range(9)))]), {}, "charging.file.large"),
        (document(series(period({1: 1}))).replace(b"<mRID>", b"<!DOCTYPE a><mRID>", 1), {}, "xml.dtd"),
        (document(series(period({1: 1})))[:-9], {}, "xml.malformed"),
        (document(series(period({1: 1}))).replace(b"UTF-8", b"UTF-16"), {}, "xml.encoding"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_document_is_refused(content: bytes, asked: dict[str, Any], code: str) -> None:
    with pytest.raises(Refused) as refused:
        read_prices(content, **asked)
    assert refused.value.code == code


def test_an_error_names_the_line_of_the_document() -> None:
    content = document(series(period({1: 1})), series(period({1: 1, 40: 2}, SPRING)))
    with pytest.raises(Refused) as refused:
        read_prices(content)
    assert refused.value.facts["line"] == 4
