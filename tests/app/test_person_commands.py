"""`rocade person` on a region's own disk: the first operator, everybody in a list, a second link, the end."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import httpx
import pytest
from tests.app.stand import Region

sys.path.insert(0, str(Path(__file__).parents[1] / "trust/authority/people"))

from authenticator import Authenticator


def test_people_are_added_listed_let_in_again_and_ended(region: Region) -> None:
    said = region.rocade("person", "add", "Ada Lovelace", "--duty", "security", "--duty", "support")
    person, address = said.split()
    assert re.fullmatch(r"person:[0-9a-f]{16}", person)
    assert re.fullmatch(rf"{region.configuration.site}/signin/link/[A-Za-z0-9_-]{{43}}", address)
    line = next(one for one in region.rocade("person", "list").splitlines() if person in one)
    assert re.split(r"\s{2,}", line)[1:5] == ["Ada Lovelace", "security, support", "0", line.split()[-2]]
    again = region.rocade("person", "link", person, "--hours", "1").strip()
    assert again != address
    site = region.configuration.site
    with httpx.Client(base_url=site, headers={"origin": site}, trust_env=False, timeout=30) as browser:
        secret = {"secret": again.rpartition("/")[2]}
        assert browser.post("/v1/signin/link", json=secret).json()["code"] == "people.link.unconfirmed"
        number = browser.post("/v1/signin/link/asks", json=secret).json()["number"]
        region.rocade("person", "confirm", person, "00000000", code=1, says="[people.link.unasked]")
        region.rocade("person", "confirm", person, number)
        assert browser.post("/v1/signin/link", json=secret).json()["person"] == person
    region.rocade("person", "end", person, "--yes")
    ended = next(one for one in region.rocade("person", "list").splitlines() if person in one)
    assert ended.endswith("ended")
    assert "Ada" not in ended
    region.rocade("person", "link", person, code=1, says="[people.ended]")


def test_the_printed_link_lets_in_registers_a_passkey_and_opens_the_console(region: Region) -> None:
    person, address = region.rocade("person", "add", "Grace Hopper", "--duty", "support").split()
    site, key = region.configuration.site, Authenticator(region.configuration.site)
    with httpx.Client(base_url=site, headers={"origin": site}, trust_env=False, timeout=30) as browser:
        assert "Grace Hopper" in browser.get(address).text
        assert browser.post("/v1/signin/link", json={"secret": address.rpartition("/")[2]}).json()["person"] == person
        options = browser.post("/v1/account/passkeys/options").json()
        kept = browser.post("/v1/account/passkeys", json={"credential": key.create(options), "name": "Key"})
        assert kept.status_code == 200
        assert browser.post("/v1/signout").json() == {"ended": 1}
        assert browser.get("/v1/account").status_code == 401
        options = browser.post("/v1/signin/options").json()
        assert browser.post("/v1/signin", json={"credential": key.get(options)}).json()["next"] == "/"
        assert "Grace Hopper" in browser.get("/").text
    region.rocade("audit", "verify")


WRONG = [
    (("add", "x" * 81), 1, "[people.invalid]"),
    (("add", "Eve", "--duty", "king"), 2, "king"),
    (("add", "Eve", "--organisation", "garage"), 1, "[people.invalid]"),
    (("link", "person:0000000000000000"), 1, "[people.unknown]"),
    (("link", "Ada"), 1, "[people.unknown]"),
    (("end", "person:zz", "--yes"), 1, "[people.unknown]"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("words", "code", "says"), WRONG, ids=str)
def test_wrong_use_is_said_in_a_line(region: Region, words: tuple[str, ...], code: int, says: str) -> None:
    region.rocade("person", *words, code=code, says=says)
