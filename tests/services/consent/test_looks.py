"""Who looked: counted by kind and minute, written by group commit, in the audit log too, shown to the owner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.notebook import Notebook
from tests.services.consent.conftest import NOW_US, SetClock

from rocade.core.errors import Refused, Unavailable
from rocade.fabric.database import Database
from rocade.services.consent import looks as module
from rocade.services.consent.looks import Looks
from rocade.trust.authority.gate.model import Act, Permit, Principal, Right

CAR, OTHER = 4_000_000_000_000_000_001, 17
READ = Act("vehicle.twin.read", "vehicle", ("*",))
MINUTE_US = 60_000_000
START_US = NOW_US - NOW_US % MINUTE_US


def permit(who: str = "partner:grid", classes: int = 8, grant: str = "grant-1", *, is_owned: bool = True) -> Permit:
    principal = Principal("partner", f"spiffe://t/r/{who.replace(':', '/')}", who, "token")
    return Permit(principal, READ, "charging", Right("none", classes, grant, is_owned))


@pytest.fixture
async def looks(database: Database, audit: Notebook, clock: SetClock) -> AsyncIterator[Looks]:
    opened = Looks(database, audit, clock)
    yield opened
    await opened.close()


async def test_looks_of_one_kind_within_a_minute_are_one_row(looks: Looks, audit: Notebook) -> None:
    for second in range(90):
        looks.note(permit(), CAR, READ.name, (3, 4), START_US + second * 1_000_000)
        if second == 30:
            await looks.settled()
    looks.note(permit(), CAR, READ.name, (3,), START_US)
    looks.note(permit("partner:other"), CAR, READ.name, (3, 4), START_US)
    looks.note(permit(grant="grant-2"), CAR, READ.name, (3, 4), START_US)
    looks.note(permit(), OTHER, READ.name, (3, 4), START_US)
    await looks.settled()
    page = await looks.of(CAR)
    counted = sorted(
        (look.minute_us - START_US, look.grant, look.recipient, look.signals, look.times) for look in page.looks
    )
    assert counted == [
        (0, "grant-1", "partner:grid", [3], 1),
        (0, "grant-1", "partner:grid", [3, 4], 60),
        (0, "grant-1", "partner:other", [3, 4], 1),
        (0, "grant-2", "partner:grid", [3, 4], 1),
        (MINUTE_US, "grant-1", "partner:grid", [3, 4], 30),
    ]
    first = next(look for look in page.looks if look.times == 60)
    assert (first.first_us, first.last_us) == (START_US, START_US + 59_000_000)
    assert (first.purpose, first.what, first.classes, page.cursor) == ("charging", READ.name, 8, None)
    assert await looks.find(first.id) == first
    noted = [entry for entry in audit.entries if entry.action == "consent.look"]
    assert len(noted) >= 6
    assert {entry.subject for entry in noted} == {f"vehicle:{CAR}", f"vehicle:{OTHER}"}
    assert noted[0].facts["grant"] == "grant-1"


async def test_a_list_goes_on_where_it_stopped_and_refuses_a_foreign_cursor(looks: Looks) -> None:
    for minute in range(7):
        for who in ("partner:a", "partner:b"):
            looks.note(permit(who), CAR, READ.name, (), START_US + minute * MINUTE_US)
    await looks.settled()
    everything = (await looks.of(CAR)).looks
    assert [look.minute_us for look in everything] == sorted((look.minute_us for look in everything), reverse=True)
    paged, cursor = [], None
    while True:
        page = await looks.of(CAR, cursor=cursor, limit=3)
        paged += page.looks
        if (cursor := page.cursor) is None:
            break
    assert paged == everything
    assert len((await looks.of(CAR, since_us=START_US + 5 * MINUTE_US + 1)).looks) == 4
    assert {look.recipient for look in (await looks.of(CAR, without="spiffe://t/r/partner/a")).looks} == {"partner:b"}
    for cursor in ("", "x", "12", "1-2-3", "'; --", "f" * 40 + "-1"):
        with pytest.raises(Refused, match=r"consent\.cursor"):
            await looks.of(CAR, cursor=cursor)


async def test_a_vehicle_nobody_owns_is_noted_in_the_audit_log_alone(looks: Looks, audit: Notebook) -> None:
    looks.note(permit(is_owned=False), CAR, READ.name, (), START_US)
    await looks.settled()
    assert (await looks.of(CAR)).looks == []
    assert [entry.action for entry in audit.entries] == ["consent.look"]


async def test_a_look_is_in_the_table_soon_after_its_answer_though_nobody_asks_for_it(looks: Looks) -> None:
    looks.note(permit(), CAR, READ.name, (), START_US)
    async with asyncio.timeout(30):
        while not (await looks.of(CAR)).looks:
            await asyncio.sleep(0.01)
    assert looks._pending == {}


async def test_two_processes_count_into_the_same_rows(database: Database, audit: Notebook, clock: SetClock) -> None:
    processes = [Looks(database, audit, clock) for _ in range(4)]
    for round_ in range(25):
        for process in processes:
            for ref in range(1, 21) if round_ % 2 else range(20, 0, -1):
                process.note(permit(), ref, READ.name, (), START_US)
        if round_ % 8 == 0:
            await asyncio.gather(*(process.settled() for process in processes))
    await asyncio.gather(*(process.close() for process in processes))
    reader = Looks(database, audit, clock)
    for ref in range(1, 21):
        assert [look.times for look in (await reader.of(ref)).looks] == [100]
    await reader.close()


async def test_what_cannot_be_noted_must_not_be_answered(looks: Looks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PENDING_LIMIT", 3)
    for ref in range(3):
        looks.note(permit(), ref, READ.name, (), START_US)
    with pytest.raises(Unavailable, match=r"consent\.looks\.full"):
        looks.note(permit(), 4, READ.name, (), START_US)
    looks.note(permit(), 2, READ.name, (), START_US)
    await looks.settled()
    looks.note(permit(), 4, READ.name, (), START_US)


async def test_looks_wait_for_a_database_that_cut_their_connection(looks: Looks, database: Database) -> None:
    looks.note(permit(), CAR, READ.name, (), START_US)
    await looks.settled()
    await database.pool.execute(
        "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    looks.note(permit(), CAR, READ.name, (), START_US)
    await looks.settled()
    assert [look.times for look in (await looks.of(CAR)).looks] == [2]
