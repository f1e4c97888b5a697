"""Questions about prices as people type them, and answers as lines to read; `rocade dealer price | prove | export` call these.

An instant is `now`, a day, or a day and time; without an offset it is meant in the point of sale's own time zone, a bare day is
its beginning. A time that the clocks skip or pass twice there is refused, because two prices could be meant.
Refuses: Refused `prices.instant.malformed`, `prices.instant.skipped`, `prices.instant.twice`, `prices.list.which`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rocade.agents.dealer.prices.model import Price
from rocade.agents.dealer.prices.price_store import PriceStore
from rocade.core.errors import Refused
from rocade.core.money import amount

_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)


def read_instant(text: str, zone: str = "UTC", now_us: int = 0) -> int:
    """Microseconds since 1970 UTC of an instant as typed. Raises: Refused `prices.instant.*`."""
    if text.strip().lower() == "now":
        return now_us
    try:
        read = datetime.fromisoformat(text.strip())
        place = ZoneInfo(zone)
    except (ValueError, ZoneInfoNotFoundError):
        raise Refused(
            "prices.instant.malformed",
            "write an instant as 2026-03-29, 2026-03-29T14:30 or 2026-03-29T14:30+02:00, or now",
        ) from None
    if read.tzinfo is None:
        read = _placed(read, place)
    return (read - _EPOCH) // _MICROSECOND


def say_instant(at_us: int, zone: str = "UTC") -> str:
    return (_EPOCH + at_us * _MICROSECOND).astimezone(ZoneInfo(zone)).isoformat(timespec="seconds")


def find_list(store: PriceStore, ref: str, list_id: str | None = None) -> str:
    """The list meant: the one named, or the only one that has the part. Raises: Refused `prices.list.which`, as `part`."""
    if list_id:
        return list_id
    having = [held.list for held in store.heads() if store.has(held.list, ref)]
    if len(having) > 1:
        raise Refused("prices.list.which", f"several lists have this part: {', '.join(having)}; name one with --list")
    if not having:
        raise Refused("prices.part.unknown", "no price list held here has a part of this reference")
    return having[0]


def say_price(
    store: PriceStore, list_id: str, ref: str, at_us: int, known_seq: int | None = None, zone: str = "UTC"
) -> list[str]:
    """The answer to `rocade dealer price`, in lines. Raises: as `PriceStore.price`."""
    price, card = store.price(list_id, ref, at_us, known_seq), store.part(list_id, ref).description
    lines = [
        f"{ref}  {say_amount(price)}",
        f"{card.label}  (family {card.family})" if card.family else card.label,
        f"at {say_instant(at_us, zone)}, as known at number {price.known_seq} of {list_id}",
        f"since {say_instant(price.valid_from_us, zone)}, by number {price.seq}",
    ]
    chain = store.successors(list_id, ref)
    if chain.refs:
        lines.append(f"replaced by {' -> '.join(chain.refs)}{'' if chain.ends == 'here' else ' (not in this list)'}")
    if chain.ends == "circle":
        lines.append("the list names a replacement that leads back to this part; ask the maker")
    if behind_us := store.clock_behind_us():
        lines.append(f"this machine's clock is {behind_us // 1_000_000} s behind the newest list; set it")
    return [line for line in lines if line.strip()]


def say_amount(price: Price) -> str:
    return "withdrawn" if price.price_minor is None else amount(price.price_minor, price.currency)


def export_csv(store: PriceStore, list_id: str, at_us: int, known_seq: int | None = None) -> Iterator[str]:
    """The whole list at an instant as CSV lines with a heading; parts without a price then are left out."""
    yield _line("ref", "family", "label", "price_minor", "currency", "valid_from", "seq", "superseded_by")
    for part, price in store.all_prices(list_id, at_us, known_seq):
        minor = "" if price.price_minor is None else price.price_minor
        instant = say_instant(price.valid_from_us)
        yield _line(part.ref, part.family, part.label, minor, price.currency, instant, price.seq, part.superseded_by)


def _placed(read: datetime, place: tzinfo) -> datetime:
    """A wall-clock time in a zone, if it happens there exactly once."""
    early, late = read.replace(tzinfo=place, fold=0), read.replace(tzinfo=place, fold=1)
    if early.astimezone(UTC).astimezone(place).replace(tzinfo=None) != read:
        raise Refused("prices.instant.skipped", "the clocks skip this time there; write it with its offset, as +01:00")
    if early.utcoffset() != late.utcoffset():
        raise Refused(
            "prices.instant.twice", "the clocks pass this time twice there; write it with its offset, as +01:00"
        )
    return early


def _line(*cells: object) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue()
