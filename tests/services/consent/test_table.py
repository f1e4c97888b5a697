"""The compiled table against what was agreed: rights, masks, pushing, periods, failing closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.services.consent.conftest import SetClock

from rocade.core.data_classes import ALL, mask
from rocade.services.consent import Consents, ConsentTable
from rocade.trust.authority.gate.model import Principal

ANA, BEN = "person:a1", "person:b2"
CAR = 4_000_000_000_000_000_001


def person(id: str) -> Principal:
    return Principal("person", id, id, "passkey")


OPERATOR = Principal("operator", "spiffe://t/r/operator/o", "operator", "certificate")
GRID = Principal("partner", "spiffe://t/r/partner/grid", "partner:grid", "token")


async def until(condition: Callable[[], bool], limit_s: float = 5.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.01)


async def test_an_owner_sees_all_and_others_what_he_allows(
    consents: Consents, table: ConsentTable, clock: SetClock
) -> None:
    now = clock.now_us()
    assert table.right(OPERATOR, CAR, "operation", now).classes == ALL
    await consents.own(CAR, ANA)
    await until(lambda: table.right(person(ANA), CAR, "own", now).relation == "owner")
    assert table.right(person(ANA), CAR, "own", now).classes == ALL
    assert table.right(OPERATOR, CAR, "operation", now).classes == 0
    assert table.right(person(BEN), CAR, "own", now).classes == 0
    grant = await consents.grant(CAR, ANA, "partner:grid", "charging", mask(["energy"]))
    await until(lambda: table.mask(CAR, "partner:grid", "charging", now) == mask(["energy"]))
    assert table.right(GRID, CAR, "charging", now).grant == grant.id
    assert table.mask(CAR, "partner:grid", "insurance", now) == 0
    await consents.withdraw(CAR, ANA, grant.id)
    await until(lambda: table.mask(CAR, "partner:grid", "charging", now) == 0)
