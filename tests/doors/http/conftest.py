"""A region's certificates and an application over real mutual TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from litestar import Litestar, Request, get
from tests.notebook import Notebook
from tests.unowned import Unowned

from rocade.core.ports import SystemClock, SystemRandom
from rocade.doors.http import Access, Listeners, build, caller_of, does, tcp_socket
from rocade.trust.authority.gate import Gate, acts
from rocade.trust.authority.region import Region, create_region
from rocade.trust.identity import tls
from rocade.trust.identity.certificates import Verified, verify_leaf

CLOCK = SystemClock()


@get("/who", opt=does(acts.LIST_SIGNALS))
async def who(request: Request) -> str:
    return caller_of(request).id


@get("/operators", opt=does(acts.READ_STATUS))
async def operators() -> str:
    return "welcome"


@get("/open", opt=does(acts.CHECK_HEALTH))
async def everybody() -> str:
    return "open"


@get("/forgotten")
async def forgotten() -> str:
    return "no act named"


class Stand:
    """An application with three routes, one of them forgotten by whoever names acts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.region: Region = create_region(directory / "region", "eu", "test.rocade", CLOCK, SystemRandom())
        self.audit = Notebook()
        self.revoked: set[int] = set()
        self.gate = Gate("eu", Unowned())
        access = Access(self._verify, self.revoked.__contains__, self.gate, self.audit, CLOCK)
        self.app: Litestar = build([who, operators, everybody, forgotten], {}, access, version="0")
        self.context = self.server_context("api")

    def _verify(self, leaf: bytes, at_us: int) -> Verified:
        return verify_leaf(leaf, self.region.issuers, at_us, ("operator", "partner", "vehicle", "service"))

    def server_context(self, name: str):  # noqa: ANN201 - an SSLContext
        out = self.directory / f"server-{name}"
        self.region.credential(self.region.identity("service", name), hosts=["localhost", "127.0.0.1"]).write(out)
        return tls.server_context(out / "certificate.pem", out / "key.pem", out / "trust.pem")

    def identity(self, kind: str, name: str, life_us: int | None = None) -> Path:
        out = self.directory / f"{kind}-{name}"
        self.region.credential(self.region.identity(kind, name), life_us=life_us).write(out)
        return out

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[tuple[Listeners, str]]:
        socket = tcp_socket("127.0.0.1", 0)
        listeners = Listeners(self.app, SystemRandom(), api=[socket], tls=self.context)
        serving = asyncio.create_task(listeners.serve())
        await asyncio.wait_for(listeners.started(), 30)
        yield listeners, f"https://localhost:{socket.getsockname()[1]}"
        listeners.stop()
        await asyncio.wait_for(serving, 30)

    def client(self, address: str, directory: Path) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=address, verify=tls.client_context(directory), timeout=30, trust_env=False)


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)
