"""The peer of the messages benchmark: the same door and the same checks, one transaction and one signed receipt a message.

Written to win within its design: prepared insert, 64 transactions at once over 16 connections (PostgreSQL gathers their flushes),
keys cached, receipts sent as soon as their transaction is durable. `python dealer_peer.py HOME DATABASE_URL PORT`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import uvloop

from rocade.core.errors import Refused
from rocade.core.ports import SystemClock
from rocade.doors.mqtt import Client, Door, Publish, Settings, Verdict
from rocade.fabric.database import Database
from rocade.services.exchange import TAILS, KeyBook, Line
from rocade.services.exchange.opening import unseal
from rocade.trust.authority import AuditLog
from rocade.trust.identity.certificates import verify_leaf
from rocade.trust.identity.directory import load_issuers, load_key
from rocade.trust.identity.envelope import seal
from rocade.trust.identity.tls import server_context
from rocade.wire.exchange import MESSAGE_TYPE, ROOT_TYPE, Receipt, read_message
from rocade.wire.exchange.receipts import Bundle, Leaf, encode_receipt

CLOCK = SystemClock()


class Plain:
    """One insert, one signature, one receipt at a time for each message."""

    def __init__(self, database: Database, key: Any, line: Line) -> None:
        self.pool, self.key, self.line = database.pool, key, line
        self.keys = KeyBook(database, CLOCK)
        self.free = asyncio.Semaphore(64)

    async def admit(self, client: Client) -> object:
        return client.identity, await self.keys.keys(client.identity.uri)

    async def leave(self, _context: object) -> None:
        pass

    async def accept(self, publishes: Sequence[Publish]) -> list[Verdict]:
        return list(await asyncio.gather(*(self._one(publish) for publish in publishes)))

    async def _one(self, publish: Publish) -> Verdict:
        identity, keys = publish.context
        try:
            payload, _ = unseal(MESSAGE_TYPE, publish.body, keys)
            message = read_message(payload)
        except Refused as refusal:
            return refusal
        receipt = encode_receipt(
            Receipt(
                message_id=message.id, message_sha256=sha256(payload).hexdigest(), sender=identity.uri, kind="received",
                at_us=CLOCK.now_us(), hub="peer",
            )
        )  # fmt: skip
        signed = seal(ROOT_TYPE, receipt, self.key)
        async with self.free:
            await self.pool.execute(
                "INSERT INTO peer_message VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
                identity.uri, message.id, publish.body, receipt, signed,
            )  # fmt: skip
        body = msgspec.json.encode(Bundle(msgspec.Raw(signed), (Leaf(receipt, 0, b""),)))
        self.line.send(identity.id, "receipt", body)
        return None


async def serve(home: Path, url: str, port: int) -> None:
    setup = await asyncpg.connect(url)
    await setup.execute(
        "CREATE TABLE IF NOT EXISTS peer_message (sender text, id text, envelope bytea, receipt bytea, signed bytea,"
        " PRIMARY KEY (sender, id))"
    )
    await setup.close()
    database = await Database.connect(url, max_connections=16)
    audit, server, issuers = (
        AuditLog(database, home / "trust/audit", CLOCK),
        home / "server",
        load_issuers(home / "trust"),
    )
    line = Line()
    door = Door(
        Plain(database, load_key(server), line),
        server_context(server / "certificate.pem", server / "key.pem", server / "trust.pem"),
        lambda leaf: verify_leaf(leaf, issuers, CLOCK.now_us(), ("dealer",)),
        audit, tails=TAILS, settings=Settings(tick_max_ms=20, max_down_in_flight=64),
    )  # fmt: skip
    line.over(door)
    await door.open("127.0.0.1", port)
    print("ready", flush=True)
    await door.failed()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
