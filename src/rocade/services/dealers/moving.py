"""Moving a site over from the old ways: both side by side (shadow), what differs, cut-over, roll-back; all of it recorded.

Flow: `compare` reads the file the old way left (FTP, mail: `ref;price`) beside what the new way says of the same list at the
same instant (`rocade dealer export`), at the dealer's own machine: prices never pass through an operator's hands. The counts
and a few examples go to the hub as a report of that site. A site is cut over when its newest report, not older than
`FRESH_US`, shows no difference, or when somebody accepts the differences and says why. Rolled back it may try again.
Refuses `dealers.move.order` (a step that does not follow), `dealers.move.unready`, `dealers.compare.unreadable`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation

from rocade.core.errors import Refused
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.fabric.database import Database
from rocade.services.dealers import errors, store
from rocade.services.dealers.model import (
    MOVE_STATES,
    MOVES,
    Compared,
    Example,
    Move,
    Progress,
    Shadow,
    check_text,
)

FRESH_US = 7 * 86_400_000_000
EXAMPLES = 50
_REFERENCE = ("ref", "reference", "part", "article")
_PRICE = ("price", "price_minor", "amount", "prix")
_LIST = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z")


def read_prices(content: bytes, *, is_minor: bool = False) -> dict[str, int]:
    """Reference -> price in minor units, of a file with a header or of two columns; comma, semicolon or tab.

    `is_minor`: prices of a column other than `price_minor` are in minor units too. Raises: Refused `dealers.compare.unreadable`.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")
    head = text.split("\n", 1)[0]
    delimiter = max(";,\t", key=head.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    names = [cell.strip().lower() for cell in next(rows, [])]
    ref_at = next((names.index(name) for name in _REFERENCE if name in names), None)
    price_at = next((names.index(name) for name in _PRICE if name in names), None)
    if ref_at is None or price_at is None:
        ref_at, price_at, rows = 0, 1, csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    elif names[price_at] == "price_minor":
        is_minor = True
    prices: dict[str, int] = {}
    for line, row in enumerate(rows, 1):
        if not any(cell.strip() for cell in row):
            continue
        try:
            prices[row[ref_at].strip()] = _minor(row[price_at], is_minor=is_minor)
        except (IndexError, InvalidOperation, ValueError):
            raise Refused(
                "dealers.compare.unreadable", f"line {line} has no reference with a price", line=line
            ) from None
    return prices


def compare(old: Mapping[str, int], new: Mapping[str, int]) -> Compared:
    """What differs between the old way's prices and the new way's."""
    both = old.keys() & new.keys()
    differing = sorted(ref for ref in both if old[ref] != new[ref])
    only_old, only_new = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
    told = [Example(ref, str(old.get(ref, "")), str(new.get(ref, ""))) for ref in (*differing, *only_old, *only_new)]
    return Compared(len(old.keys() | new.keys()), len(both) - len(differing), len(differing), len(only_old),
                    len(only_new), told[:EXAMPLES])  # fmt: skip


def _minor(text: str, *, is_minor: bool) -> int:
    """`1.234,50`, `1234.5` or `1234` as minor units; the last of comma and point is the decimal one."""
    plain = text.strip().replace(" ", "").replace("\u00a0", "").replace("\u202f", "").strip("€")
    last = max(plain.rfind(","), plain.rfind("."))
    if last >= 0:
        plain = plain[:last].replace(",", "").replace(".", "") + "." + plain[last + 1 :]
    value = Decimal(plain) * (1 if is_minor else 100)
    if value != value.to_integral_value():
        raise ValueError(text)
    return int(value)


class Moving:
    """Steps and reports of one region's database."""

    def __init__(self, database: Database, audit: Audit, clock: Clock) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock

    async def report(self, site: str, list: str, seq: int, compared: Compared, actor: str) -> Shadow:
        """Keep what a shadow run found.

        Raises: Refused `dealers.site.unknown`, `dealers.move.order` (no shadow run was begun), `dealers.invalid`.
        """
        _check(list, seq, compared)
        async with store.transaction(self._database) as connection:
            state = await store.lock_state(connection, site)
            if state != "shadow":
                raise errors.wrong_move(state, "a shadow report")
            now_us = self._clock.now_us()
            number = await store.add_shadow(connection, site, list, seq, now_us, compared)
            facts: dict[str, str | int | float] = {
                "list": list,
                "seq": seq,
                "compared": compared.compared,
                "differing": compared.differing,
            }
            await self._audit.record(AuditEntry(now_us, actor, "dealers.shadow", f"site:{site}", facts=facts))
        return Shadow(number, site, list, seq, now_us, compared)

    async def shadows(self, site: str, limit: int = 50) -> list[Shadow]:
        """Reports of a site, the newest first."""
        async with store.transaction(self._database) as connection:
            return await store.read_shadows(connection, site, limit)

    async def move(self, site: str, to: str, note: str, actor: str, *, is_accepted: bool = False) -> Move:
        """Take a site one step further, or back. `is_accepted`: differences are known and accepted, `note` says why.

        Raises: Refused `dealers.site.unknown`, `dealers.move.order`, `dealers.move.unready`, `dealers.invalid`.
        """
        if to not in MOVE_STATES:
            raise errors.invalid("to", f"one of {', '.join(MOVE_STATES)}")
        check_text(note, "note", 200, is_needed=is_accepted)
        subject = f"site:{site}"
        try:
            async with store.transaction(self._database) as connection:
                state = await store.lock_state(connection, site)
                if to not in MOVES[state]:
                    raise errors.wrong_move(state, to)
                now_us = self._clock.now_us()
                if to == "cut-over" and not is_accepted:
                    _check_ready(await store.read_shadows(connection, site, 50), now_us)
                number = await store.add_move(connection, site, to, now_us, actor, note)
                facts: dict[str, str | int | float] = {"from": state, "to": to, "accepted": int(is_accepted)}
                await self._audit.record(AuditEntry(now_us, actor, "dealers.move", subject, facts=facts))
                await store.note_changes(connection, [subject], now_us)
        except Refused as refusal:
            entry = AuditEntry(self._clock.now_us(), actor, "dealers.move", subject, "refused", refusal.code)
            self._audit.note(entry)
            raise
        return Move(number, site, to, now_us, actor, note)

    async def history(self, site: str) -> list[Move]:
        """Every step of a site, in order."""
        async with store.transaction(self._database) as connection:
            return await store.read_moves(connection, site)

    async def progress(self) -> list[Progress]:
        """How far each group is."""
        async with store.transaction(self._database) as connection:
            counted = await store.count_states(connection)
        found: dict[str, dict[str, int]] = {}
        for group, state, count in counted:
            found.setdefault(group, dict.fromkeys(MOVE_STATES, 0))[state] = count
        return [Progress(group, sum(states.values()), states) for group, states in sorted(found.items())]


def _check(list: str, seq: int, compared: Compared) -> None:
    if not _LIST.match(list):
        raise errors.invalid("list", "small letters, digits and hyphens")
    counts = (seq, compared.compared, compared.same, compared.differing, compared.only_old, compared.only_new)
    parts = compared.same + compared.differing + compared.only_old + compared.only_new
    if min(counts) < 0 or max(counts) > 1 << 53 or parts != compared.compared:
        raise errors.invalid("compared", "the counts do not add up")
    if len(compared.examples) > EXAMPLES:
        raise errors.invalid("examples", f"at most {EXAMPLES}")


def _check_ready(reports: Iterable[Shadow], now_us: int) -> None:
    """Raises: Refused `dealers.move.unready` unless the newest report of every list is fresh and shows no difference."""
    newest: dict[str, Shadow] = {}
    for report in reports:
        newest.setdefault(report.list, report)
    if not newest:
        raise errors.unready_move("no shadow run has reported; compare the old file with the new list first")
    for report in newest.values():
        if report.at_us < now_us - FRESH_US:
            raise errors.unready_move(f"the last report of list {report.list} is older than seven days")
        if not report.compared.is_same:
            raise errors.unready_move(f"the last report of list {report.list} shows differences")
