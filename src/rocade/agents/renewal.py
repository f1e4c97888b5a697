"""Keeps an agent's certificate fresh: renews at two thirds of its life; a vehicle comes back with its birth certificate after it.

Flow: finish what a crash interrupted -> look at the certificate -> at two thirds of its life (plus a little, at random,
so that a fleet enrolled together does not renew together) renew with the old key -> on success `renewed` is called, so
that the agent connects anew. After the certificate's end only the birth certificate helps; who has none (a dealer) needs a new one-time code. While the enrolment server
is down or refuses, try again later, less and less often; nothing else stops meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from rocade.agents.link import Backoff
from rocade.core.errors import Refused, RocadeError
from rocade.core.ports import Clock, Random
from rocade.trust.identity import directory, est_client
from rocade.trust.identity.issuers import to_us

log = logging.getLogger(__name__)
_LOOK_EVERY_S = 3600.0
_ASKED_AGAIN_US = 86_400_000_000
_SPREAD = 0.05
"""Share of the certificate's life over which renewals are spread."""
_PATIENCE = Backoff(first_s=30.0, most_s=3600.0)


class Renewal:
    """Renewal of one identity directory."""

    def __init__(
        self,
        identity_dir: Path,
        server: est_client.Server,
        renewed: Callable[[], None],
        clock: Clock,
        random: Random,
        *,
        patience: Backoff = _PATIENCE,
    ) -> None:
        self._directory, self._server, self._renewed = identity_dir, server, renewed
        self._clock, self._random, self._patience = clock, random, patience
        self._delay = random.uniform() * _SPREAD
        self._asked = asyncio.Event()
        self.renewals = 0
        self.last_problem = ""

    def due_in_s(self) -> float:
        """Seconds until the certificate should be renewed; 0 or less = now."""
        leaf = directory.load_leaf(self._directory)
        life_us = to_us(leaf.not_valid_after_utc) - to_us(leaf.not_valid_before_utc)
        return (directory.renewal_due_us(leaf) + self._delay * life_us - self._clock.now_us()) / 1e6

    def ask(self) -> bool:
        """Renew now, because somebody asked for it; False for a certificate of the last day: an identity has only so many."""
        begun_us = to_us(directory.load_leaf(self._directory).not_valid_before_utc)
        if self._clock.now_us() - begun_us < _ASKED_AGAIN_US:
            return False
        self._asked.set()
        return True

    async def run(self) -> None:
        """Watch for ever; cancel it to stop."""
        directory.settle(self._directory)
        attempt = 0
        while True:
            wait_s = 0.0 if self._asked.is_set() else self.due_in_s()
            if wait_s > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._asked.wait(), min(wait_s, _LOOK_EVERY_S))
                continue
            self._asked.clear()
            try:
                await asyncio.to_thread(self._once)
            except RocadeError as error:
                self.last_problem = str(error)
                log.warning("certificate not renewed: %s", error.code)
                await asyncio.sleep(0.1 + self._patience.wait_s(attempt, self._random))
                attempt += 1
                continue
            attempt, self.last_problem = 0, ""
            self.renewals += 1
            self._renewed()

    def _once(self) -> None:
        """Renew, or return with the birth certificate when the operational one is over."""
        ends_us = to_us(directory.load_leaf(self._directory).not_valid_after_utc)
        if self._clock.now_us() < ends_us:
            est_client.renew(self._server, self._directory)
        elif not (self._directory / "birth.certificate.pem").exists():
            raise Refused("renewal.ended", "the certificate has ended; ask for a new one-time code and enrol again")
        else:
            est_client.reenrol(self._server, self._directory)
