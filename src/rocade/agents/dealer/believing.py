"""What a hub signed, believed only with its keys: receipts under a signed root, messages handed on, revocation lists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from rocade.core.errors import Refused
from rocade.trust.identity.envelope import unseal
from rocade.trust.identity.keys import PublicKey, write_atomically
from rocade.wire.exchange import (
    REVOCATIONS_TYPE,
    ROOT_TYPE,
    Bundle,
    Message,
    Receipt,
    proven,
    read_delivery,
    read_message,
    read_receipts,
    read_revocations,
    read_root,
)

MESSAGE_TYPE = "application/vnd.rocade.message+json"


class Believing:
    """`keys()` gives the hub's signing keys by key id."""

    def __init__(self, directory: Path) -> None:
        self._revocations_file = directory / "revocations.json"
        self.keys: Mapping[str, PublicKey] = {}
        self._number, self._revoked = -1, frozenset[str]()

    def receipts(self, body: bytes) -> list[tuple[Receipt, bytes]]:
        """The receipts of a bundle, each with a document that proves it alone.

        Raises: Refused `exchange.receipt.*`, `trust.envelope.*`.
        """
        bundle = read_receipts(body)
        root = read_root(unseal(ROOT_TYPE, bytes(bundle.root), self.keys))
        found = proven(bundle, root)
        return [
            (receipt, msgspec.json.encode(Bundle(bundle.root, (leaf,))))
            for receipt, leaf in zip(found, bundle.leaves, strict=True)
        ]

    def delivered(self, body: bytes) -> tuple[Message, bytes]:
        """The message of a delivery. Raises: Refused `exchange.message.*`, `trust.envelope.*`."""
        delivery = read_delivery(body)
        envelope = bytes(delivery.message)
        return read_message(unseal(MESSAGE_TYPE, envelope, self.keys)), envelope

    def keep_revocations(self, body: bytes) -> None:
        """Raises: Refused `exchange.revocations.*`, `trust.envelope.*`."""
        found = read_revocations(unseal(REVOCATIONS_TYPE, body, self.keys), self._number)
        self._number, self._revoked = found.number, frozenset(serial for serial, _ in found.revoked)
        write_atomically(self._revocations_file, body)

    def refuse_revoked(self, serial: int) -> None:
        """Raises: Refused `trust.certificate.revoked`."""
        if f"{serial:x}" in self._revoked:
            raise Refused("trust.certificate.revoked", "this certificate was revoked")
