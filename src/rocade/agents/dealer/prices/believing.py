"""What of the hub's words on disk is believed: a head that a signer of the region's root signed, and what is still what was written.

A signer whose statement is damaged is passed over: what it signed is asked for again like a key that is missing, and the hub's next letter
brings it. A list's head stands twice; either serves. Logged, and told by `dealer doctor`; nothing of this stops the agent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from rocade.agents.dealer.prices import heads
from rocade.agents.dealer.prices.ledger import Ledger
from rocade.core.errors import Refused, Unavailable
from rocade.trust.identity.keys import PublicKey
from rocade.wire.prices import Head


class Signers(NamedTuple):
    """List-signing keys by key id, the statements that prove them, and whether every statement that is kept does."""

    keys: dict[str, PublicKey]
    proofs: list[bytes]
    are_whole: bool


class Believing:
    """`root` gives the public key of the hub's region."""

    def __init__(self, ledger: Ledger, root: Callable[[], PublicKey]) -> None:
        self._ledger, self._root = ledger, root

    def signers(self) -> Signers:
        root, kept, keys, proofs = self._root(), self._ledger.signers(), dict[str, PublicKey](), list[bytes]()
        for statement in kept:
            with contextlib.suppress(Refused):
                name, keys[name] = heads.open_signer(statement, root)
                proofs.append(statement)
        return Signers(keys, proofs, len(proofs) == len(kept))

    def open(self, envelope: bytes) -> Head:
        """What a head says.

        Raises: as `heads.open_head`; Unavailable `prices.epoch.missing` where its signer may be one whose statement is damaged.
        """
        signers = self.signers()
        try:
            return heads.open_head(envelope, signers.keys)
        except Refused as error:
            if signers.are_whole or error.code != "prices.head.signer":
                raise
        raise Unavailable("prices.epoch.missing", "a kept signer is damaged; the hub's next letter replaces it")

    def first(self, envelopes: Iterable[bytes]) -> tuple[Head, bytes] | None:
        """The first of these heads that can be believed, with its envelope."""
        for envelope in envelopes:
            with contextlib.suppress(Refused, Unavailable):
                return self.open(envelope), envelope
        return None

    def conflicts(self) -> list[tuple[str, int, bytes, int]]:
        """List, number, envelope and when it was seen, of each that still proves what it says."""
        whole, _ = self._ledger.conflicts()
        found = [(self.first([envelope]), seen_us) for _, _, envelope, seen_us in whole]
        return [(one[0].list_id, one[0].seq, one[1], seen_us) for one, seen_us in found if one]

    def is_whole(self) -> bool:
        """Whether signers, keys, evidence and the instants of applying are what was written."""
        if any(one.applied_us is None for one in self._ledger.lists()):
            return False
        rows, are_whole = self._ledger.conflicts()
        told = [row[:3] for row in self.conflicts()] == [row[:3] for row in rows]
        return are_whole and told and self._ledger.epochs()[1] and self.signers().are_whole
