"""Newer versions: offered by the hub, applied after the dealer's consent and never before.

Flow: `take` keeps an offer -> somebody at the dealer's says yes or no, on the page or with `rocade dealer update` (who and when
are kept) -> `apply_accepted` runs the configured command once, with the version and the SHA-256 in its environment, and keeps
what came of it. A refused or unanswered offer is never run; a command that fails is not run again without a new consent.
Refuses: `dealer.offer.unknown`, `dealer.offer.answered`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence

import msgspec

from rocade.agents.dealer.store import Store
from rocade.core.errors import Refused

log = logging.getLogger(__name__)
_LIMIT_S = 900.0


class Offer(msgspec.Struct, frozen=True):
    """`answer`: "", "accepted" or "refused"; `outcome`: "", "done" or what went wrong."""

    version: str
    sha256: str
    text: str
    offered_us: int
    answer: str
    answered_by: str
    answered_us: int
    applied_us: int
    outcome: str


class Offers:
    def __init__(self, store: Store) -> None:
        self._store = store

    def take(self, version: str, sha256: str, text: str) -> None:
        """Keep an offer; the same version again changes nothing that was answered."""
        if not version or len(version) > 64 or len(sha256) != 64:
            return
        with self._store.write() as write:
            write(
                "INSERT INTO offer (version, sha256, text, offered_us) VALUES (?,?,?,?) ON CONFLICT (version) DO UPDATE"
                " SET sha256 = excluded.sha256, text = excluded.text, answer = '', applied_us = 0, outcome = ''"
                " WHERE sha256 <> excluded.sha256",
                version, sha256, text[:2000], self._store.clock.now_us(),
            )  # fmt: skip

    def list(self) -> list[Offer]:
        """Newest first."""
        rows = self._store.rows(
            "SELECT version, sha256, text, offered_us, answer, answered_by, answered_us, applied_us, outcome FROM offer"
            " ORDER BY offered_us DESC"
        )
        return [Offer(*row) for row in rows]

    def answer(self, version: str, by: str, *, accept: bool) -> None:
        """Record consent or refusal. Raises: Refused `dealer.offer.unknown`, `dealer.offer.answered`."""
        with self._store.write() as write:
            row = write("SELECT answer, applied_us FROM offer WHERE version = ?", version)
            if not row:
                raise Refused("dealer.offer.unknown", "no such version was offered")
            if row[0][1]:
                raise Refused("dealer.offer.answered", "this version was applied already")
            write(
                "UPDATE offer SET answer = ?, answered_by = ?, answered_us = ?, outcome = '' WHERE version = ?",
                "accepted" if accept else "refused", by, self._store.clock.now_us(), version,
            )  # fmt: skip

    async def apply_accepted(self, command: Sequence[str]) -> Offer | None:
        """Run the command for an offer with consent, if there is one; the offer as it is then."""
        waiting = [offer for offer in self.list() if offer.answer == "accepted" and not offer.applied_us]
        if not waiting or not command:
            return None
        offer = waiting[0]
        self._keep(offer.version, "begun")
        outcome = await _run(command, offer)
        self._keep(offer.version, outcome)
        log.info("version %s: %s", offer.version, outcome)
        return next(one for one in self.list() if one.version == offer.version)

    def _keep(self, version: str, outcome: str) -> None:
        with self._store.write() as write:
            now_us = self._store.clock.now_us()
            write("UPDATE offer SET applied_us = ?, outcome = ? WHERE version = ?", now_us, outcome, version)


async def _run(command: Sequence[str], offer: Offer) -> str:
    environment = {**os.environ, "ROCADE_OFFER_VERSION": offer.version, "ROCADE_OFFER_SHA256": offer.sha256}
    try:
        program = await asyncio.create_subprocess_exec(
            *command, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        status = await asyncio.wait_for(program.wait(), _LIMIT_S)
    except (OSError, TimeoutError) as error:
        return f"failed: {type(error).__name__}"
    return "done" if status == 0 else f"failed: exit status {status}"
