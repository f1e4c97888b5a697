"""Looking through the audit log: by whom, about what, which act; a page at a time, never more than it costs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509

from rocade.core.ports import AuditEntry, SystemClock, SystemRandom
from rocade.fabric.database import Database
from rocade.trust.authority import book as book_module
from rocade.trust.authority.audit import AuditLog
from rocade.trust.authority.book import Asked, AuditBook
from rocade.trust.authority.region import create_region

ENTRIES = [
    AuditEntry(1, "person:a", "vehicles.read", "vehicle:1"),
    AuditEntry(2, "person:b", "vehicles.read", "vehicle:2"),
    AuditEntry(3, "person:a", "vehicles.read.twin", "vehicle:1", "refused", "gate.denied"),
    AuditEntry(4, "person:a", "vehicles.reading", "vehicle:2"),
    AuditEntry(5, "peer:1", "http.access", "http", "refused", "access.missing"),
]


@pytest.fixture
async def book(database: Database, tmp_path: Path) -> AsyncIterator[AuditBook]:
    create_region(tmp_path / "trust", "eu", "rocade.test", SystemClock(), SystemRandom())
    directory = tmp_path / "trust" / "audit"
    log = AuditLog(database, directory, SystemClock())
    for entry in ENTRIES[:-1]:
        log.note(entry)
    await log.record(ENTRIES[-1])
    yield AuditBook(
        database, directory, x509.load_pem_x509_certificate((tmp_path / "trust" / "trust.pem").read_bytes())
    )
    await log.close()


LOOKS = [
    (Asked(), [4, 3, 2, 1, 0]),
    (Asked(actor="person:a"), [3, 2, 0]),
    (Asked(subject="vehicle:2"), [3, 1]),
    (Asked(actor="person:a", subject="vehicle:1"), [2, 0]),
    (Asked(action="vehicles.read"), [2, 1, 0]),
    (Asked(outcome="refused"), [4, 2]),
    (Asked(outcome="done"), [3, 1, 0]),
    (Asked(subject="vehicle:3"), []),
]


async def test_entries_are_found_by_whom_about_what_and_which_act(book: AuditBook) -> None:
    for asked, positions in LOOKS:
        found = await book.browse(asked)
        assert [position for position, _ in found.entries] == positions, asked
        assert found.before is None


async def test_pages_go_back_to_the_beginning(book: AuditBook) -> None:
    first = await book.browse(Asked(), limit=3)
    assert ([position for position, _ in first.entries], first.before) == ([4, 3, 2], 2)
    second = await book.browse(Asked(), first.before, limit=3)
    assert ([position for position, _ in second.entries], second.before) == ([1, 0], None)


async def test_a_look_that_costs_too_much_stops_and_says_where(
    book: AuditBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book_module, "LOOK", 2)
    monkeypatch.setattr(book_module, "LOOKED_THROUGH", 2)
    first = await book.browse(Asked(subject="", action="vehicles"))
    assert ([position for position, _ in first.entries], first.before, first.until_us) == ([3], 3, 4)
