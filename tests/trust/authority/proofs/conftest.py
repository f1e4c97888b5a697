"""A region's audit log with what it publishes, over the real routes, and a witness that has nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import httpx
import msgspec
import pytest
from tests.clocks import TurnedClock
from tests.notebook import Notebook
from tests.unowned import Unowned

from rocade.core.errors import Refused
from rocade.core.ports import AuditEntry, SystemRandom
from rocade.doors.http import Access, Listeners, build, loopback_sockets
from rocade.doors.http.proofs import HANDLERS
from rocade.fabric.database import Database
from rocade.trust.authority.audit import AuditLog, Line
from rocade.trust.authority.cosigning import FOLDER, Cosigning
from rocade.trust.authority.gate import Gate
from rocade.trust.authority.proving import Proofs
from rocade.trust.authority.region import create_region
from rocade.trust.identity.certificates import Verified, verify_leaf
from rocade.trust.identity.directory import load_root
from rocade.trust.identity.witness import Witness


class Publisher:
    """A region and its log; `fetch` reads what it publishes, as a stranger without certificate or session."""

    def __init__(self, database: Database, directory: Path) -> None:
        self.database, self.directory, self.clock = database, directory, TurnedClock()
        self.region = create_region(directory / "trust", "eu", "rocade.test", self.clock, SystemRandom())
        self.audit = directory / "trust/audit"
        self.root = load_root(directory / "trust/trust.pem")
        self.notebook = Notebook()
        proofs = Proofs(database, self.audit, self.root)
        access = Access(self._verify, lambda _: False, Gate("eu", Unowned()), self.notebook, self.clock)
        cosigning = Cosigning(database, self.audit, proofs, self.notebook, self.clock)
        self.proofs = proofs
        self.app = build(HANDLERS, {"proofs": proofs, "cosigning": cosigning}, access, version="0")
        self.client = httpx.AsyncClient()

    def _verify(self, leaf: bytes, at_us: int) -> Verified:
        return verify_leaf(leaf, self.region.issuers, at_us, ("operator",))

    async def write(self, entries: Sequence[AuditEntry]) -> None:
        """Append, and sign a head over all."""
        log = AuditLog(self.database, self.audit, self.clock)
        await log.record_all(entries)
        await log.close()

    async def rewrite(self, change: Callable[[list[AuditEntry]], object]) -> None:
        """What the keeper of the log could do who holds everything: another history, with its tree, properly signed."""
        rows = await self.database.pool.fetch("SELECT body FROM audit_entry ORDER BY position")
        entries = [msgspec.json.decode(row["body"], type=Line).entry for row in rows]
        change(entries)
        for table in ("audit_entry", "audit_head", "audit_node"):
            await self.database.pool.execute(f"DELETE FROM {table}")
        await self.database.pool.execute("UPDATE audit_tree SET size = 0, edge = '', head_size = 0, head_us = 0")
        await self.write(entries)

    async def fetch(self, path: str) -> bytes:
        answer = await self.client.get(path)
        if answer.is_error:
            raise Refused(answer.json()["code"], answer.json()["detail"])
        return answer.content

    def witness(self, name: str = "witness") -> Witness:
        """A witness whose key the region knows."""
        made = Witness(self.directory / name, self.root, self.clock)
        (self.audit / FOLDER).mkdir(exist_ok=True)
        (self.audit / FOLDER / f"{name}.pem").write_bytes((self.directory / name / "witness.pem").read_bytes())
        return made


def entry(number: int, action: str = "test.act") -> AuditEntry:
    return AuditEntry(number, "peer:127.0.0.1", action, f"certificate:{number:x}", facts={"n": number})


@pytest.fixture
async def published(database: Database, tmp_path: Path) -> AsyncIterator[Publisher]:
    publisher = Publisher(database, tmp_path)
    pages = loopback_sockets(0)
    listeners = Listeners(publisher.app, SystemRandom(), pages=pages)
    serving = asyncio.create_task(listeners.serve())
    await asyncio.wait_for(listeners.started(), 30)
    address = f"http://localhost:{pages[0].getsockname()[1]}"
    publisher.client = httpx.AsyncClient(base_url=address, timeout=30, trust_env=False)
    yield publisher
    await publisher.client.aclose()
    listeners.stop()
    await asyncio.wait_for(serving, 30)
