"""What a third party does with its webhooks: set an address, get and turn its secret, begin again after a pause."""

from __future__ import annotations

from rocade.core.errors import Refused
from rocade.core.ports import Audit, AuditEntry
from rocade.doors.webhooks import Poster, target_of
from rocade.services.sharing import errors, store
from rocade.services.sharing.delivery import Secrets
from rocade.services.sharing.model import Webhook
from rocade.services.sharing.service import Sharing


class Hooks:
    """Webhooks of contracts. `is_on`: whether this region sends any."""

    def __init__(
        self, sharing: Sharing, secrets: Secrets, audit: Audit, *, is_on: bool, poster: Poster | None = None
    ) -> None:
        self._sharing = sharing
        self._secrets = secrets
        self._audit = audit
        self._is_on = is_on
        self._poster = poster or Poster()
        self._pool = sharing.database.pool

    async def put(self, party: str, id: str, url: str, actor: str) -> tuple[Webhook, str]:
        """Where records go from now on, and the secret that signs them, shown this once. A new address goes on where the
        old one was.

        Raises: Refused `sharing.webhook.off`, `sharing.contract.*`, `sharing.way.missing`, `webhooks.address.*`.
        """
        if not self._is_on:
            raise errors.webhooks_off()
        await self._sharing.for_party(party, id, "webhook")
        try:
            await self._poster.resolve(target_of(url))
        except OSError:
            raise Refused("webhooks.address.unknown", "the name of the address cannot be found") from None
        now_us = self._sharing.clock.now_us()
        newest = await store.newest(self._pool)
        await store.put_webhook(self._pool, Webhook(id, url, 1, now_us, newest, 0, 0, 0, 0, 0, now_us))
        made = await self.of(id)
        await self._record(actor, "sharing.webhook.put", id)
        return made, await self._secrets.of(made)

    async def of(self, id: str) -> Webhook:
        """Raises: Refused `sharing.webhook.missing`."""
        found = await store.webhook(self._pool, id)
        if found is None:
            raise errors.webhook_missing()
        return found

    async def find(self, id: str) -> Webhook | None:
        return await store.webhook(self._pool, id)

    async def rotate(self, party: str, id: str, actor: str) -> str:
        """A new secret; the old one signs besides for a day. Raises: Refused `sharing.*`."""
        await self._sharing.for_party(party, id, "webhook")
        generation = await store.rotate(self._pool, id, self._sharing.clock.now_us())
        if generation is None:
            raise errors.webhook_missing()
        await self._record(actor, "sharing.webhook.rotate", id)
        return await self._secrets.of(await self.of(id), generation)

    async def resume(self, party: str, id: str, actor: str) -> None:
        """Try a paused address again, from where it was. Raises: Refused `sharing.*`."""
        await self._sharing.for_party(party, id, "webhook")
        if not await store.resume(self._pool, id):
            raise errors.webhook_missing()
        await self._record(actor, "sharing.webhook.resume", id)

    async def _record(self, actor: str, action: str, id: str) -> None:
        await self._audit.record(AuditEntry(self._sharing.clock.now_us(), actor, action, id))
