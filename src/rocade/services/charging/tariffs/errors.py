"""What is wrong with a file of prices or CO2: always where (a line) and what to do."""

from __future__ import annotations

from rocade.core.errors import Refused

SAY = {
    "large": "the file may have 8 MB and 200,000 rows; hand it in by the year",
    "encoding": "write the file in UTF-8",
    "empty": "the file holds no row with a time and a value",
    "header": "the first line names the columns: a start and a price (or CO2), like start;price [EUR/MWh]",
    "fields": "the row has more or fewer fields than the header; quote a text that holds the delimiter",
    "time": "write times like 2026-11-22T00:15+01:00, 2026-11-22 00:15 or 22.11.2026 00:15",
    "clock": "the time has no offset; say with the file which clock it is, like Europe/Paris or UTC",
    "never": "the clocks leap over this time that day; leave the row out, or write the offset",
    "order": "this time comes twice that day, and the rows around it do not say which one is meant; write offsets, or order the rows by time",
    "number": "write the value as a plain number, like 85.31 or 85,31, without thousands separator",
    "value": "no electricity has this price or CO2; look at unit and decimal sign",
    "unit": "say the unit in the header, like price [EUR/MWh] or carbon [g/kWh], in a column unit, or with the file",
    "currency": "the file is in another currency than said, or in several; amounts are never converted: hand in one currency",
    "zone": "the file is for another price zone than said, or for several; say which of them is meant",
    "overlap": "two rows give different values for the same time; keep one of them",
    "interval": "an interval begins before it ends and lasts 5 to 60 minutes",
    "document": "the document is no Publication_MarketDocument of day-ahead prices (type A44)",
    "missing": "the document lacks an element that every price document has",
    "position": "positions run from 1 to the number of intervals in the period; curve type A01 has each of them, A03 may leave out what repeats",
    "resolution": "the resolution is PT5M, PT10M, PT15M, PT20M, PT30M or PT60M, and the period a multiple of it",
    "curve": "curve types A01 (each position) and A03 (what repeats is left out) are read",
    "sequence": "the document holds several auctions for the same time; say which classification sequence is meant",
    "acknowledgement": "the operator's answer holds no prices but a reason",
}


def tariff(reason: str, line: int = 0, more: str = "") -> Refused:
    """`reason`: one of `SAY`."""
    where = f"line {line}: " if line else ""
    detail = f" ({more[:160]})" if more else ""
    return Refused(f"charging.file.{reason}", f"{where}{SAY[reason]}{detail}", line=line)
