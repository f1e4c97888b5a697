"""The page on the LAN: who gets to it, how staff sign in, what it shows with the line down, in three languages."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import string
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tests.agents.dealer.conftest import QUICK, Hub, until

from rocade.agents.dealer import catalogue
from rocade.agents.dealer.agent import Dealer
from rocade.agents.dealer.catalogue import texts
from rocade.agents.dealer.lan_identity import LanIdentity
from rocade.agents.dealer.pages.drawing import curve
from rocade.agents.dealer.settings import Lan, load
from rocade.agents.dealer.web import is_within
from rocade.core.errors import Misconfigured
from rocade.core.languages import CODES
from rocade.core.ports import SystemClock


@contextlib.asynccontextmanager
async def page_of(place: Path, networks: str = '["127.0.0.0/8"]', more: str = "") -> AsyncIterator[Dealer]:
    settings = place / "dealer.toml"
    lan = f'[lan]\naddresses = ["127.0.0.1"]\nport = -1\nnetworks = {networks}\n{more}\n'
    settings.write_text(lan + settings.read_text())
    dealer = Dealer.open(place, backoff=QUICK)
    task = asyncio.create_task(dealer.run())
    try:
        await asyncio.wait_for(dealer.is_serving.wait(), 30)
        yield dealer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        dealer.close()


def tablet(dealer: Dealer, place: Path, language: str = "en") -> httpx.AsyncClient:
    context = ssl.create_default_context(cafile=place / "lan/certificate.pem")
    origin = f"https://127.0.0.1:{dealer.ports['lan']}"
    return httpx.AsyncClient(
        base_url=origin, verify=context, headers={"origin": origin, "accept-language": language}, timeout=30
    )


def test_an_own_certificate_that_is_damaged_is_said_and_another_made_once_it_is_gone(tmp_path: Path) -> None:
    lan, chain = Lan(addresses=("127.0.0.1",)), tmp_path / "lan/certificate.pem"
    before = LanIdentity(tmp_path, lan, SystemClock()).fingerprint
    whole = ssl.PEM_cert_to_DER_cert(chain.read_text())
    for damaged in (b"", whole.replace(bytes.fromhex("0603551d11"), bytes.fromhex("0603551d51"))):
        chain.write_text(ssl.DER_cert_to_PEM_cert(damaged))
        with pytest.raises(Misconfigured, match=r"dealer\.lan\.certificate"):
            LanIdentity(tmp_path, lan, SystemClock())
    chain.unlink()
    assert LanIdentity(tmp_path, lan, SystemClock()).fingerprint != before


async def test_staff_sign_in_once_by_a_link_and_see_everything_while_the_line_is_down(hub: Hub, place: Path) -> None:
    parts = hub.publish(parts=40)
    async with page_of(place) as dealer:
        await until(dealer.prices.lists)
        parts.release({"REF-000002": 99})
        hub.push_head(parts)
        await until(lambda: dealer.prices.lists()[0]["number"] == 2)
        await hub.shut()
        dealer.staff.add("Camille", "manager")
        link = dealer.staff.make_link("Camille")
        async with tablet(dealer, place) as http:
            assert (await http.get("/prices")).headers["location"] == "/signin"
            assert "Sign in" in (await http.get(f"/signin/link/{link}")).text
            entered = await http.post("/signin/link", data={"code": link})
            assert (entered.status_code, entered.headers["location"]) == (303, "/")
            assert all(
                word in entered.headers["set-cookie"] for word in ("__Host-", "HttpOnly", "Secure", "SameSite=strict")
            )
            assert "Not connected" in (await http.get("/")).text
            assert "0.99 EUR" in (await http.get("/prices", params={"q": "REF-000002"})).text
            old = await http.get("/prices", params={"q": "REF-000002", "at": "2025-06-16T00:00"})
            assert "10.02 EUR" in old.text
            part = await http.get("/parts", params={"list": "parts", "ref": "REF-000002"})
            assert all(word in part.text for word in ("<polyline", "10.02 EUR", "0.99 EUR"))
            assert (await http.get("/changes")).text.count("REF-000002") >= 1
            assert (await http.get("/proofs", params={"list": "parts", "ref": "REF-000002"})).json()
            for path in ("/messages", "/inbox", "/errors", "/tests", "/versions", "/account"):
                shown = await http.get(path)
                assert shown.status_code == 200, path
                assert shown.headers["content-security-policy"].startswith("default-src 'none'")
            tested = await http.post("/tests")
            assert "Port of the line" in tested.text
            assert (await http.get("/messages/eu/none")).status_code == 404
            assert (await http.get("/nowhere")).status_code == 404
            await http.post("/signout")
            assert (await http.get("/")).status_code == 303
        async with tablet(dealer, place) as other:
            used = await other.post("/signin/link", data={"code": link})
            assert used.status_code == 400


async def test_guests_reach_nothing_not_even_a_certificate(hub: Hub, place: Path) -> None:
    async with page_of(place, networks='["192.0.2.0/24"]') as dealer:
        address = "127.0.0.1", dealer.ports["lan"]

        def knock() -> bytes:
            with socket.create_connection(address, 10) as guest:
                guest.settimeout(10)
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                try:
                    with context.wrap_socket(guest) as secured:
                        return secured.getpeercert(binary_form=True) or b"certificate"
                except OSError:
                    return b""

        assert await asyncio.to_thread(knock) == b""
        await until(lambda: dealer.turned_away == 1)
        assert dealer.standing().turned_away == 1


@pytest.mark.parametrize(
    ("peer", "networks", "is_in"),
    [
        ("192.168.10.7", "192.168.10.0/24", True),
        ("192.168.20.7", "192.168.10.0/24", False),
        ("::ffff:192.168.10.7", "192.168.10.0/24", True),
        ("fe80::1%eth0", "fe80::/10", True),
        ("fd00::1", "192.168.10.0/24", False),
        ("", "0.0.0.0/1", False),
    ],
)
def test_an_address_is_in_a_network_or_outside(peer: str, networks: str, is_in: bool) -> None:
    import ipaddress

    assert is_within(peer, [ipaddress.ip_network(networks)]) is is_in


@pytest.mark.parametrize(
    "wrong",
    [
        'addresses = ["0.0.0.0"]\nnetworks = ["10.0.0.0/8"]',
        'addresses = ["::"]\nnetworks = ["10.0.0.0/8"]',
        'addresses = ["127.0.0.1"]',
        'addresses = ["127.0.0.1"]\nnetworks = ["0.0.0.0/0"]',
        'addresses = ["tablet"]\nnetworks = ["10.0.0.0/8"]',
        'addresses = ["127.0.0.1"]\nnetworks = ["10.0.0.1/8"]',
        'addresses = ["127.0.0.1"]\nnetworks = ["10.0.0.0/8"]\ncertificate = "x"',
        'guests = "welcome"',
    ],
)
def test_a_page_open_to_everybody_is_not_configured(hub: Hub, place: Path, wrong: str) -> None:
    (place / "dealer.toml").write_text(f"[lan]\n{wrong}\n")
    with pytest.raises(Misconfigured) as refused:
        load(place)
    assert refused.value.code == "dealer.settings"


async def test_other_sites_and_names_are_refused(hub: Hub, place: Path) -> None:
    async with page_of(place) as dealer, tablet(dealer, place) as http:
        for headers, status in (
            ({"host": "evil.example"}, 421),
            ({"origin": "https://evil.example"}, 403),
            ({"sec-fetch-site": "cross-site"}, 403),
        ):
            assert (await http.post("/signout", headers=headers)).status_code == status


async def test_only_a_manager_consents_and_nothing_is_installed_before(hub: Hub, place: Path) -> None:
    proof = place / "applied"
    more = f'\n[update]\ncommand = ["/bin/sh", "-c", "echo $ROCADE_OFFER_VERSION $ROCADE_OFFER_SHA256 >> {proof}"]'
    async with page_of(place, more=more) as dealer:
        await until(lambda: dealer.hub().line.is_connected)
        offer = b'{"code":"update.offered","text":"faster","version":"9.9","sha256":"' + b"ab" * 32 + b'"}'
        assert await hub.send("notice", offer)
        await until(dealer.offers.list)
        for name, role in (("Sam", "seller"), ("Camille", "manager")):
            dealer.staff.add(name, role)
            async with tablet(dealer, place) as http:
                await http.post("/signin/link", data={"code": dealer.staff.make_link(name)})
                assert "9.9" in (await http.get("/versions")).text
                answer = await http.post("/versions", data={"version": "9.9", "answer": "accept"})
                assert answer.status_code == (403 if role == "seller" else 303)
            if role == "seller":
                dealer.consented()
                await until(lambda: not dealer._consent.is_set())
                assert not proof.exists()
        await until(lambda: dealer.offers.list()[0].outcome == "done")
        assert proof.read_text() == f"9.9 {'ab' * 32}\n"
        (offer_kept,) = dealer.offers.list()
        assert offer_kept.answered_by.startswith("staff:")
        dealer.consented()
        await until(lambda: not dealer._consent.is_set())
        assert proof.read_text().count("9.9") == 1


@pytest.mark.parametrize(("language", "word"), [("fr", "Se connecter"), ("zh", "登录"), ("de", "Sign in")])
async def test_the_page_speaks_the_readers_language(hub: Hub, place: Path, language: str, word: str) -> None:
    async with page_of(place) as dealer, tablet(dealer, place, language) as http:
        assert word in (await http.get("/signin")).text


def test_the_catalogues_have_the_same_keys_and_every_key_is_used() -> None:
    fields = {
        code: {
            key: {name for _, name, _, _ in string.Formatter().parse(text) if name} for key, text in texts(code).items()
        }
        for code in CODES
    }
    assert fields["fr"] == fields["en"] == fields["zh"]
    folder = Path(catalogue.__file__).parent
    sources = "".join(one.read_text("utf-8") for one in [*folder.rglob("*.html"), *folder.rglob("*.py")])
    families = {"states", "role", "pair", "test", "advice", "level", "nav", "receipt", "versions"}
    unused = [
        key
        for key in texts("en")
        if key.partition(".")[0] not in families and f"'{key}'" not in sources and f'"{key}"' not in sources
    ]
    assert unused == []
    doctor = (folder / "doctor.py").read_text("utf-8")
    said = {*re.findall(r'(?:Finding|found)\(\s*"([a-z_]+)"', doctor)}
    assert {f"test.{check}" for check in said} <= texts("en").keys()


def test_a_curve_breaks_where_the_part_was_withdrawn() -> None:
    drawn = curve([(10, 100, "EUR", 1), (20, None, "EUR", 2), (30, 300, "EUR", 3)], 40)
    assert drawn
    assert (len(drawn.paths), len(drawn.marks), drawn.least, drawn.most) == (2, 2, 100, 300)
    assert curve([(10, None, "EUR", 1)], 20) is None
