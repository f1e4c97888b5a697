"""Where a stranger's address may lead, and that nobody waits for a stranger's name server."""

from __future__ import annotations

import asyncio
import socket
import threading
from ipaddress import ip_address
from typing import Any

import pytest

from rocade.doors.webhooks import Poster, target_of
from rocade.doors.webhooks.posting import is_public

PATIENCE_S = 90.0


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "100.64.0.1", "169.254.169.254", "192.168.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255",
        "::1", "::", "::127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1", "fe80::1", "fc00::1", "fec0::1", "ff02::1",
        "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "2001:db8::1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_everybodys_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_an_address_of_everybody_is_public(address: str) -> None:
    assert is_public(ip_address(address))


async def test_name_servers_that_do_not_answer_hold_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    answered, asked, look_up = threading.Event(), threading.Semaphore(0), socket.getaddrinfo

    def slow(host: str, *more: Any, **named: Any) -> Any:
        if host.startswith("silent"):
            asked.release()
            answered.wait(PATIENCE_S)
            raise socket.gaierror
        return look_up(host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    poster = Poster(may_reach=lambda address: address.is_loopback)
    waiting = [
        asyncio.create_task(poster.resolve(target_of(f"https://silent-{number}.example/"))) for number in range(60)
    ]
    try:
        await asyncio.to_thread(asked.acquire)  # red: hangs, as every other thread does
        async with asyncio.timeout(PATIENCE_S / 3):
            assert await asyncio.to_thread(lambda: 7) == 7
            assert (await poster.resolve(target_of("https://localhost/"))).is_loopback
    finally:
        answered.set()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(one, OSError) for one in ended)


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://[2606:4700::1111]:8443/x", "[2606:4700::1111]:8443"),
        ("https://[2606:4700::1111]/x", "[2606:4700::1111]"),
        ("https://acme.example:8443/x", "acme.example:8443"),
        ("https://acme.example/x", "acme.example"),
    ],
)
def test_a_receiver_is_named_as_requests_name_it(url: str, authority: str) -> None:
    assert target_of(url).authority == authority
