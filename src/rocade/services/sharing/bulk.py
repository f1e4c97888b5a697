"""Bulk: the history of a contract's signals as one Parquet file, for what is past or was missed.

From the contract's beginning on, nothing from before. The consent is asked again before each part (an hour of one signal): ended
in the middle, the file is cut off without its end, so that nobody takes it for whole, and nothing more leaves; signals taken out
meanwhile stay out. What left is in the contract's log, also of a file that its reader did not fetch to the end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from rocade.core.catalogue import Catalogue
from rocade.fabric.history import History
from rocade.services.sharing import errors, files
from rocade.services.sharing.feeding import Feeding
from rocade.services.sharing.model import Contract, Line
from rocade.services.sharing.records import Scope
from rocade.services.telemetry import store as history_store
from rocade.services.telemetry.store import Part


class Bulk:
    """Reads a contract's past from the history."""

    def __init__(self, feeding: Feeding, history: History, catalogue: Catalogue) -> None:
        self._feeding = feeding
        self._history = history
        self._catalogue = catalogue

    async def parquet(
        self, contract: Contract, from_us: int, until_us: int, note: Callable[[Line], None]
    ) -> AsyncIterator[bytes]:
        """The file as it is written; `note` gets the log line of what was sent.

        Raises: Refused `sharing.contract.ended`; Unavailable `sharing.stale`, `history.down`.
        """
        terms = await self._feeding.sharing.terms(contract.terms)
        scope = Scope(contract, terms, self._catalogue)
        begin_us = max(from_us, contract.from_us)
        classes = self._feeding.sharing.classes_of(contract)
        kept = (
            await history_store.signals_of(self._history, contract.ref, begin_us, until_us)
            if begin_us < until_us
            else []
        )
        shown = [signal for signal in kept if scope.shows(signal, classes)]
        sent = [0, 0]

        async def parts() -> AsyncIterator[Part]:
            async for part in history_store.samples(self._history, [contract.ref], shown, begin_us, until_us):
                allowed = self._feeding.sharing.classes_of(contract)
                if not allowed:
                    raise errors.ended("withdrawn")
                named = self._feeding.book.by_id.get(contract.id, contract).signals
                if scope.shows(part[1], allowed) and (not named or part[1] in named):
                    sent[0] += len(part[2].time_us)
                    yield part

        try:
            async for piece in files.write(parts(), "parquet", scope.about):
                sent[1] += len(piece)
                yield piece
        finally:
            now_us = self._feeding.sharing.clock.now_us()
            note(Line(contract.id, now_us, "sent", "parquet", contract.version, 1, sent[0], sent[1]))
