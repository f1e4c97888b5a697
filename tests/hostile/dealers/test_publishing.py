"""Attacks on publishing through the real API: who may hand in, release and fetch; hostile files; a touch for another file.

The region, its listeners, certificates, sessions and passkey touches are those of `crossroads`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.hostile.crossroads import Crossroads

LISTS = "/v1/price-lists"
LIST = f"{LISTS}/lune-fr"
DRAFTS = f"{LIST}/drafts?effective=2026-10-01T00:00Z&mode=full"
FILE = b"ref;price;label\n" + b"".join(b"77%04d;%d.00;Part %d\n" % (at, 10 + at, at) for at in range(40))


@pytest.fixture(scope="module")
def shop(road: Crossroads) -> Crossroads:
    """A region with one list that was released once."""
    operator = road.roles["command line"].client
    made = {"brand": "lune", "country": "FR", "currency": "EUR", "kind": "retail"}
    assert operator.post(LISTS, json={"id": "lune-fr", **made}).status_code == 201
    draft = operator.post(DRAFTS, content=FILE).json()
    assert operator.post(f"{LIST}/drafts/{draft['id']}/release?accept=past").status_code == 201
    return road


def refused(answer: httpx.Response, code: str, status: int) -> None:
    assert answer.headers["content-type"] == "application/problem+json", answer.text[:200]
    assert (answer.json()["code"], answer.status_code) == (code, status)


STRANGERS = ("nobody", "owner", "support", "security", "partner", "point of sale", "provider", "monitor",
             "dealer's manager")  # fmt: skip


@pytest.mark.parametrize("role", STRANGERS)
def test_only_the_release_duty_hands_files_in_and_releases_them(shop: Crossroads, role: str) -> None:
    client = shop.roles[role].client
    for answer in (
        client.post(DRAFTS, content=FILE),
        client.post(f"{LIST}/drafts/0123/release"),
        client.post(LISTS, json={"id": "x", "brand": "lune", "country": "FR", "currency": "EUR", "kind": "net"}),
        client.post(f"{LIST}/epochs"),
    ):
        assert answer.status_code in {401, 403}
        assert answer.json()["code"] in {"access.missing", "gate.denied"}


def test_a_release_takes_a_touch_even_of_him_who_has_the_duty(shop: Crossroads) -> None:
    client = shop.roles["release"].client
    draft = client.post(DRAFTS, content=FILE.replace(b"10.00", b"10.50")).json()
    refused(client.post(f"{LIST}/drafts/{draft['id']}/release?accept=past"), "gate.touch", 403)
    refused(client.post(f"{LIST}/epochs"), "gate.touch", 403)


@pytest.mark.parametrize("role", ["point of sale", "dealer without consent", "partner", "owner", "dealer's manager"])
def test_who_is_not_entitled_does_not_even_learn_that_a_list_is_there(shop: Crossroads, role: str) -> None:
    """The site of this region has another brand; brand A's certificate on brand B's route."""
    for path in (f"{LIST}/head", f"{LIST}/letter", f"{LISTS}/no-such/head"):
        refused(shop.roles[role].client.get(path), "prices.list.unknown", 404)


HOSTILE_FILES: dict[str, tuple[bytes, str]] = {
    "entities that explode": (
        b"<!DOCTYPE l [<!ENTITY a 'aaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;'>]><l><p ref='&b;' price='1'/></l>", "prices.file.dtd",
    ),
    "an entity from the disk": (
        b"<!DOCTYPE l [<!ENTITY x SYSTEM 'file:///etc/hostname'>]><l><p><ref>&x;</ref><price>1</price></p></l>",
        "prices.file.dtd",
    ),
    "an external definition": (b"<!DOCTYPE l SYSTEM 'http://127.0.0.1:1/x.dtd'><l/>", "prices.file.dtd"),
    "a definition in UTF-16": ("<?xml version='1.0' encoding='UTF-16'?><!DOCTYPE l []><l/>".encode("utf-16"), "prices.file.dtd"),
    "deep elements": (b"<a>" * 10_000, "prices.file.form"),
    "an unknown entity": (b"<l><p ref='&undefined;' price='1'/></l>", "prices.file.form"),
    "deep arrays": (b"[" * 200_000, "prices.file.form"),
    "broken off": (FILE[:5], "prices.file.header"),
    "bytes of no encoding": (b"ref;price\n\x81\x8d\x8f;1\n", "prices.file.encoding"),
    "nothing": (b"", "prices.file.empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_a_hostile_file_is_refused_with_its_own_code_and_changes_nothing(shop: Crossroads, name: str) -> None:
    client, (content, code) = shop.roles["command line"].client, HOSTILE_FILES[name]
    before = client.get(f"{LIST}/head").content
    refused(client.post(DRAFTS, content=content), code, 413 if code.endswith("too_large") else 400)
    assert client.get(f"{LIST}/head").content == before


HOSTILE_LINES: dict[str, bytes] = {
    "two prices in one": b"770001;1,234;x\n",
    "a negative price": b"770001;-5.00;x\n",
    "an exponent": b"770001;1e9;x\n",
    "another currency": b"770001;12.50 USD;x\n",
    "a price beyond all": b"770001;99999999999999;x\n",
    "digits of another script": "770001;١٢.٥٠;x\n".encode(),
    "a reference that turns the writing around": "77\u202e01;5.00;x\n".encode(),
    "a NUL in a reference": b"77\x0001;5.00;x\n",
    "a line within a label": b'770001;5.00;"a\nb"\n',
    "a reference without end": b"7" * 9_000 + b";5.00;x\n",
    "a quotation mark that swallows the rest": b'770001;"5.00;x\n' + b"1;2;3\n" * 3_000,
    "a formula is a text like any other": b"=cmd|'/c calc'!A0;x;\"5\"\n",
}


@pytest.mark.parametrize("name", HOSTILE_LINES)
def test_a_hostile_line_is_told_and_nothing_of_its_file_can_be_released(shop: Crossroads, name: str) -> None:
    client = shop.roles["command line"].client
    answer = client.post(DRAFTS, content=b"ref;price;label\n" + HOSTILE_LINES[name])
    assert answer.status_code == 201, answer.text
    draft = answer.json()
    assert draft["report"]["problem_count"] >= 1
    refused(client.post(f"{LIST}/drafts/{draft['id']}/release?accept=past,withdrawals"), "prices.draft.invalid", 400)


def test_a_draft_of_one_list_is_no_draft_of_another(shop: Crossroads) -> None:
    client = shop.roles["command line"].client
    other = {"id": "lune-de", "brand": "lune", "country": "DE", "currency": "EUR", "kind": "retail"}
    assert client.post(LISTS, json=other).status_code == 201
    draft = client.post(DRAFTS, content=FILE.replace(b"11.00", b"11.50")).json()
    refused(client.post(f"{LISTS}/lune-de/drafts/{draft['id']}/release"), "prices.draft.unknown", 404)


@pytest.mark.parametrize(
    "name", ["0" * 64, "..%2f..%2ftrust%2fprices%2fsecret", "a" * 63, "A" * 64, "%00", "0" * 64 + "%2e"]
)
def test_a_name_that_is_no_hash_of_a_file_opens_nothing(shop: Crossroads, name: str) -> None:
    answer = shop.roles["nobody"].client.get(f"/v1/price-blobs/{name}")
    assert answer.status_code in {400, 404}, answer.text


def test_a_file_that_anybody_may_have_is_of_no_use_without_its_key(shop: Crossroads) -> None:
    head = json.loads(_payload(shop.roles["command line"].client.get(f"{LIST}/head").json()))
    for role in ("nobody", "partner"):
        content = shop.roles[role].client.get(f"/v1/price-blobs/{head['blob']['sha256']}").content
        assert len(content) == head["blob"]["size"]
        assert b"770001" not in content
        assert b"Part" not in content


CLAIMS: dict[str, Callable[[dict[str, Any]], str]] = {
    "another mode": lambda draft: f"{LIST}/drafts/{draft['id']}x/release",
    "another name": lambda draft: f"{LIST}/drafts/{'0' * 32}/release",
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_draft_is_named_by_the_hash_of_its_file_and_of_what_was_said_with_it(shop: Crossroads, claim: str) -> None:
    client = shop.roles["command line"].client
    drafts = [client.post(DRAFTS.replace("mode=full", f"mode=full&note={note}"), content=FILE + b"9;1.00;x\n").json()
              for note in ("a", "a", "b")]  # fmt: skip
    assert drafts[0]["id"] == drafts[1]["id"] != drafts[2]["id"]
    refused(client.post(CLAIMS[claim](drafts[0])), "prices.draft.unknown", 404)


def _payload(sealed: dict[str, Any]) -> bytes:
    import base64

    return base64.b64decode(sealed["payload"])
