"""Claim, enrol, renew, birth, revoke on a real PostgreSQL; the deny set as another process sees it."""

import asyncio
from collections.abc import AsyncIterator, Set
from pathlib import Path

import pytest
from tests.clocks import TurnedClock
from tests.notebook import Notebook

from rocade.core.errors import Misconfigured, Refused
from rocade.core.identifiers import Identity
from rocade.core.ports import AuditEntry, SystemRandom
from rocade.fabric.database import Database
from rocade.trust.authority import attempts
from rocade.trust.authority.audit import AuditLog
from rocade.trust.authority.authority import LIVE_LIMIT, Authority
from rocade.trust.authority.deny import DenySet
from rocade.trust.authority.region import DAY_US, Issued, Region, create_region
from rocade.trust.identity import Verified, verify_leaf
from rocade.trust.identity.directory import leaf_der
from rocade.trust.identity.issuers import Purpose
from rocade.trust.identity.keys import csr, new_key

PEER = "192.0.2.7"


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def region(tmp_path: Path, clock: TurnedClock) -> Region:
    return create_region(tmp_path / "trust", "eu", "rocade.test", clock, SystemRandom())


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
def authority(region: Region, database: Database, notebook: Notebook, clock: TurnedClock) -> Authority:
    return Authority(region, database, notebook, clock, SystemRandom())


@pytest.fixture
def car(region: Region) -> Identity:
    return region.identity("vehicle", "VR3UPHNKSKT101604")


@pytest.fixture
async def denied(database: Database, clock: TurnedClock) -> AsyncIterator[DenySet]:
    opened = await DenySet.open(database, clock)
    yield opened
    await opened.close()


def request() -> bytes:
    return csr(new_key())


def shown(region: Region, issued: Issued, clock: TurnedClock, purpose: Purpose = "operational") -> Verified:
    return verify_leaf(issued.leaf_der, region.issuers, clock.now_us(), {"vehicle"}, purpose=purpose)


async def test_a_claim_code_enrols_the_identity_it_was_made_for_whatever_the_request_says(
    authority: Authority, region: Region, car: Identity, clock: TurnedClock, notebook: Notebook
) -> None:
    code = await authority.claim(car, "operator")
    other = region.identity("vehicle", "VF3NKVDYO11111111")
    issued = await authority.enrol(code.lower().replace("-", " "), csr(new_key(), other), PEER)
    assert shown(region, issued, clock).identity == car
    assert [entry.action for entry in notebook.entries] == ["trust.claim", "trust.enrol"]
    assert all(car.id not in f"{entry}" for entry in notebook.entries), "a VIN stands in the audit log"
    assert all(code.replace("-", "") not in f"{entry}".upper() for entry in notebook.entries)


async def test_a_code_shown_by_many_at_once_enrols_one(authority: Authority, car: Identity) -> None:
    code = await authority.claim(car, "operator")
    results = await asyncio.gather(
        *(authority.enrol(code, request(), f"192.0.2.{n}") for n in range(20)), return_exceptions=True
    )
    assert sum(isinstance(result, Issued) for result in results) == 1
    assert {r.code for r in results if isinstance(r, Refused)} == {"trust.claim.used"}


async def test_the_same_key_may_ask_again_for_an_hour_because_its_answer_may_have_been_lost(
    authority: Authority, region: Region, car: Identity, clock: TurnedClock
) -> None:
    code, mine = await authority.claim(car, "operator"), request()
    await authority.enrol(code, mine, PEER)
    again = await authority.enrol(code, mine, PEER)
    assert shown(region, again, clock).identity == car
    with pytest.raises(Refused, match=r"trust\.claim\.used"):
        await authority.enrol(code, request(), PEER)
    clock.ahead_us += 3_700_000_000
    with pytest.raises(Refused, match=r"trust\.claim\.used"):
        await authority.enrol(code, mine, PEER)


async def test_a_revoked_party_does_not_come_back_by_its_used_code(authority: Authority, car: Identity) -> None:
    code, mine = await authority.claim(car, "operator"), request()
    await authority.enrol(code, mine, PEER)
    await authority.revoke(car, "stolen", "operator")
    with pytest.raises(Refused, match=r"trust\.claim\.used"):
        await authority.enrol(code, mine, PEER)


async def test_codes_that_do_not_count_are_refused_each_with_its_reason(
    authority: Authority, car: Identity, clock: TurnedClock
) -> None:
    replaced = await authority.claim(car, "operator")
    expired = await authority.claim(car, "operator", life_us=DAY_US)
    with pytest.raises(Refused, match=r"trust\.claim\.unknown"):
        await authority.enrol(replaced, request(), PEER)
    with pytest.raises(Refused, match=r"trust\.request\.malformed"):
        await authority.enrol(expired, b"no request", PEER)
    clock.ahead_us += DAY_US
    with pytest.raises(Refused, match=r"trust\.claim\.expired"):
        await authority.enrol(expired, request(), PEER)


async def test_only_a_hash_of_the_code_is_kept(authority: Authority, car: Identity, database: Database) -> None:
    code = (await authority.claim(car, "operator")).replace("-", "")
    row = await database.pool.fetchrow("SELECT * FROM claim_code")
    assert code.encode() not in b"|".join(str(value).encode() for value in row.values())
    assert len(row["code_hash"]) == 32


async def test_guessing_from_one_address_ends_and_others_go_on(
    authority: Authority, car: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = await authority.claim(car, "operator")
    for _ in range(attempts.FAILURES):
        with pytest.raises(Refused, match=r"trust\.claim\.unknown"):
            await authority.enrol("WRONG", request(), PEER)
    with pytest.raises(Refused, match=r"trust\.claim\.attempts"):
        await authority.enrol(code, request(), PEER)
    await authority.enrol(code, request(), "192.0.2.8")
    monkeypatch.setattr(attempts, "WINDOW_S", 0.0)
    with pytest.raises(Refused, match=r"trust\.claim\.used"):
        await authority.enrol(code, request(), PEER)


async def test_renewal_gives_the_same_identity_and_stops_a_loop(
    authority: Authority, region: Region, car: Identity, clock: TurnedClock
) -> None:
    issued = await authority.enrol(await authority.claim(car, "operator"), request(), PEER)
    for _ in range(LIVE_LIMIT - 1):
        issued = await authority.renew(shown(region, issued, clock), request(), PEER)
        assert shown(region, issued, clock).identity == car
    with pytest.raises(Refused, match=r"trust\.renewal\.many"):
        await authority.renew(shown(region, issued, clock), request(), PEER)


async def test_a_birth_certificate_is_given_once_soon_after_the_claim_and_only_re_enrols(
    authority: Authority, region: Region, car: Identity, clock: TurnedClock
) -> None:
    issued = await authority.enrol(await authority.claim(car, "operator"), request(), PEER)
    first = shown(region, issued, clock)
    birth = await authority.give_birth(first, request(), PEER)
    with pytest.raises(Refused, match=r"trust\.certificate\.birth"):
        shown(region, birth, clock)
    with pytest.raises(Refused, match=r"trust\.birth\.exists"):
        await authority.give_birth(first, request(), PEER)
    clock.ahead_us += 100 * DAY_US
    with pytest.raises(Refused, match=r"trust\.certificate\.expired"):
        shown(region, issued, clock)
    again = await authority.reenrol(shown(region, birth, clock, "birth"), request(), PEER)
    assert shown(region, again, clock).identity == car


async def test_a_birth_certificate_is_refused_an_hour_after_the_claim(
    authority: Authority, region: Region, car: Identity, clock: TurnedClock
) -> None:
    issued = await authority.enrol(await authority.claim(car, "operator"), request(), PEER)
    clock.ahead_us += 3_700_000_000
    with pytest.raises(Refused, match=r"trust\.birth\.late"):
        await authority.give_birth(shown(region, issued, clock), request(), PEER)


async def test_only_vehicles_have_birth_certificates(authority: Authority, region: Region, clock: TurnedClock) -> None:
    dealer = region.identity("dealer", "garage-12")
    issued = await authority.enrol(await authority.claim(dealer, "operator"), request(), PEER)
    proven = verify_leaf(issued.leaf_der, region.issuers, clock.now_us(), {"dealer"})
    with pytest.raises(Refused, match=r"trust\.birth\.kind"):
        await authority.give_birth(proven, request(), PEER)


async def test_revoking_a_party_reaches_every_process_and_ends_birth_certificate_and_codes(
    authority: Authority, region: Region, car: Identity, clock: TurnedClock, denied: DenySet
) -> None:
    heard: asyncio.Queue[Set[int]] = asyncio.Queue()
    await denied.watch(heard.put_nowait)
    first = await authority.enrol(await authority.claim(car, "operator"), request(), PEER)
    birth = await authority.give_birth(shown(region, first, clock), request(), PEER)
    code = await authority.claim(car, "operator")
    assert set(await authority.revoke(car, "stolen", "operator")) == {first.serial, birth.serial}
    assert await asyncio.wait_for(heard.get(), 30) == {first.serial, birth.serial}
    assert denied.is_revoked(first.serial)
    with pytest.raises(Refused, match=r"trust\.certificate\.revoked"):
        verify_leaf(first.leaf_der, region.issuers, clock.now_us(), {"vehicle"}, denied=denied)
    with pytest.raises(Refused, match=r"trust\.renewal\.revoked"):
        await authority.reenrol(shown(region, birth, clock, "birth"), request(), PEER)
    with pytest.raises(Refused, match=r"trust\.claim\.unknown"):
        await authority.enrol(code, request(), PEER)
    with pytest.raises(Refused, match=r"trust\.revocation\.unknown"):
        await authority.revoke(car, "stolen", "operator")


async def test_a_certificate_signed_without_the_database_can_be_revoked_by_serial(
    authority: Authority, region: Region, car: Identity, denied: DenySet, clock: TurnedClock
) -> None:
    heard: asyncio.Queue[Set[int]] = asyncio.Queue()
    await denied.watch(heard.put_nowait)
    issued = region.issue(new_key().public_key(), car)
    await authority.revoke_serial(issued.serial, "lost", "operator")
    assert await asyncio.wait_for(heard.get(), 30) == {issued.serial}
    reopened = await DenySet.open(authority._database, clock)
    assert issued.serial in reopened
    await reopened.close()


async def test_the_deny_set_hears_of_a_revocation_after_its_connection_was_cut(
    authority: Authority, region: Region, car: Identity, denied: DenySet, database: Database
) -> None:
    await asyncio.sleep(0.1)
    await database.pool.execute(
        "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE '%revocation%' AND pid <> pg_backend_pid()"
    )
    heard: asyncio.Queue[Set[int]] = asyncio.Queue()
    await denied.watch(heard.put_nowait)
    issued = region.issue(new_key().public_key(), car)
    await authority.revoke_serial(issued.serial, "lost", "operator")
    assert await asyncio.wait_for(heard.get(), 30) == {issued.serial}


async def test_a_provisioned_fleet_is_known_and_audited_one_by_one(
    authority: Authority, region: Region, notebook: Notebook, clock: TurnedClock
) -> None:
    fleet = [region.identity("vehicle", f"CAR{number}") for number in range(50)]
    credentials = await authority.provision(fleet, "operator")
    proven = [verify_leaf(leaf_der(c.chain_pem), region.issuers, clock.now_us(), {"vehicle"}) for c in credentials]
    assert [one.identity for one in proven] == fleet
    assert [entry.subject for entry in notebook.entries] == [one.reference for one in proven]
    assert await authority.revoke(fleet[7], "test", "operator") == [proven[7].serial]


async def test_nothing_is_issued_that_the_audit_log_cannot_hold(
    region: Region, database: Database, car: Identity, clock: TurnedClock, notebook: Notebook
) -> None:
    class Broken(Notebook):
        async def record(self, entry: AuditEntry) -> None:
            raise Misconfigured("audit.down", entry.action)

    code = await Authority(region, database, notebook, clock, SystemRandom()).claim(car, "operator")
    with pytest.raises(Misconfigured):
        await Authority(region, database, Broken(), clock, SystemRandom()).enrol(code, request(), PEER)
    assert await database.pool.fetchval("SELECT count(*) FROM certificate") == 0
    await Authority(region, database, notebook, clock, SystemRandom()).enrol(code, request(), PEER)


async def test_many_enrolments_at_once_with_the_real_audit_log_do_not_wait_for_each_other_for_ever(
    region: Region, database: Database, clock: TurnedClock, tmp_path: Path
) -> None:
    log = AuditLog(database, tmp_path / "trust" / "audit", clock)
    authority = Authority(region, database, log, clock, SystemRandom())
    cars = [region.identity("vehicle", f"CAR{number}") for number in range(40)]
    codes = await asyncio.gather(*(authority.claim(one, "operator") for one in cars))
    issued = await asyncio.gather(*(authority.enrol(code, request(), PEER) for code in codes))
    assert [shown(region, one, clock).identity for one in issued] == cars
    await log.close()
