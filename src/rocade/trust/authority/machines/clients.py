"""Which machines may ask for access tokens, and for which purposes: registered, changed and dropped by an operator.

A change reaches every process within moments; tokens given for purposes that are taken away are refused from then on.
Refuses kinds that are no clients (`access.client.kind`), words that are no purpose (`access.client.purpose`), and the
dropping of a client that is not there (`access.client.unknown`). Every change is in the audit log before it counts.
"""

from __future__ import annotations

from collections.abc import Collection

from rocade.core.errors import Refused
from rocade.core.identifiers import Identity
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.fabric.database import Database
from rocade.trust.authority.machines import store
from rocade.trust.authority.machines.model import CLIENT_KINDS
from rocade.trust.authority.machines.store import Client


class Clients:
    """The region's register of machine clients; `purposes` are the words that consents know."""

    def __init__(self, database: Database, audit: Audit, clock: Clock, purposes: Collection[str]) -> None:
        self._database = database
        self._known = frozenset(purposes)
        self._audit = audit
        self._clock = clock

    async def put(self, identity: Identity, purposes: Collection[str], actor: str) -> Client:
        """Register a client, or give it other purposes.

        Raises: Refused `access.client.kind`, `access.client.purpose`.
        """
        if identity.kind not in CLIENT_KINDS:
            raise Refused("access.client.kind", f"clients are of kind {', '.join(CLIENT_KINDS)}")
        if not purposes or not self._known.issuperset(purposes):
            raise Refused("access.client.purpose", f"name one purpose or more of {', '.join(sorted(self._known))}")
        client = Client(identity.uri, tuple(sorted(set(purposes))), self._clock.now_us(), actor)
        facts: dict[str, str | int | float] = {"purposes": " ".join(client.purposes)}
        async with self._database.pool.acquire() as connection, connection.transaction():
            await self._audit.record(
                AuditEntry(client.added_us, actor, "access.client.put", client.identity, facts=facts)
            )
            await store.put_client(connection, client)
        return client

    async def all(self) -> list[Client]:
        async with self._database.pool.acquire() as connection:
            return await store.read_clients(connection)

    async def drop(self, identity: Identity, actor: str) -> None:
        """Take a client off the register; its tokens are refused from then on.

        Raises: Refused `access.client.unknown`.
        """
        async with self._database.pool.acquire() as connection, connection.transaction():
            if not await store.drop_client(connection, identity.uri):
                raise Refused("access.client.unknown", "this party is no registered client")
            await self._audit.record(AuditEntry(self._clock.now_us(), actor, "access.client.drop", identity.uri))
