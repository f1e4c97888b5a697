"""The console's public address: our own TLS or a proxy in front; its own name and its own pages alone."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from litestar import Request, post

from rocade.core.errors import Misconfigured
from rocade.core.ports import SystemRandom
from rocade.doors.http import Listeners, build, does, loopback_sockets, tcp_socket
from rocade.doors.http.access import peer_of
from rocade.doors.http.sessions import IS_PUBLIC, browser_cookie, no_cookie, secret_of, session_cookie
from rocade.trust.authority.gate import acts
from rocade.trust.authority.people import Site
from rocade.trust.identity import tls

HOST = "rocade.example.org"


@post("/peer", opt=does(acts.CHECK_HEALTH), status_code=200)
async def say_peer(request: Request[Any, Any, Any]) -> str:
    return peer_of(request.scope)


@asynccontextmanager
async def served(stand: Any) -> AsyncIterator[tuple[str, str]]:
    """Addresses of the loopback listener (where a proxy forwards to) and of the public one."""
    app = build([say_peer], {}, stand.app.state.access, version="0")
    pages, public = loopback_sockets(0), tcp_socket("127.0.0.1", 0)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    stand.server_context("public")
    context.load_cert_chain(
        stand.directory / "server-public" / "certificate.pem", stand.directory / "server-public" / "key.pem"
    )
    listeners = Listeners(app, SystemRandom(), pages=pages, public=[public], public_tls=context, public_host=HOST)
    serving = asyncio.create_task(listeners.serve())
    await asyncio.wait_for(listeners.started(), 30)
    yield f"http://localhost:{pages[0].getsockname()[1]}", f"https://localhost:{public.getsockname()[1]}"
    listeners.stop()
    await asyncio.wait_for(serving, 30)


CASES = [
    ("public", HOST, f"https://{HOST}", {}, 200),
    ("public", HOST, "https://evil.example", {}, 403),
    ("public", HOST, "", {}, 403),
    ("public", HOST, f"https://{HOST}", {"sec-fetch-site": "cross-site"}, 403),
    ("public", "localhost", "https://localhost", {}, 421),
    ("public", "127.0.0.1", "https://127.0.0.1", {}, 421),
    ("loopback", HOST, f"https://{HOST}", {}, 200),
    ("loopback", HOST, f"http://{HOST}", {}, 403),
    ("loopback", "localhost", "http://localhost", {}, 200),
    ("loopback", "other.example.org", "https://other.example.org", {}, 421),
]


async def test_only_the_public_name_and_its_own_pages_are_answered(stand: Any) -> None:
    trusted = tls.client_context(stand.identity("operator", "alice"), anonymous=True)
    async with served(stand) as (loopback, public), httpx.AsyncClient(verify=trusted, trust_env=False) as client:
        for listener, host, origin, more, status in CASES:
            address = public if listener == "public" else loopback
            headers = {"host": host, **({"origin": origin} if origin else {}), **more}
            answer = await client.post(f"{address}/peer", headers=headers)
            assert answer.status_code == status, (listener, host, origin, more, answer.text)


async def test_behind_a_proxy_the_peer_is_whom_the_proxy_saw_and_only_there(stand: Any) -> None:
    trusted = tls.client_context(stand.identity("operator", "alice"), anonymous=True)
    forwarded = {"x-forwarded-for": "203.0.113.9, 198.51.100.7"}
    async with served(stand) as (loopback, public), httpx.AsyncClient(verify=trusted, trust_env=False) as client:
        by_proxy = await client.post(
            f"{loopback}/peer", headers={"host": HOST, "origin": f"https://{HOST}", **forwarded}
        )
        direct = await client.post(f"{public}/peer", headers={"host": HOST, "origin": f"https://{HOST}", **forwarded})
        local = await client.post(
            f"{loopback}/peer", headers={"host": "localhost", "origin": "http://localhost", **forwarded}
        )
    assert by_proxy.text == "peer:198.51.100.7"
    assert (direct.text, local.text) == ("peer:127.0.0.1", "peer:127.0.0.1")


async def test_the_public_name_is_kept_to_https_and_localhost_is_not(stand: Any) -> None:
    trusted = tls.client_context(stand.identity("operator", "alice"), anonymous=True)
    async with served(stand) as (loopback, public), httpx.AsyncClient(verify=trusted, trust_env=False) as client:
        far = await client.get(f"{public}/nothing", headers={"host": HOST})
        near = await client.get(f"{loopback}/nothing", headers={"host": "localhost"})
    assert far.headers["strict-transport-security"] == "max-age=63072000; includeSubDomains"
    assert "strict-transport-security" not in near.headers


@pytest.mark.parametrize(
    ("cookie", "scope", "found"),
    [
        ("__Host-rocade_session=a", {IS_PUBLIC: True}, "a"),
        ("rocade_session=a", {IS_PUBLIC: True}, ""),
        ("rocade_session=b; __Host-rocade_session=a", {IS_PUBLIC: True}, "a"),
        ("rocade_session=a", {}, "a"),
        ("__Host-rocade_session=a", {}, "a"),
    ],
)
def test_at_the_public_name_only_cookies_of_this_very_host_count(
    cookie: str, scope: dict[str, Any], found: str
) -> None:
    assert secret_of({"headers": [(b"cookie", cookie.encode())], **scope}) == found


def test_cookies_of_a_public_address_carry_the_prefix_and_are_for_https_alone() -> None:
    made = [make("x", Site.at("https://rocade.example.org")) for make in (session_cookie, browser_cookie)]
    made.append(no_cookie(Site.at("https://rocade.example.org")))
    for cookie in made:
        assert cookie.key.startswith("__Host-rocade_")
        assert (cookie.secure, cookie.httponly, cookie.path, cookie.domain) == (True, True, "/", None)
    assert session_cookie("x", Site.at("http://localhost:8080")).key == "rocade_session"


def test_a_public_address_without_its_certificate_is_refused_at_start(stand: Any) -> None:
    with pytest.raises(Misconfigured, match=r"http\.tls\.public"):
        Listeners(stand.app, SystemRandom(), public=[tcp_socket("127.0.0.1", 0)])
