"""The compiled table against what was agreed: rights, masks, pushing, periods, failing closed, and random histories."""

from __future__ import annotations

import asyncio
import contextlib
import random as chance
from collections.abc import Callable

import numpy as np
import pytest
from tests.services.consent.conftest import DAY_US, NOW_US, SetClock

from rocade.core.data_classes import ALL, mask
from rocade.core.errors import Refused
from rocade.fabric.database import Database
from rocade.services.consent import FOREVER_US, Consents, ConsentTable, columns
from rocade.services.consent import table as module
from rocade.services.consent.model import HANDOVER_US
from rocade.trust.authority.gate.model import Principal, Right

ANA, BEN, CLEO = "person:a1", "person:b2", "person:c3"
CAR, VAN = 4_000_000_000_000_000_001, 4_000_000_000_000_000_002
ENERGY, PLACE = mask(["energy"]), mask(["location"])


def person(id: str, recipient: str = "") -> Principal:
    return Principal("person", id, recipient or id, "passkey")


OPERATOR = Principal("operator", "spiffe://t/r/operator/o", "operator", "certificate")
GRID = Principal("partner", "spiffe://t/r/partner/grid", "partner:grid", "token")


async def until(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.01)


async def test_an_act_reaches_the_table_within_a_moment(consents: Consents, table: ConsentTable) -> None:
    await consents.own(CAR, ANA)
    await until(lambda: table.is_owned(CAR))
    grant = await consents.grant(CAR, ANA, "partner:grid", "charging", ENERGY)
    await until(lambda: table.mask(CAR, "partner:grid", "charging", NOW_US) == ENERGY)
    await consents.withdraw(CAR, ANA, grant.id)
    await until(lambda: table.mask(CAR, "partner:grid", "charging", NOW_US) == 0)


async def test_rights_of_everybody_on_one_vehicle(consents: Consents, table: ConsentTable, clock: SetClock) -> None:
    await consents.own(CAR, ANA)
    grant = await consents.grant(CAR, ANA, "partner:grid", "charging", ENERGY)
    support = await consents.grant(CAR, ANA, "operator", "support", PLACE, until_us=NOW_US + 60)
    shared = await consents.grant(CAR, ANA, CLEO, "sharing", PLACE)
    guest, code = await consents.invite(CAR, ANA, ENERGY | PLACE, NOW_US + DAY_US)
    await consents.accept(code, BEN)
    await table.refresh()
    staff = Principal("person", "person:9", "operator", "passkey", duties=frozenset({"support"}))
    expected: list[tuple[Principal, str, int, Right]] = [
        (person(ANA), "own", NOW_US, Right("owner", ALL, "", is_owned=True)),
        (person(ANA), "charging", NOW_US, Right("owner", 0, "", is_owned=True)),
        (person(BEN), "own", NOW_US, Right("driver", ENERGY | PLACE, guest.id, is_owned=True)),
        (person(BEN), "own", NOW_US + DAY_US - 1, Right("driver", ENERGY | PLACE, guest.id, is_owned=True)),
        (person(BEN), "own", NOW_US + DAY_US, Right("none", 0, "", is_owned=True)),
        (person(BEN), "charging", NOW_US, Right("driver", 0, "", is_owned=True)),
        (person(CLEO), "own", NOW_US, Right("none", 0, "", is_owned=True)),
        (person(CLEO), "sharing", NOW_US, Right("none", PLACE, shared.id, is_owned=True)),
        (GRID, "charging", NOW_US, Right("none", ENERGY, grant.id, is_owned=True)),
        (GRID, "insurance", NOW_US, Right("none", 0, "", is_owned=True)),
        (GRID, "own", NOW_US, Right("none", 0, "", is_owned=True)),
        (OPERATOR, "operation", NOW_US, Right("none", 0, "", is_owned=True)),
        (OPERATOR, "support", NOW_US, Right("none", PLACE, support.id, is_owned=True)),
        (OPERATOR, "support", NOW_US + 60, Right("none", 0, "", is_owned=True)),
        (staff, "support", NOW_US, Right("none", PLACE, support.id, is_owned=True)),
        (staff, "own", NOW_US, Right("none", 0, "", is_owned=True)),
        (Principal("partner", ANA, "partner:x", "token"), "own", NOW_US, Right("none", 0, "", is_owned=True)),
    ]
    for who, purpose, at_us, right in expected:
        assert table.right(who, CAR, purpose, at_us) == right, (who.id, purpose, at_us)


async def test_a_vehicle_nobody_owns_is_open_to_the_region_for_running_it(table: ConsentTable) -> None:
    for purpose, classes in (("operation", ALL), ("support", ALL), ("research", 0), ("own", 0), ("", 0)):
        assert table.right(OPERATOR, CAR, purpose, NOW_US) == Right("none", classes, "", is_owned=False)
        assert table.mask(CAR, "operator", purpose, NOW_US) == classes
    assert table.right(GRID, CAR, "operation", NOW_US).classes == 0
    assert table.right(person(ANA), CAR, "operation", NOW_US).classes == 0


async def test_a_change_of_owner_splits_the_time(consents: Consents, table: ConsentTable, clock: SetClock) -> None:
    await consents.own(CAR, ANA)
    await consents.grant(CAR, ANA, "partner:grid", "charging", ENERGY)
    clock.us += DAY_US
    done = await consents.claim(await consents.sell(CAR, ANA), BEN)
    await table.refresh()
    assert table.right(person(ANA), CAR, "own", clock.us).relation == "owner"
    now_us = done.at_us
    assert now_us == clock.us + HANDOVER_US
    assert table.right(person(ANA), CAR, "own", now_us) == Right("former", ALL, "", is_owned=True)
    assert table.right(person(BEN), CAR, "own", now_us) == Right("none", 0, "", is_owned=True)
    assert table.right(person(BEN), done.ref, "own", now_us) == Right("owner", ALL, "", is_owned=True)
    assert table.right(person(ANA), done.ref, "own", now_us) == Right("none", 0, "", is_owned=True)
    for ref in (CAR, done.ref):
        assert table.right(GRID, ref, "charging", now_us).classes == 0
        assert table.right(OPERATOR, ref, "operation", now_us).classes == 0


async def test_watchers_hear_acts_and_periods_that_begin_or_end_by_themselves(
    consents: Consents, table: ConsentTable, clock: SetClock
) -> None:
    heard: list[int] = []
    unwatch = table.watch(heard.extend)
    table.watch(lambda refs: 1 / 0)
    await consents.own(CAR, ANA)
    await until(lambda: heard == [CAR])
    await consents.grant(CAR, ANA, "partner:grid", "charging", ENERGY, NOW_US + 5_000_000, NOW_US + 9_000_000)
    await until(lambda: heard == [CAR] * 2)
    for at_s, times, classes in ((5, 3, ENERGY), (9, 4, 0)):
        clock.us = NOW_US + at_s * 1_000_000
        await until(lambda times=times: len(heard) == times)
        assert table.mask(CAR, "partner:grid", "charging", clock.us) == classes
    unwatch()
    await consents.own(VAN, ANA)
    await until(lambda: table.is_owned(VAN))
    assert heard == [CAR] * 4


async def test_away_from_its_database_the_table_answers_owners_alone(
    consents: Consents, table: ConsentTable, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await consents.own(CAR, ANA)
    await consents.grant(CAR, ANA, "partner:grid", "charging", ENERGY)
    _, code = await consents.invite(CAR, ANA, ENERGY, NOW_US + DAY_US)
    await consents.accept(code, BEN)
    await table.refresh()
    heard: list[int] = []
    table.watch(heard.extend)

    async def away(connection: object) -> set[int]:
        raise OSError("no route to host")

    with monkeypatch.context() as broken:
        broken.setattr(table, "_read_alone", away)
        async with table._reading:  # a read that was under way has ended
            clock.s += module.STALE_S + 1
        await until(lambda: table.is_stale)
        await until(lambda: CAR in heard)
        refs = np.array([CAR, VAN])
        for who in (GRID, OPERATOR, person(BEN)):
            for ref in (CAR, VAN):
                for purpose in ("own", "charging", "operation", "support"):
                    assert table.right(who, ref, purpose, NOW_US).classes == 0
                    assert table.mask(ref, who.recipient, purpose, NOW_US) == 0
                    assert table.masks(refs, who.recipient, purpose, NOW_US).tolist() == [0, 0]
        assert table.right(person(BEN), CAR, "own", NOW_US).relation == "none"
        assert table.right(person(ANA), CAR, "own", NOW_US) == Right("owner", ALL, "", is_owned=True)
        assert table.mask(CAR, ANA, "own", NOW_US) == ALL
        heard.clear()
    await until(lambda: not table.is_stale)
    await until(lambda: CAR in heard)
    assert table.mask(CAR, "partner:grid", "charging", NOW_US) == ENERGY
    assert table.right(person(BEN), CAR, "own", NOW_US).relation == "driver"


async def test_a_cut_connection_is_made_again_and_nothing_is_missed(
    consents: Consents, table: ConsentTable, database: Database
) -> None:
    await consents.own(CAR, ANA)
    await until(lambda: table.is_owned(CAR))
    await database.pool.execute(
        "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    await consents.own(VAN, BEN)
    await until(lambda: table.is_owned(VAN))


async def test_a_reader_that_slept_past_the_kept_changes_reads_all_anew(
    consents: Consents, table: ConsentTable, database: Database
) -> None:
    for ref in range(1, 6):
        await consents.own(ref, ANA)
    await table.refresh()
    await table.close()
    await consents.own(CAR, ANA)
    await consents.own(VAN, ANA)
    await database.pool.execute("DELETE FROM consent_change WHERE number < (SELECT max(number) FROM consent_change)")
    await database.pool.execute("DELETE FROM consent_owner WHERE ref = 3")
    await table.refresh()
    assert [ref for ref in (1, 2, 3, 4, 5, CAR, VAN) if table.is_owned(ref)] == [1, 2, 4, 5, CAR, VAN]


# --- random histories against plain lists --------------------------------------------------------------------------

PEOPLE = ["person:1", "person:2", "person:3"]
RECIPIENTS = ["operator", "partner:a", "partner:b", *PEOPLE]
PURPOSES = ["operation", "support", "charging", "sharing"]


class Plain:
    """What was agreed, as lists; written apart from the table and its SQL."""

    def __init__(self) -> None:
        self.owner: dict[int, tuple[str, int, int]] = {}
        self.rows: list[list[object]] = []
        """[ref, recipient, purpose, from, end, classes, id]"""

    def add(self, ref: int, to: str, purpose: str, from_us: int, end_us: int, classes: int, id: str) -> None:
        for row in self.rows:
            if row[:3] == [ref, to, purpose] and row[4] > from_us:  # type: ignore[operator]
                row[4] = from_us
        self.rows.append([ref, to, purpose, from_us, end_us, classes, id])

    def stop(self, match: Callable[[list[object]], bool], at_us: int) -> None:
        for row in self.rows:
            if match(row):
                row[4] = min(row[4], at_us)  # type: ignore[type-var]

    def mask(self, ref: int, to: str, purpose: str, at_us: int) -> int:
        if ref not in self.owner:
            return ALL if to == "operator" and purpose in ("operation", "support") else 0
        if purpose == "own" and self.owner[ref][0] == to:
            return ALL
        found = [row for row in self.rows if row[:3] == [ref, to, purpose] and row[3] <= at_us < row[4]]  # type: ignore[operator]
        assert len(found) <= 1
        return int(found[0][5]) if found else 0  # type: ignore[call-overload]


async def act(rng: chance.Random, consents: Consents, plain: Plain, refs: list[int], now_us: int) -> None:
    """One random act, done both ways; what is refused is left out of the lists."""
    ref = rng.choice(refs)
    owner = plain.owner.get(ref, ("", 0, 0))[0]
    to, purpose, classes = rng.choice(RECIPIENTS), rng.choice(PURPOSES), rng.randrange(1, ALL + 1)
    from_us = now_us + rng.choice([0, 0, 0, 3_000_000, 40_000_000])
    until_us = rng.choice([FOREVER_US, from_us + rng.randrange(1, 90_000_000)])
    live = [row for row in plain.rows if row[0] == ref and row[4] > now_us]  # type: ignore[operator]
    match rng.randrange(8):
        case 0 | 1 if not owner:
            await consents.own(ref, PEOPLE[0])
            plain.owner[ref] = (PEOPLE[0], now_us, FOREVER_US)
        case 2 | 3 | 4:
            grant = await consents.grant(ref, owner or PEOPLE[0], to, purpose, classes, from_us, until_us)
            plain.add(ref, to, purpose, from_us, until_us, classes, grant.id)
        case 5 if given := [row for row in live if row[2] != "own"]:
            row = rng.choice(given)
            await consents.withdraw(ref, owner, str(row[6]))
            row[4] = now_us
        case 6 if given := [row for row in live if row[2] != "own"]:
            row = rng.choice(given)
            end_us = rng.choice([row[4], now_us + rng.randrange(1, 60_000_000)])
            less = await consents.narrow(ref, owner, str(row[6]), int(row[5]) & classes, end_us)  # type: ignore[call-overload, arg-type]
            plain.add(ref, str(row[1]), str(row[2]), less.from_us, less.until_us, less.classes, less.id)
        case 7 if owner and rng.random() < 0.4:
            buyer = rng.choice(PEOPLE)
            done = await consents.claim(await consents.sell(ref, owner), buyer)
            plain.stop(lambda row: row[0] == ref, now_us)
            plain.owner[ref] = (owner, plain.owner[ref][1], now_us)
            plain.owner[done.ref] = (buyer, now_us, FOREVER_US)
            refs[refs.index(ref)] = done.ref
        case _ if owner:
            driver = rng.choice(PEOPLE)
            end_us = now_us + rng.randrange(1, 90_000_000)
            guest, code = await consents.invite(ref, owner, classes, max(end_us, from_us + 1), from_us)
            await consents.accept(code, driver)
            plain.add(ref, driver, "own", from_us, max(end_us, from_us + 1), classes, guest.id)


async def compare(seed: int, acts: int, consents: Consents, table: ConsentTable, clock: SetClock) -> int:
    rng, plain = chance.Random(seed), Plain()
    refs = list(range(1, 13))
    compared = 0
    for step in range(acts):
        clock.us += rng.randrange(1, 5_000_000)
        with contextlib.suppress(Refused):
            await act(rng, consents, plain, refs, clock.us)
        if step % 10:
            continue
        await table.refresh()
        everyone = [*plain.owner, 99, *refs]
        column = np.array(everyone)
        for _ in range(12):
            to, purpose = rng.choice(RECIPIENTS), rng.choice([*PURPOSES, "own", "nonsense"])
            at_us = clock.us + rng.choice([0, 1, rng.randrange(100_000_000)])
            expected = [plain.mask(ref, to, purpose, at_us) for ref in everyone]
            assert table.masks(column, to, purpose, at_us).tolist() == expected, (seed, step, to, purpose)
            assert [table.mask(ref, to, purpose, at_us) for ref in everyone] == expected, (seed, step, to, purpose)
            compared += 2 * len(everyone)
    return compared


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_random_histories_never_disagree_with_plain_lists(
    consents: Consents, table: ConsentTable, clock: SetClock, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "REMAKE_AFTER", 5)
    assert await compare(seed, 150, consents, table, clock) > 4_000


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20, 26))
async def test_many_random_histories_never_disagree_with_plain_lists(
    consents: Consents, table: ConsentTable, clock: SetClock, seed: int
) -> None:
    assert await compare(seed, 1_000, consents, table, clock) > 50_000
