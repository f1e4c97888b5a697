"""What operators are shown of certificates, on a real PostgreSQL: who is late, who fell out, what waits."""

from __future__ import annotations

import pytest
from keyed import named
from tests.clocks import SetClock

from rocade.core.errors import Refused
from rocade.fabric.database import Database
from rocade.trust.authority import store
from rocade.trust.authority.papers import Papers

DAY_US = 86_400_000_000
NOW_US = 1_800_000_000_000_000


def certificate(
    serial: int, party: str, begun_days: float, ends_days: float, purpose: str = "operational"
) -> store.CertificateRow:
    """`party` is kind/id; days before and after now."""
    begun_us, end_us = NOW_US - int(begun_days * DAY_US), NOW_US + int(ends_days * DAY_US)
    return store.CertificateRow(
        serial, f"spiffe://rocade.test/eu/{party}", purpose, b"k", b"k", begun_us, end_us, begun_us
    )


@pytest.fixture
async def papers(database: Database) -> Papers:
    async with database.pool.acquire() as connection, connection.transaction():
        rows = [
            certificate(1, "vehicle/FRESH", 10, 50),
            certificate(2, "vehicle/LATE", 50, 10),
            certificate(3, "vehicle/RENEWED", 50, 10),
            certificate(4, "vehicle/RENEWED", 1, 59),
            certificate(5, "partner/gone", 9, -2),
            certificate(6, "vehicle/LONGGONE", 160, -100),
            certificate(7, "vehicle/REVOKED", 50, 10),
            certificate(8, "vehicle/BORN", 50, 7250, "birth"),
            certificate(9, "vehicle/LOSTNEW", 50, 10),
            certificate(10, "vehicle/LOSTNEW", 1, 59),
        ]
        await store.add_certificates(connection, await named(database, rows))
        await store.add_revocations(connection, [(7, NOW_US + DAY_US), (10, NOW_US + DAY_US)], "stolen", NOW_US)
        code = (b"a" * 32, "spiffe://rocade.test/eu/dealer/d-1", None)
        await store.add_claims(connection, [code], NOW_US, NOW_US + DAY_US)
    return Papers(database, SetClock(NOW_US))


ASKED = [
    ({}, ["LATE", "LOSTNEW"]),
    ({"state": "ended"}, ["gone"]),
    ({"state": "revoked"}, ["REVOKED", "LOSTNEW"]),
    ({"state": "live"}, ["FRESH", "RENEWED", "BORN"]),
    ({"state": "live", "find": "newed"}, ["RENEWED"]),
    ({"state": "live", "find": "newe"}, []),
    ({"state": "ended", "find": "on"}, ["gone"]),
    ({"state": "ended", "kind": "vehicle"}, []),
    ({"state": "ended", "kind": "partner"}, ["gone"]),
]


async def test_a_party_is_shown_by_the_newest_certificate_it_may_use(papers: Papers) -> None:
    for asked, ids in ASKED:
        found = (await papers.certificates(**asked)).papers
        assert [paper.id for paper in found] == ids, asked
    assert [(one.kind, one.live, one.late, one.ended) for one in await papers.counts()] == [
        ("partner", 0, 0, 1), ("vehicle", 2, 2, 0)
    ]  # fmt: skip


async def test_pages_follow_each_other_without_a_repeat(papers: Papers) -> None:
    seen, cursor = [], ""
    while True:
        page = await papers.certificates("live", cursor=cursor, limit=1)
        seen += [paper.id for paper in page.papers]
        if page.cursor is None:
            break
        cursor = page.cursor
    assert seen == ["FRESH", "RENEWED", "BORN"]


async def test_all_certificates_of_one_party_and_the_codes_that_wait(papers: Papers) -> None:
    found = await papers.of("spiffe://rocade.test/eu/vehicle/LOSTNEW")
    assert [(paper.serial, paper.state, paper.reason) for paper in found] == [
        (10, "revoked", "stolen"),
        (9, "late", ""),
    ]
    assert (await papers.party(10)).id == "LOSTNEW"
    with pytest.raises(Refused, match=r"trust\.papers\.unknown"):
        await papers.party(11)
    assert [(code.kind, code.id, code.used_us) for code in await papers.codes()] == [("dealer", "d-1", None)]


WRONG = [{"state": "good"}, {"kind": "king"}, {"cursor": "x"}, {"cursor": "-5-f"}, {"cursor": "9" * 30 + "-1"}]


async def test_nonsense_is_refused(papers: Papers) -> None:
    for asked in WRONG:
        with pytest.raises(Refused, match=r"trust\.papers\.asked"):
            await papers.certificates(**asked)
