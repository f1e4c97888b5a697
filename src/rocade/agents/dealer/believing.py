"""What a hub signed, believed only with its keys: receipts under a signed root, messages handed on, revocation lists.

    signers.json       the certificates of the hub's signing keys, as the hub handed them out, each checked against the root
    revocations.json   the newest signed revocation list; an older one is never taken
Both are kept, so that everything received can be checked again without the line. Refuses: `trust.signer.*`,
`trust.envelope.*`, `exchange.receipt.*`, `exchange.message.*`, `exchange.revocations.*`, `dealer.signers.malformed`,
`trust.certificate.revoked`.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from rocade.core.errors import Refused, RocadeError
from rocade.trust.identity import signers
from rocade.trust.identity.envelope import Envelope
from rocade.trust.identity.issuers import IssuerTable
from rocade.trust.identity.keys import write_atomically
from rocade.wire.exchange import (
    MESSAGE_TYPE,
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

_log = logging.getLogger(__name__)
SIGNER = "exchange"
"""Name of the hub's service whose certificates sign what comes down."""


class _Chains(msgspec.Struct):
    chains: list[str]


class Believing:
    """The keys of one hub and what they prove. `issuers()` is the region's issuer table of the moment."""

    def __init__(self, directory: Path, issuers: Callable[[], IssuerTable]) -> None:
        self._chains_file, self._revocations_file = directory / "signers.json", directory / "revocations.json"
        self._issuers = issuers
        self._signers: signers.Signers = {}
        self._number, self._revoked = -1, frozenset[int]()
        for file, take in ((self._chains_file, self._take_signers), (self._revocations_file, self._take_revocations)):
            try:
                take(file.read_bytes())
            except OSError:
                continue  # not there yet
            except RocadeError as error:  # of keys that have ended since, or damaged: both come anew at each connection
                _log.warning("%s of hub %s is not taken (%s)", file.name, directory.name, error.code)

    def keep_signers(self, body: bytes) -> None:
        """Take the certificates of the hub's signing keys, if each of them holds."""
        self._take_signers(body)
        write_atomically(self._chains_file, body)

    def keep_revocations(self, body: bytes) -> None:
        self._take_revocations(body)
        write_atomically(self._revocations_file, body)

    def receipts(self, body: bytes) -> tuple[int, list[tuple[Receipt, bytes]]]:
        """The cursor of a bundle, and its receipts, each with a document that proves it alone."""
        bundle = read_receipts(body)
        payload, signer = signers.unseal(ROOT_TYPE, bytes(bundle.root), self._signers)
        root = read_root(payload)
        signers.check_time(signer, root.at_us)
        found = [
            (receipt, msgspec.json.encode(Bundle(bundle.root, (leaf,))))
            for receipt, leaf in zip(proven(bundle, root), bundle.leaves, strict=True)
        ]
        return bundle.cursor, found

    def delivered(self, body: bytes) -> tuple[int, Message, bytes]:
        """The cursor of a delivery, its message, and the envelope that its sender and the hub signed."""
        delivery = read_delivery(body)
        envelope = bytes(delivery.message)
        payload, _ = signers.unseal(MESSAGE_TYPE, envelope, self._signers)
        return delivery.cursor, read_message(payload), envelope

    def refuse_revoked(self, serial: int) -> None:
        """Raises: Refused `trust.certificate.revoked`."""
        if serial in self._revoked:
            raise Refused("trust.certificate.revoked", "this certificate was revoked")

    def _take_signers(self, body: bytes) -> None:
        try:
            chains = msgspec.json.decode(body, type=_Chains).chains
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise Refused("dealer.signers.malformed", "these are no certificates of signing keys") from None
        self._signers = signers.read_signers([one.encode() for one in chains], self._issuers(), SIGNER, self._revoked)

    def _take_revocations(self, body: bytes) -> None:
        payload, _ = signers.unseal(REVOCATIONS_TYPE, body, self._signers)
        found = read_revocations(payload, self._number)
        self._number = found.number
        self._revoked = frozenset(int(serial, 16) for serial, _ in found.revoked)
        self._signers = {name: one for name, one in self._signers.items() if one.serial not in self._revoked}


def opened(envelope: bytes) -> bytes:
    """What an envelope holds, whoever signed it: for what this agent sealed or checked before, and to see what is claimed.

    Raises: Refused `trust.envelope.malformed`.
    """
    try:
        return base64.b64decode(msgspec.json.decode(envelope, type=Envelope).payload, validate=True)
    except (msgspec.MsgspecError, binascii.Error):
        raise Refused("trust.envelope.malformed", "not a signed statement") from None
