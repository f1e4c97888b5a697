"""A list as CSV at one instant, sorted by reference, with this holder's marks among the parts: a copy that leaks names its dealer.

Flow: every part with a price at the instant -> the marks that came with the list's keys -> lines. Without marks nothing is
exported: the manufacturer's list is not to be diverted. Refuses: `dealer.export.unmarked`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from rocade.agents.dealer.keyring import MARKS_FILE, read_marks
from rocade.agents.dealer.pricing import Prices
from rocade.core.errors import Refused
from rocade.wire.prices import Mark

COLUMNS = ("ref", "price_minor", "currency", "label", "family", "superseded_by", "valid_from_us")


def rows(prices: Prices, place: Path, name: str, at_us: int) -> Iterator[str]:
    """Lines of the file, the header first; parts without a price at that instant are left out.

    Raises: Refused `dealer.export.unmarked`, and what `Prices` refuses.
    """
    hub, list_id = prices.holder(name)
    marks = marks_of(place / "hubs" / hub, list_id)
    head = prices.held(name).head
    found = [
        (part.ref, price.price_minor, price.currency, part.label, part.family, part.superseded_by, price.valid_from_us)
        for part, price in prices.all_prices(name, at_us)
        if price.price_minor is not None
    ]
    found += [(one.ref, one.price_minor, head.currency, one.label, one.family, "", head.effective_us) for one in marks]
    yield _line(COLUMNS)
    for row in sorted(found):
        yield _line(row)


def marks_of(directory: Path, list_id: str) -> tuple[Mark, ...]:
    """This holder's marks of a list. Raises: Refused `dealer.export.unmarked`."""
    marks = read_marks(directory / MARKS_FILE).get(list_id)
    if not marks:
        raise Refused(
            "dealer.export.unmarked",
            "the marks of this list are not here, or not what was kept; let the agent connect once, then export",
        )
    return marks


def _line(values: tuple[object, ...]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue()
