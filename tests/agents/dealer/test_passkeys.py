"""Staff's passkeys on the agent's page: added after a link, opening the next session, refused when anything is not as it must be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agents.dealer.conftest import Hub
from tests.agents.dealer.test_page import page_of, tablet
from tests.chance import Seeded
from tests.clocks import TurnedClock
from tests.trust.authority.people.authenticator import PRESENT, Authenticator

from rocade.agents.dealer.staff import SESSION_LIFE_US, Staff
from rocade.agents.dealer.store import Store
from rocade.core.errors import Refused

SITE, ORIGIN = "agent.garage.example", "https://agent.garage.example:8743"


@pytest.fixture(name="staff")
def a_staff(tmp_path: Path) -> Iterator[Staff]:
    store = Store(tmp_path / "agent.sqlite3", TurnedClock(), Seeded())
    made = Staff(store, Seeded())
    made.add("Camille", "manager")
    yield made
    store.close()


def with_passkey(staff: Staff) -> Authenticator:
    passkey = Authenticator(ORIGIN)
    person = staff.by_name("Camille")
    staff.register_passkey(SITE, ORIGIN, person, passkey.create(staff.passkey_options(SITE, person)))
    return passkey


def test_a_link_is_good_for_ten_minutes(staff: Staff) -> None:
    assert isinstance(staff._store.clock, TurnedClock)
    staff._store.clock.hold()
    late, good = staff.make_link("Camille"), staff.make_link("Camille")
    staff._store.clock.ahead_us += 590_000_000
    assert staff.session(staff.redeem(good)).name == "Camille"
    staff._store.clock.ahead_us += 10_000_000
    with pytest.raises(Refused, match=r"dealer\.staff\.link"):
        staff.redeem(late)


def test_a_passkey_opens_a_session(staff: Staff) -> None:
    passkey = with_passkey(staff)
    secret = staff.sign_in(SITE, ORIGIN, passkey.get(staff.passkey_options(SITE, None)))
    assert (staff.session(secret).name, staff.session(secret).passkeys) == ("Camille", 1)


@pytest.mark.parametrize("what", ["origin", "host", "unverified", "other key", "stranger", "replayed", "old question"])
def test_an_answer_that_is_not_exactly_right_opens_nothing(staff: Staff, what: str) -> None:
    passkey = with_passkey(staff)
    options = staff.passkey_options(SITE, None)
    answers = {
        "origin": lambda: passkey.get(options, origin="https://evil.example"),
        "host": lambda: passkey.get(options, host="evil.example"),
        "unverified": lambda: passkey.get(options, flags=PRESENT),
        "other key": lambda: passkey.get(options, key=Authenticator(ORIGIN).key),
        "stranger": lambda: Authenticator(ORIGIN, b"another").get(options),
        "replayed": lambda: passkey.get(options),
        "old question": lambda: passkey.get(options, challenge="AAAA"),
    }
    answer = answers[what]()
    if what == "replayed":
        staff.sign_in(SITE, ORIGIN, answer)
    with pytest.raises(Refused) as refused:
        staff.sign_in(SITE, ORIGIN, answer)
    assert refused.value.code == "dealer.staff.passkey"


def test_who_left_gets_in_by_nothing_he_had(staff: Staff) -> None:
    passkey = with_passkey(staff)
    session, link = staff.redeem(staff.make_link("Camille")), staff.make_link("Camille")
    staff.end("Camille")
    for attempt, code in (
        (lambda: staff.session(session), "dealer.staff.session"),
        (lambda: staff.redeem(link), "dealer.staff.link"),
        (lambda: staff.sign_in(SITE, ORIGIN, passkey.get(staff.passkey_options(SITE, None))), "dealer.staff.passkey"),
    ):
        with pytest.raises(Refused) as refused:
            attempt()
        assert refused.value.code == code


def test_sessions_and_links_end_and_stand_hashed(tmp_path: Path) -> None:
    clock = TurnedClock()
    store = Store(tmp_path / "agent.sqlite3", clock, Seeded())
    staff = Staff(store, Seeded())
    staff.add("Sam", "seller")
    late = staff.make_link("Sam")
    session = staff.redeem(staff.make_link("Sam"))
    assert staff.session(session).role == "seller"
    held = b"".join(file.read_bytes() for file in tmp_path.glob("agent.sqlite3*"))
    assert session.encode() not in held
    assert late.encode() not in held
    clock.ahead_us = SESSION_LIFE_US
    for attempt in (lambda: staff.session(session), lambda: staff.redeem(late)):
        with pytest.raises(Refused):
            attempt()
    for _ in range(30):
        with pytest.raises(Refused) as refused:
            staff.redeem("guess")
    assert refused.value.code == "dealer.staff.busy"
    store.close()


async def test_a_page_without_a_name_offers_no_passkeys(hub: Hub, place: Path) -> None:
    async with page_of(place) as dealer, tablet(dealer, place) as http:
        dealer.staff.add("Camille", "manager")
        await http.post("/signin/link", data={"code": dealer.staff.make_link("Camille")})
        assert "passkey.js" not in (await http.get("/account")).text
        refused = await http.post("/passkey/options", json={})
        assert (refused.status_code, "dealer.staff.unnamed" in refused.text) == (400, True)
