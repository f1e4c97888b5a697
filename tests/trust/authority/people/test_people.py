"""People on a real PostgreSQL: links, sessions and their ends, touches, recovery, lent duties, two processes at once."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.clocks import PassingClock
from tests.notebook import Notebook

sys.path.insert(0, str(Path(__file__).parent))

from authenticator import Authenticator

from rocade.core.errors import Misconfigured, Refused, Unavailable
from rocade.core.ports import SystemRandom
from rocade.fabric.database import Database
from rocade.trust.authority.gate.model import Principal
from rocade.trust.authority.people import People, Person, Session, Site
from rocade.trust.authority.people.model import DAY_US, HOUR_US, MINUTE_US
from rocade.trust.authority.people.sessions import MEMORY_S

PEER = "peer:192.0.2.7"
BROWSER = "a browser's secret"


@pytest.fixture
def clock() -> PassingClock:
    return PassingClock()


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
def people(database: Database, notebook: Notebook, clock: PassingClock) -> People:
    return People(database, notebook, clock, SystemRandom(), Site(), "eu")


async def let_in(people: People, person: Person, *, passkey: Authenticator | None = None) -> tuple[str, Session]:
    """A session by link, or one opened by a passkey that is registered on the way."""
    secret = await people.redeem_link(await people.link(person.id, "test", 60))
    if passkey is not None:
        session = await of(people, secret)
        options = await people.passkeys.register_options(session, secret)
        secret, _ = await people.passkeys.register(session, secret, passkey.create(options), "Key")
    return secret, await of(people, secret)


async def of(people: People, secret: str) -> Session:
    session = await people.session(secret)
    assert session is not None
    return session


async def operator(people: People, *duties: str, name: bytes = b"operator") -> tuple[Person, Session, Authenticator]:
    made = await people.add("Grace", duties)
    key = Authenticator(people.site.origin, name)
    return made, (await let_in(people, made, passkey=key))[1], key


async def code_of(work: Awaitable[Any]) -> str:
    with pytest.raises(Refused) as refused:
        await work
    return refused.value.code


async def test_a_link_opens_one_session_that_may_look(people: People) -> None:
    ada = await people.add("Ada", ("support",), language="fr")
    link = await people.link(ada.id, "invitation", 60)
    session = await of(people, await people.redeem_link(link))
    assert session.person == ada
    assert session.principal == Principal("person", ada.id, "operator", "link", "eu", frozenset({"support"}))
    assert await code_of(people.redeem_link(link)) == "people.link.used"


async def test_a_new_link_ends_the_one_before_and_links_end_by_themselves(people: People, clock: PassingClock) -> None:
    ada = await people.add("Ada")
    first = await people.link(ada.id, "invitation", 60)
    second = await people.link(ada.id, "invitation", 60)
    assert await code_of(people.redeem_link(first)) == "people.link.expired"
    clock.ahead_us = MINUTE_US
    assert await code_of(people.redeem_link(second)) == "people.link.expired"
    assert await code_of(people.redeem_link("no such link")) == "people.link.unknown"


async def test_a_link_shown_to_two_browsers_at_once_lets_in_one(people: People) -> None:
    ada = await people.add("Ada")
    link = await people.link(ada.id, "invitation", 60)
    found = await asyncio.gather(*(people.redeem_link(link) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(one, str) for one in found) == 1
    assert {one.code for one in found if isinstance(one, Refused)} == {"people.link.used"}


async def test_a_link_that_lets_in_alone_lives_ten_minutes_at_most(people: People, clock: PassingClock) -> None:
    ada = await people.add("Ada")
    _, by, _ = await operator(people, "security")
    for link in (
        await people.link(ada.id, "invitation"),
        await people.invite(by.principal, ada.id),
        await people.recover(by.principal, ada.id),
    ):
        clock.ahead_us += 10 * MINUTE_US
        assert await code_of(people.redeem_link(link)) == "people.link.expired"
    for lifetime_s in (600.001, 86_400, 7 * 86_400):
        link = await people.link(ada.id, "invitation", lifetime_s)
        assert await code_of(people.redeem_link(link, browser="mine")) == "people.link.unconfirmed"


async def test_an_invitation_lets_in_the_browser_whose_number_was_confirmed(
    people: People, clock: PassingClock, notebook: Notebook
) -> None:
    ada, ben = await people.add("Ada"), await people.add("Ben")
    link = await people.link(ada.id, "invitation", 86_400)
    asked = await people.links.ask(link, "mine", PEER)
    assert re.fullmatch(r"\d{8}", asked.number)
    assert not asked.is_confirmed
    assert await people.links.ask(link, "mine", PEER) == asked
    theirs = await people.links.ask(link, "a thief's", PEER)
    assert theirs.number != asked.number
    assert await code_of(people.links.confirm(ben.id, asked.number, "local")) == "people.link.unasked"
    assert await code_of(people.links.confirm(ada.id, "12345678", "local")) == "people.link.unasked"
    await people.links.confirm(ada.id, f"{asked.number[:4]} {asked.number[4:]}", "local")
    assert await code_of(people.redeem_link(link, browser="a thief's")) == "people.link.unconfirmed"
    assert await people.redeem_link(link, browser="mine")
    assert await code_of(people.redeem_link(link, browser="mine")) == "people.link.used"
    assert [one.action for one in notebook.entries if one.outcome == "done"][-4:] == [
        "people.link.ask", "people.link.ask", "people.link.confirm", "people.link.redeem"
    ]  # fmt: skip
    assert asked.number not in str(notebook.entries)


async def test_asking_to_be_let_in_ends_after_ten_minutes(people: People, clock: PassingClock) -> None:
    ada = await people.add("Ada")
    link = await people.link(ada.id, "invitation", 86_400)
    late, confirmed = await people.links.ask(link, "late", PEER), await people.links.ask(link, "confirmed", PEER)
    await people.links.confirm(ada.id, confirmed.number, "local")
    clock.ahead_us += 10 * MINUTE_US
    assert await code_of(people.links.confirm(ada.id, late.number, "local")) == "people.link.unasked"
    assert await code_of(people.redeem_link(link, browser="confirmed")) == "people.link.unconfirmed"
    again = await people.links.ask(link, "late", PEER)
    assert again.number != late.number
    await people.link(ada.id, "another", 86_400)
    assert await people.links.waiting(ada.id) == [], "a newer link ends what was asked with the older one"


async def test_who_may_recover_somebody_confirms_and_nobody_himself(people: People) -> None:
    ada, boss = await people.add("Ada"), await people.add("Boss", ("security",))
    _, support, _ = await operator(people, "support")
    _, security, _ = await operator(people, "security", name=b"security")
    for by, whom, code in ((support, ada, ""), (support, boss, "people.duty.missing"), (security, boss, "")):
        number = (await people.links.ask(await people.link(whom.id, "test", 86_400), "browser", PEER)).number
        if code:
            assert await code_of(people.confirm(by.principal, whom.id, number)) == code
        else:
            await people.confirm(by.principal, whom.id, number)
    assert await code_of(people.confirm(security.principal, security.person.id, "12345678")) == "people.self"


async def test_guessing_links_is_slowed_down_by_address(
    people: People, clock: PassingClock, notebook: Notebook
) -> None:
    ada = await people.add("Ada")
    link = await people.link(ada.id, "invitation", 600)
    for _ in range(10):
        assert await code_of(people.redeem_link("guess", PEER)) == "people.link.unknown"
    assert await code_of(people.redeem_link(link, PEER)) == "quota.sign_in"
    assert notebook.entries[-1].reason == "quota.sign_in"
    assert await people.redeem_link(link, "peer:192.0.2.8")
    clock.ahead_us = 10 * MINUTE_US
    assert await code_of(people.redeem_link("guess", PEER)) == "people.link.unknown"


SESSION_ENDS: dict[str, tuple[tuple[str, ...], int]] = {
    "an operator's after an hour of rest": (("support",), HOUR_US),
    "a person's after two weeks of rest": ((), 14 * DAY_US),
}


@pytest.mark.parametrize("which", SESSION_ENDS)
async def test_a_session_ends_after_rest(people: People, clock: PassingClock, which: str) -> None:
    duties, rest_us = SESSION_ENDS[which]
    ada = await people.add("Ada", duties)
    secret, _ = await let_in(people, ada, passkey=Authenticator(people.site.origin))
    clock.ahead_us = rest_us - MINUTE_US
    assert await people.session(secret)
    clock.ahead_us = 2 * rest_us - 3 * MINUTE_US
    assert await people.session(secret)
    clock.ahead_us = 3 * rest_us
    assert await people.session(secret) is None


async def test_a_session_ends_in_the_end_however_busy(people: People, clock: PassingClock) -> None:
    ada = await people.add("Ada", ("support",))
    secret, _ = await let_in(people, ada, passkey=Authenticator(people.site.origin))
    for _ in range(12 * 2 - 1):
        clock.ahead_us += 30 * MINUTE_US
        assert await people.session(secret)
    clock.ahead_us = 12 * HOUR_US
    assert await people.session(secret) is None


async def test_what_ended_long_ago_is_forgotten(people: People, clock: PassingClock, database: Database) -> None:
    ada = await people.add("Ada")
    _, session = await let_in(people, ada)
    await people.sessions.end(session)
    for ahead_us, kept in ((29 * DAY_US, 2), (62 * DAY_US, 1)):
        clock.ahead_us = ahead_us
        await let_in(people, ada)
        for table in ("person_session", "person_link"):
            assert await database.pool.fetchval(f"SELECT count(*) FROM {table}") == kept, table


async def test_signing_out_everywhere_is_known_to_another_process_within_two_seconds(
    people: People, database: Database, notebook: Notebook
) -> None:
    elsewhere = PassingClock()
    other = People(database, notebook, elsewhere, SystemRandom(), Site(), "eu")
    ada = await people.add("Ada")
    secrets = [(await let_in(people, ada))[0] for _ in range(3)]
    assert all([await other.session(one) for one in secrets])
    assert await people.sessions.end_all(await of(people, secrets[0])) == 3
    assert [await people.session(one) for one in secrets] == [None, None, None]
    elsewhere.ahead_us = 2_000_000
    assert [await other.session(one) for one in secrets] == [None, None, None]


async def test_a_thousand_streams_ask_the_database_about_once_a_second(people: People, database: Database) -> None:
    ada = await people.add("Ada")
    secret, _ = await let_in(people, ada)
    queries = 0
    read = people.sessions._read

    async def counted() -> None:
        nonlocal queries
        queries += 1
        await read()

    people.sessions._read = counted  # type: ignore[method-assign]
    began_s = asyncio.get_running_loop().time()
    for _ in range(20):
        assert all(await asyncio.gather(*(people.session(secret) for _ in range(1000))))
        await asyncio.sleep(0.05)
    assert queries <= 2 + (asyncio.get_running_loop().time() - began_s) / MEMORY_S


async def test_with_the_database_away_nobody_is_somebody(
    people: People, database: Database, clock: PassingClock
) -> None:
    ada = await people.add("Ada")
    secret, _ = await let_in(people, ada)
    await database.pool.close()
    clock.ahead_us = MINUTE_US
    with pytest.raises(Unavailable):
        await people.session(secret)


async def touched(people: People, secret: str, key: Authenticator, act: str, subject: str = "") -> str:
    session = await of(people, secret)
    options = await people.touches.options(session, secret, act, subject)
    return await people.touches.verify(session, secret, key.get(options), PEER)


async def test_a_touch_is_good_once_for_one_act_on_one_subject(people: People) -> None:
    ada, key = await people.add("Ada"), Authenticator(people.site.origin)
    secret, _ = await let_in(people, ada, passkey=key)
    touch = await touched(people, secret, key, "vehicle.erase", "vehicle:7")
    await people.redeem_touch(secret, touch, "vehicle.erase", "vehicle:7")
    assert await code_of(people.redeem_touch(secret, touch, "vehicle.erase", "vehicle:7")) == "people.touch.used"


ASTRAY: dict[str, tuple[str, str, int, str]] = {
    "another act": ("vehicle.transfer", "vehicle:7", 0, "people.touch.other"),
    "another vehicle": ("vehicle.erase", "vehicle:8", 0, "people.touch.other"),
    "after a minute": ("vehicle.erase", "vehicle:7", MINUTE_US, "people.touch.expired"),
}


@pytest.mark.parametrize("how", ASTRAY)
async def test_a_touch_is_good_for_nothing_else(
    people: People, clock: PassingClock, notebook: Notebook, how: str
) -> None:
    act, subject, later_us, code = ASTRAY[how]
    ada, key = await people.add("Ada"), Authenticator(people.site.origin)
    secret, _ = await let_in(people, ada, passkey=key)
    touch = await touched(people, secret, key, "vehicle.erase", "vehicle:7")
    clock.ahead_us = later_us
    assert await code_of(people.redeem_touch(secret, touch, act, subject)) == code
    assert (notebook.entries[-1].actor, notebook.entries[-1].reason) == (ada.id, code)


async def test_a_touch_belongs_to_its_session_and_its_person(people: People) -> None:
    ada, bob = await people.add("Ada"), await people.add("Bob")
    hers, his = Authenticator(people.site.origin, b"hers"), Authenticator(people.site.origin, b"his")
    secret, session = await let_in(people, ada, passkey=hers)
    other, _ = await let_in(people, bob, passkey=his)
    touch = await touched(people, secret, hers, "vehicle.erase")
    assert await code_of(people.redeem_touch(other, touch, "vehicle.erase", "")) == "people.touch.unknown"
    assert await code_of(people.redeem_touch("nobody", touch, "vehicle.erase", "")) == "people.session.missing"
    options = await people.touches.options(session, secret, "vehicle.erase", "")
    his.handle = hers.handle
    assert await code_of(people.touches.verify(session, secret, his.get(options), PEER)) == "people.passkey.signature"


async def test_who_came_by_a_link_cannot_touch(people: People) -> None:
    secret, session = await let_in(people, await people.add("Ada"))
    assert await code_of(people.touches.options(session, secret, "vehicle.erase", "")) == "people.touch.passkey"


async def test_a_link_adds_no_passkey_to_somebody_who_has_one(people: People) -> None:
    ada = await people.add("Ada")
    await let_in(people, ada, passkey=Authenticator(people.site.origin))
    secret, session = await let_in(people, ada)
    assert await code_of(people.passkeys.register_options(session, secret)) == "people.passkey.link"


async def test_one_link_used_in_two_tabs_registers_one_passkey(people: People) -> None:
    secret, session = await let_in(people, await people.add("Ada"))
    one, two = (Authenticator(people.site.origin, name) for name in (b"one", b"two"))
    asked = [await people.passkeys.register_options(session, secret) for _ in range(2)]
    await people.passkeys.register(session, secret, one.create(asked[0]), "One")
    assert (
        await code_of(people.passkeys.register(session, secret, two.create(asked[1]), "Two")) == "people.passkey.link"
    )


async def test_the_last_passkey_stays_and_nobody_elses_can_be_removed(people: People) -> None:
    ada, bob = await people.add("Ada"), await people.add("Bob")
    _, session = await let_in(people, ada, passkey=Authenticator(people.site.origin, b"hers"))
    _, his = await let_in(people, bob, passkey=Authenticator(people.site.origin, b"his"))
    number = (await people.passkeys.list(ada.id))[0].number
    assert await code_of(people.passkeys.remove(session, number)) == "people.passkey.last"
    assert await code_of(people.passkeys.remove(his, number)) == "people.passkey.unknown"
    assert await code_of(people.passkeys.rename(his, number, "mine")) == "people.passkey.unknown"


async def test_recovery_ends_what_was_lost_and_is_written_down(people: People, notebook: Notebook) -> None:
    ada, key = await people.add("Ada"), Authenticator(people.site.origin)
    secret, _ = await let_in(people, ada, passkey=key)
    grace, hers, _ = await operator(people, "support")
    fresh = await people.recover(hers.principal, ada.id)
    entry = notebook.entries[-1]
    assert (entry.actor, entry.action, entry.subject, entry.outcome) == (grace.id, "people.recover", ada.id, "done")
    assert entry.facts == {"passkeys": 1, "sessions": 1}
    assert await people.session(secret) is None
    options = await people.passkeys.sign_in_options(BROWSER, PEER)
    assert await code_of(people.passkeys.sign_in(BROWSER, key.get(options), PEER)) == "people.passkey.ended"
    again = await of(people, await people.redeem_link(fresh))
    assert (again.person.id, again.passkeys) == (ada.id, 0)


async def test_who_may_recover_whom(people: People) -> None:
    ada, boss = await people.add("Ada"), await people.add("Boss", ("security",))
    grace, support, _ = await operator(people, "support", name=b"1")
    _, security, _ = await operator(people, "security", name=b"2")
    _, by_link = await let_in(people, await people.add("Link", ("support", "security")))
    _, release, _ = await operator(people, "release", name=b"3")
    refused = [(support, grace.id, "people.self"), (support, boss.id, "people.duty.missing"),
               (by_link, ada.id, "people.duty.missing"), (release, ada.id, "people.duty.missing"),
               (security, "person:0000000000000001", "people.unknown")]  # fmt: skip
    for by, whom, code in refused:
        assert await code_of(people.recover(by.principal, whom)) == code
    assert await people.recover(security.principal, boss.id)


async def test_a_lent_duty_has_a_scope_and_an_end(people: People, clock: PassingClock) -> None:
    _, security, _ = await operator(people, "security", name=b"2")
    ada = await people.add("Ada")
    secret, session = await let_in(people, ada, passkey=Authenticator(people.site.origin))
    assert session.principal.recipient == ada.id
    until_us = clock.now_us() + 30 * MINUTE_US
    lent = await people.lend(security.principal, ada.id, "support", "enrolment quarantine.read", until_us)
    session = await of(people, secret)
    assert session.principal.duties == frozenset()
    for act, duties in (("enrolment.vehicle", {"support"}), ("quarantine.read", {"support"}),
                        ("quarantine.drop", set()), ("enrolments", set()), ("people.recover", set())):  # fmt: skip
        assert session.acting(act).duties == frozenset(duties), act
    clock.ahead_us = 31 * MINUTE_US
    assert (await of(people, secret)).acting("enrolment.vehicle").duties == frozenset()
    assert lent.granted_by == security.person.id


async def test_a_duty_taken_back_is_gone_from_open_sessions(people: People, clock: PassingClock) -> None:
    _, security, _ = await operator(people, "security", name=b"2")
    ada = await people.add("Ada")
    secret, _ = await let_in(people, ada, passkey=Authenticator(people.site.origin))
    lent = await people.lend(security.principal, ada.id, "release", "", clock.now_us() + DAY_US)
    assert (await of(people, secret)).principal.duties == {"release"}
    await people.take_back(security.principal, ada.id, lent.number)
    assert (await of(people, secret)).principal.duties == frozenset()
    assert await code_of(people.take_back(security.principal, ada.id, lent.number)) == "people.duty.unknown"


type Lending = Callable[[People, Session, Person, int], Awaitable[object]]
BAD_LENDING: dict[str, tuple[Lending, str]] = {
    "to oneself": (lambda p, by, _, now: p.lend(by.principal, by.person.id, "release", "", now + DAY_US), "people.self"),
    "for ever": (lambda p, by, ada, now: p.lend(by.principal, ada.id, "release", "", now + 367 * DAY_US), "people.invalid"),
    "in the past": (lambda p, by, ada, now: p.lend(by.principal, ada.id, "release", "", now - 1), "people.invalid"),
    "no such duty": (lambda p, by, ada, now: p.lend(by.principal, ada.id, "king", "", now + DAY_US), "people.invalid"),
    "a scope nobody can read": (
        lambda p, by, ada, now: p.lend(by.principal, ada.id, "release", "Vehicle; --", now + DAY_US), "people.invalid",
    ),
    "to nobody": (
        lambda p, by, _, now: p.lend(by.principal, "person:00000000000000ff", "release", "", now + DAY_US), "people.unknown",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", BAD_LENDING)
async def test_duties_are_not_lent(people: People, clock: PassingClock, notebook: Notebook, how: str) -> None:
    lend, code = BAD_LENDING[how]
    _, security, _ = await operator(people, "security")
    ada = await people.add("Ada")
    assert await code_of(lend(people, security, ada, clock.now_us())) == code
    assert notebook.entries[-1].reason == code


async def test_only_the_security_duty_lends(people: People, clock: PassingClock) -> None:
    _, support, _ = await operator(people, "support", "release")
    ada = await people.add("Ada")
    lending = people.lend(support.principal, ada.id, "support", "", clock.now_us() + DAY_US)
    assert await code_of(lending) == "people.duty.missing"


async def test_an_ended_person_is_out_and_the_name_is_gone(people: People, notebook: Notebook) -> None:
    ada, key = await people.add("Ada Lovelace", ("support",)), Authenticator(people.site.origin)
    secret, _ = await let_in(people, ada, passkey=key)
    link = await people.link(ada.id, "spare", 60)
    await people.end(ada.id)
    assert await people.session(secret) is None
    assert await code_of(people.redeem_link(link)) in {"people.link.expired", "people.ended"}
    options = await people.passkeys.sign_in_options(BROWSER, PEER)
    assert await code_of(people.passkeys.sign_in(BROWSER, key.get(options), PEER)) == "people.passkey.ended"
    gone = await people.by_id(ada.id)
    assert (gone.name, gone.duties, gone.ended_us is not None) == ("", (), True)
    assert await code_of(people.link(ada.id, "again", 60)) == "people.ended"


async def test_no_name_and_no_secret_stands_in_the_audit_log(people: People, notebook: Notebook) -> None:
    ada, key = await people.add("Ada Lovelace"), Authenticator(people.site.origin)
    link = await people.link(ada.id, "test", 60)
    secret = await people.redeem_link(link)
    session = await of(people, secret)
    options = await people.passkeys.register_options(session, secret)
    secret, _ = await people.passkeys.register(session, secret, key.create(options), "Ada's phone")
    touch = await touched(people, secret, key, "vehicle.erase")
    written = repr(notebook.entries)
    assert not [one for one in ("Ada", "Lovelace", "phone", link, secret, touch) if one in written]


SITES = [
    "http://example.org",
    "https://localhost",
    "https://",
    "ftp://localhost",
    "http://localhost:8080/x",
    "https://a b.c",
]


@pytest.mark.parametrize("address", SITES)
def test_people_sign_in_at_https_or_localhost_only(address: str) -> None:
    with pytest.raises(Misconfigured):
        Site.at(address)
    assert Site.at("https://road.example.org/") == Site("road.example.org", "https://road.example.org")
    assert Site.at("http://localhost:8080") == Site("localhost", "http://localhost:8080")
