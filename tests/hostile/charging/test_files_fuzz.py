"""Tariff files, CO2 files, documents and calendars torn, doubled and mixed: an answer or a typed refusal, never anything else."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from rocade.core.errors import Refused
from rocade.services.charging.planning.departures import check_calendar
from rocade.services.charging.tariffs import Parsed, read_carbon, read_prices

TABLE = (
    '"MTU (CET/CEST)","Area","Sequence","Day-ahead Price [EUR/MWh]","Currency"\n'
    + "".join(
        f'"26.10.2025 {hour:02}:{quarter:02} - 26.10.2025 {hour + quarter // 45:02}:{(quarter + 15) % 60:02}","BZN|BE","Sequence 1","{hour - 2}.{quarter}","EUR"\n'
        for hour in (0, 1, 2, 2, 3, 4)
        for quarter in (0, 15, 30, 45)
    )
).encode()
CARBON = b"Datetime (UTC),Zone,Carbon intensity gCO2eq/kWh\n" + b"".join(
    b"2026-11-22 %02d:00:00,FR,%d\n" % (hour, 30 + hour) for hour in range(24)
)
POINTS = "".join(f"<Point><position>{n}</position><price.amount>{n}.5</price.amount></Point>\n" for n in (1, 2, 5, 9))
DOCUMENT = f"""<?xml version="1.0" encoding="UTF-8"?>
<Publication_MarketDocument xmlns="urn:iec62325.351:tc57wg16:451-3:publicationdocument:7:3">
<mRID>1</mRID><type>A44</type>
<TimeSeries><mRID>1</mRID><in_Domain.mRID codingScheme="A01">10YFR-RTE------C</in_Domain.mRID>
<currency_Unit.name>EUR</currency_Unit.name><price_Measure_Unit.name>MWH</price_Measure_Unit.name><curveType>A03</curveType>
<Period><timeInterval><start>2026-03-28T23:00Z</start><end>2026-03-29T22:00Z</end></timeInterval><resolution>PT15M</resolution>
{POINTS}</Period></TimeSeries></Publication_MarketDocument>""".encode()
CALENDAR = b"""BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nX-WR-TIMEZONE:Europe/Paris\r\nBEGIN:VTIMEZONE\r\nTZID:Own\r\nBEGIN:STANDARD\r
DTSTART:20001029T030000\r\nRRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10\r\nTZOFFSETFROM:+0200\r\nTZOFFSETTO:+0100\r\nEND:STANDARD\r
END:VTIMEZONE\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTART;TZID=Own:20260105T073000\r\nRRULE:FREQ=WEEKLY;BYDAY=MO,TU\r
EXDATE;TZID=Europe/Paris:20261124T073000\r\nSUMMARY:Work\r\nEND:VEVENT\r\nBEGIN:VEVENT\r\nUID:2\r\nDTSTART:20261125T073000Z\r
RRULE:FREQ=MONTHLY;BYMONTHDAY=25;COUNT=9\r\nDURATION:PT1H\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"""
MARKS = [b"", b"\x00", b"\xff", b"-", b"0", b"9" * 20, b"1e308", b"nan", b"=", b";", b",", b'"', b"<", b">", b"&", b"\n", b"\t", b"2026",
         b"INTERVAL=0", b"9999", b"0000", b"FREQ=DAILY", b"FREQ=SECONDLY", b"\xe2\x82\xac", b"A01", b"PT60M", b"</Point>", b"Z", b"+99:99"]  # fmt: skip


def torn(content: bytes, rng: random.Random) -> bytes:
    """A few pieces taken out, doubled, exchanged or replaced."""
    for _ in range(rng.randint(1, 5)):
        begin = rng.randrange(len(content) + 1)
        end = min(len(content), begin + rng.choice([0, 1, 1, 2, 4, 30]))
        other = rng.randrange(len(content) + 1)
        put = rng.choice(
            [rng.choice(MARKS), content[begin:end] * 2, content[other : other + 8], bytes([rng.randrange(256)])]
        )
        content = content[:begin] + put + content[end:]
    return content


def checked(parsed: Parsed) -> None:
    series = parsed.series
    assert len(series)
    assert np.isfinite(series.value).all()
    assert np.all(series.end_us > series.start_us)
    assert np.all(series.start_us[1:] >= series.end_us[:-1])
    assert series.unit == (f"{series.currency}/kWh" if series.currency else "g/kWh")


READERS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "table": (TABLE, lambda content: checked(read_prices(content))),
    "table with all said": (
        TABLE,
        lambda content: checked(
            read_prices(content, clock="Europe/Paris", zone="BE", currency="EUR", unit="EUR/MWh", sequence=1)
        ),
    ),
    "carbon": (CARBON, lambda content: checked(read_carbon(content, unit="g/kWh"))),
    "document": (DOCUMENT, lambda content: checked(read_prices(content))),
    "calendar": (
        CALENDAR,
        lambda content: check_calendar(content.decode("utf-8", "replace"), "Europe/Paris", 1_795_300_000_000_000),
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_the_whole_file_is_read(name: str) -> None:
    content, read = READERS[name]
    read(content)


def refusal(read: Callable[[bytes], object], content: bytes) -> Refused | None:
    try:
        read(content)
    except Refused as error:
        return error
    return None


def run(name: str, rounds: int, seed: int) -> None:
    content, read = READERS[name]
    rng = random.Random(seed)
    refused = [error for _ in range(rounds) if (error := refusal(read, torn(content, rng)))]
    families = ("charging.file.", "charging.calendar.", "charging.zone", "xml.")
    assert refused
    assert [error.code for error in refused if not error.code.startswith(families)] == []
    assert max(len(error.message) for error in refused) < 500


@pytest.mark.parametrize("name", READERS)
def test_torn_files_are_answered_or_refused(name: str) -> None:
    run(name, 150, 5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", READERS)
def test_very_many_torn_files_are_answered_or_refused(name: str, seed: int) -> None:
    run(name, 3_000, seed)
