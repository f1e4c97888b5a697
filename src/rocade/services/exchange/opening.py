"""Opening what parties sealed: the envelope's signature against the keys of the one party on the line, then the content.

Flow: envelope -> its key among the party's keys -> signature over type and bytes -> content -> its time. Nothing of the content
is looked at before the signature holds. Refuses: `trust.envelope.*`, `exchange.key.*`, `exchange.sender.*`, `exchange.message.*`,
`dealers.provider.signs`, and whatever the address cannot have (`exchange.route.*`), which is recorded with the message.
"""

from __future__ import annotations

from hashlib import sha256

import msgspec

from rocade.core.errors import Refused
from rocade.core.identifiers import Identity
from rocade.services.exchange import errors
from rocade.services.exchange.keyring import PartyKey, PartyKeys, check_time, signer_of
from rocade.services.exchange.model import NOBODY, Offer, party_of
from rocade.services.exchange.routing import RouteTable
from rocade.trust.identity import envelope
from rocade.wire.exchange import MESSAGE_TYPE, UNREADABLE, read_message
from rocade.wire.exchange.messages import VOID

_ENVELOPE = msgspec.json.Decoder(envelope.Envelope).decode


def unseal(payload_type: str, content: bytes, keys: PartyKeys) -> tuple[bytes, PartyKey]:
    """The payload and the key that signed it; its time is not checked yet.

    Raises: Refused `trust.envelope.*`, `exchange.key.unknown`.
    """
    try:
        signatures = _ENVELOPE(content).signatures
    except UNREADABLE:
        raise Refused("trust.envelope.malformed", "not a signed statement") from None
    key = signer_of([one.keyid for one in signatures], keys)
    return envelope.unseal(payload_type, content, {key.key_id.hex(): key.key}), key


def open_message(content: bytes, identity: Identity, keys: PartyKeys, routes: RouteTable, now_us: int) -> Offer:
    """A message whose signature counts, with its destination or the reason why it has none.

    Raises: Refused as above: nobody has said this.
    """
    payload, key = unseal(MESSAGE_TYPE, content, keys)
    message = read_message(payload)
    check_time(key, message.created_us, now_us)
    if message.sender != identity.uri:
        raise errors.foreign_sender()
    party = party_of(identity)
    target, refusal = "", None
    try:
        target = NOBODY if message.content_type == VOID else routes.resolve(party, message.recipient)
    except Refused as why:
        refusal = why
    return Offer(party, message, sha256(payload).digest(), content, key.key_id, target, refusal)
