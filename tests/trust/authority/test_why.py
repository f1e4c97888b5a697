"""Why, on a real PostgreSQL: refusals by request, entries by place, who is told, in which language."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509

from rocade.core import request, why
from rocade.core.errors import Refused
from rocade.core.ports import AuditEntry, SystemClock, SystemRandom
from rocade.fabric.database import Database
from rocade.trust.authority.audit import REQUEST_LIFE_US, AuditLog
from rocade.trust.authority.book import AuditBook
from rocade.trust.authority.explaining import Entries, Refusals
from rocade.trust.authority.gate.model import Principal
from rocade.trust.authority.region import create_region
from rocade.trust.authority.why import OperatorsAndOwners, Why

CLOCK = SystemClock()
NOW_US = CLOCK.now_us()
ASKED = "0123456789abcdef"
OPERATOR = Principal("operator", "spiffe://rocade.test/eu/operator/alice", "operator", "certificate")
REFUSED = Principal("person", "person:0a", "person:0a", "passkey")
STRANGER = Principal("person", "person:0b", "person:0b", "passkey")
NOBODY = Principal("nobody", "peer:192.0.2.7", "", "none")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    create_region(tmp_path / "trust", "eu", "rocade.test", CLOCK, SystemRandom())
    return tmp_path / "trust" / "audit"


@pytest.fixture
async def log(database: Database, directory: Path) -> AsyncIterator[AuditLog]:
    opened = AuditLog(database, directory, CLOCK)
    yield opened
    await opened.close()


@pytest.fixture
def book(database: Database, directory: Path) -> AuditBook:
    root = x509.load_pem_x509_certificate((directory.parent / "trust.pem").read_bytes())
    return AuditBook(database, directory, root)


@pytest.fixture
def asked(book: AuditBook) -> Why:
    return Why({"request": Refusals(book), "audit": Entries(book)}, OperatorsAndOwners(), CLOCK)


def refusal(actor: str = "person:0a", at_us: int = NOW_US) -> AuditEntry:
    facts: dict[str, str | int | float] = {"act": "vehicle.twin.read", "missing": "location", "purpose": "insurance"}
    return AuditEntry(at_us, actor, "http.access", "vehicle:77", "refused", "access.missing", facts)


async def refuse(log: AuditLog, id: str = ASKED, entry: AuditEntry | None = None) -> request.Request:
    """Note a refusal as a request would."""
    at_hand = request.Request(id)
    token = request.current.set(at_hand)
    try:
        await log.record(entry or refusal())
    finally:
        request.current.reset(token)
    return at_hand


async def texts(asked: Why, id: str, principal: Principal, language: str = "en") -> str:
    return "\n".join(one.text for one in (await asked.explain(id, language, principal)).sentences)


async def test_a_refusal_is_found_by_its_request_and_told_in_three_languages(log: AuditLog, asked: Why) -> None:
    assert (await refuse(log)).is_noted
    told = [await texts(asked, ASKED, REFUSED, language) for language in why.LANGUAGES]
    assert len({*told}) == 3
    for text in told:
        assert all(word in text for word in ("vehicle.twin.read", "vehicle:77", "location", "insurance", " UTC"))


async def test_the_ids_of_a_chain_lead_further(log: AuditLog, asked: Why) -> None:
    await refuse(log)
    first = await asked.explain(ASKED, "en", REFUSED)
    ids = {one.id for one in first.sentences if one.id}
    assert ids == {"access.missing", "vehicle:77", "audit:0"}
    assert "entry 0" in await texts(asked, "audit:0", REFUSED) or "head" in await texts(asked, "audit:0", REFUSED)
    assert "certificate" in await texts(asked, "access.missing", NOBODY)


@pytest.mark.parametrize(
    ("principal", "is_told"), [(REFUSED, True), (OPERATOR, True), (STRANGER, False), (NOBODY, False)]
)
async def test_a_refusal_is_told_to_whom_it_befell_and_to_operators(
    log: AuditLog, asked: Why, principal: Principal, is_told: bool
) -> None:
    await refuse(log)
    for id in (ASKED, f"request:{ASKED}", "audit:0"):
        if is_told:
            assert await texts(asked, id, principal)
        else:
            with pytest.raises(Refused, match=r"why\.unknown"):
                await asked.explain(id, "en", principal)


@pytest.mark.parametrize(
    "id",
    ["", ":", "audit:", "audit:-1", "audit:9", "audit:" + "9" * 30, "audit:²", "request:0", "request:" + "g" * 16,
     "f" * 16, "no.such.code", "nothing:1", "vehicle:1", "x" * 5000, "request:" + "0" * 16 + "\n"],
)  # fmt: skip
async def test_what_does_not_exist_is_one_refusal(asked: Why, id: str) -> None:
    with pytest.raises(Refused, match=r"why\.unknown"):
        await asked.explain(id, "en", OPERATOR)


async def test_a_language_that_is_not_spoken_is_refused(asked: Why) -> None:
    with pytest.raises(Refused, match=r"why\.language"):
        await asked.explain("access.missing", "de", OPERATOR)


async def test_only_refusals_within_a_request_are_kept_by_id(
    log: AuditLog, book: AuditBook, database: Database
) -> None:
    at_hand = await refuse(log, entry=AuditEntry(1, "person:0a", "people.signin", "person:0a"))
    await log.record(refusal())
    assert not at_hand.is_noted
    assert await database.pool.fetchval("SELECT count(*) FROM audit_request") == 0
    assert [(await book.entry(at) or refusal()).facts.get("request") for at in (0, 1)] == [None, None]


async def test_requests_are_forgotten_in_time_and_the_entry_stays(
    log: AuditLog, asked: Why, database: Database
) -> None:
    log._forgot_s = CLOCK.monotonic_s()
    await refuse(log, "a" * 16, refusal(at_us=NOW_US - REQUEST_LIFE_US - 1))
    assert await texts(asked, "a" * 16, OPERATOR)
    log._forgot_s -= 3601  # an hour has passed
    await refuse(log, "b" * 16, refusal())
    assert await _remembered(database) == ["b" * 16]
    assert await texts(asked, "audit:0", OPERATOR)
    with pytest.raises(Refused, match=r"why\.unknown"):
        await asked.explain("a" * 16, "en", OPERATOR)


async def test_an_entry_is_found_by_what_was_done_and_about_when(log: AuditLog, book: AuditBook) -> None:
    for number in range(50):
        await log.record(AuditEntry(number * 10_000_000, "x", "trust.revoke", f"certificate:{number:x}"))
    assert await book.find("trust.revoke", "certificate:1f", 310_000_000 + 900_000) == 31
    assert await book.find("trust.enrol", "certificate:1f", 310_000_000) is None


async def _remembered(database: Database) -> list[str]:
    return [row["request"].hex() for row in await database.pool.fetch("SELECT request FROM audit_request")]
