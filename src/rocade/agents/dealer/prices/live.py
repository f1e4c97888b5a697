"""A list in use: what memory holds of it, whether it is what its head was signed for, and whether a damaged row of it was met."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from rocade.agents.dealer.prices.ledger import ListRow
from rocade.agents.dealer.prices.reading import Reading
from rocade.core.errors import Corrupt
from rocade.wire.prices import Head

_log = logging.getLogger(__name__)


class Live:
    """Replaced as a whole when a head was applied."""

    def __init__(self, row: ListRow, head: Head, reading: Reading) -> None:
        self.row, self.head, self.reading = row, head, reading
        self.is_sound = reading.state.is_of(head)
        self.is_whole = self.is_sound
        """No damaged row was met since it was loaded."""

    @contextlib.contextmanager
    def asked(self) -> Iterator[Reading]:
        """Its reading; a damaged row that is met is kept in mind."""
        try:
            yield self.reading
        except Corrupt as damage:
            self.note(damage)
            raise

    def note(self, damage: Corrupt) -> None:
        self.is_whole = False
        _log.error("list %s: %s", self.row.name, damage.message, extra={"facts": {"code": damage.code}})
