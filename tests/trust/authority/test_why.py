"""Why, on a real PostgreSQL: refusals by request, entries by place, who is told, in which language."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509

from rocade.core import request, why
from rocade.core.errors import Refused
from rocade.core.ports import AuditEntry, SystemClock, SystemRandom
from rocade.core.why.texts import texts as texts_of
from rocade.fabric.database import Database
from rocade.trust.authority.audit import REQUEST_LIFE_US, AuditLog
from rocade.trust.authority.authority import Authority
from rocade.trust.authority.book import AuditBook
from rocade.trust.authority.explaining import _MISSING, Certificates, Claims, Entries, Refusals
from rocade.trust.authority.gate import DUTIES, Gate, Principal, Right
from rocade.trust.authority.gate.explaining import Acts, Policies, policies
from rocade.trust.authority.region import Region, create_region
from rocade.trust.authority.why import Why

CLOCK = SystemClock()
NOW_US = CLOCK.now_us()
ASKED = "0123456789abcdef"
OPERATOR = Principal("operator", "spiffe://rocade.test/eu/operator/alice", "operator", "certificate", "eu", DUTIES)
REFUSED = Principal("person", "person:0a", "person:0a", "passkey", "eu")
STRANGER = Principal("person", "person:0b", "person:0b", "passkey", "eu")
SUPPORT = Principal("person", "person:0c", "operator", "passkey", "eu", frozenset({"support"}))
SECURITY = Principal("person", "person:0d", "operator", "passkey", "eu", frozenset({"security"}))
OWNER = Principal("person", "person:0e", "person:0e", "passkey", "eu")
PARTNER = Principal("partner", "spiffe://rocade.test/eu/partner/gaia", "partner:gaia", "certificate", "eu")
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


class Owned:
    """A consent table in which person:0e owns vehicle 77 and nothing else is known."""

    def right(self, principal: Principal, ref: int, purpose: str, at_us: int) -> Right:
        is_owner = ref == 77 and principal.id == OWNER.id and purpose == "own"
        return Right("owner" if is_owner else "none", 127 if is_owner else 0, "", ref == 77)

    def mask(self, ref: int, recipient: str, purpose: str, at_us: int) -> int:
        raise NotImplementedError

    def refs(self, principal: Principal, purpose: str, at_us: int) -> list[int]:
        raise NotImplementedError

    def hidden(self, recipient: str, purpose: str, classes: int, at_us: int) -> list[int]:
        raise NotImplementedError


@pytest.fixture
def asked(book: AuditBook, database: Database) -> Why:
    explainers: dict[str, why.Explainer] = {
        "request": Refusals(book), "audit": Entries(book), "certificate": Certificates(database, book, CLOCK),
        "claim": Claims(database, book, CLOCK), "policy": Policies(), "act": Acts(),
    }  # fmt: skip
    return Why(explainers, CLOCK, Gate("eu", Owned()))


@pytest.fixture
def authority(database: Database, directory: Path, log: AuditLog) -> Authority:
    return Authority(Region(directory.parent, CLOCK, SystemRandom()), database, log, CLOCK, SystemRandom())


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
        assert all(word in text for word in ("vehicle.twin.read", "vehicle:77", "insurance", " UTC"))


async def test_the_ids_of_a_chain_lead_further(log: AuditLog, asked: Why) -> None:
    await refuse(log)
    first = await asked.explain(ASKED, "en", REFUSED)
    ids = {one.id for one in first.sentences if one.id}
    assert ids == {"access.missing", "act:vehicle.twin.read", "audit:0"}
    assert all([await texts(asked, id, REFUSED) for id in ids])
    act = await asked.explain("act:vehicle.twin.read", "en", NOBODY)
    further = {one.id for one in act.sentences if one.id}
    assert {"policy:owner", "policy:consent", "policy:region-wall"} <= further | {"policy:region-wall"}
    assert all([await texts(asked, id, NOBODY) for id in further])


@pytest.mark.parametrize(
    ("principal", "is_told"),
    [
        (REFUSED, True),
        (OPERATOR, True),
        (SECURITY, True),
        (SUPPORT, False),
        (OWNER, False),
        (STRANGER, False),
        (PARTNER, False),
        (NOBODY, False),
    ],
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
     "f" * 16, "no.such.code", "act:vehicle", "policy:none", "certificate:", "certificate:0g", "certificate:" + "f" * 41,
     "certificate:ab", "claim:" + "0" * 16, "nothing:1", "vehicle:1", "x" * 5000, "request:" + "0" * 16 + "\n"],
)  # fmt: skip
async def test_what_does_not_exist_is_one_refusal(asked: Why, id: str) -> None:
    with pytest.raises(Refused, match=r"why\.unknown"):
        await asked.explain(id, "en", OPERATOR)


ACTS_DONE = [(OWNER, True), (SECURITY, True), (SUPPORT, False), (STRANGER, False), (PARTNER, False), (NOBODY, False)]


@pytest.mark.parametrize(("principal", "is_told"), ACTS_DONE)
async def test_what_was_done_to_a_vehicle_is_told_to_its_owner(
    log: AuditLog, asked: Why, principal: Principal, is_told: bool
) -> None:
    await log.record(AuditEntry(NOW_US, OPERATOR.id, "vehicles.read", "vehicle:77"))
    if is_told:
        assert OPERATOR.id in await texts(asked, "audit:0", principal)
    else:
        with pytest.raises(Refused, match=r"why\.unknown"):
            await asked.explain("audit:0", "en", principal)


async def test_a_certificate_tells_its_life_and_no_vehicle_number(asked: Why, authority: Authority) -> None:
    vehicle = authority.region.identity("vehicle", "VF1AAAAAAAA000001")
    credential = (await authority.provision([vehicle], "local:uid-0"))[0]
    id = f"certificate:{x509.load_pem_x509_certificate(credential.chain_pem).serial_number:x}"
    first = await asked.explain(id, "en", SECURITY)
    assert [one.id for one in first.sentences] == ["audit:0", ""]
    assert "were made on this region's own machine" in await texts(asked, "audit:0", SECURITY)
    await authority.revoke(vehicle, "sold", OPERATOR.id)
    told = [await texts(asked, id, SECURITY, language) for language in why.LANGUAGES]
    assert all("sold" in text and "VF1" not in text for text in told)
    again = await asked.explain(id, "en", SECURITY)
    assert {"audit:0", "audit:1"} <= {one.id for one in again.sentences}
    for principal in (SUPPORT, OWNER, STRANGER, PARTNER, NOBODY):
        with pytest.raises(Refused, match=r"why\.unknown"):
            await asked.explain(id, "en", principal)


async def test_a_claim_code_tells_what_became_of_it(asked: Why, authority: Authority, book: AuditBook) -> None:
    await authority.claim(authority.region.identity("vehicle", "VF1AAAAAAAA000001"), OPERATOR.id)
    entry = await book.entry(0)
    assert entry
    told = await asked.explain(entry.subject, "en", SUPPORT)
    assert [one.id for one in told.sentences] == ["audit:0", ""]
    with pytest.raises(Refused, match=r"why\.unknown"):
        await asked.explain(entry.subject, "en", STRANGER)


@pytest.mark.parametrize("language", why.LANGUAGES)
def test_every_policy_and_every_missing_thing_has_its_sentence(language: str) -> None:
    facts = texts_of(language).facts
    assert {f"policy.{id}" for id in policies()} == {key for key in facts if key.startswith("policy.")}
    assert {f"missing.{word}" for word in (*_MISSING, "classes")} == {
        key for key in facts if key.startswith("missing.")
    }


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
    assert await book.find({"trust.revoke"}, "certificate:1f", 310_000_000 + 900_000) == 31
    assert await book.find({"trust.enrol"}, "certificate:1f", 310_000_000) is None


async def _remembered(database: Database) -> list[str]:
    return [row["request"].hex() for row in await database.pool.fetch("SELECT request FROM audit_request")]
