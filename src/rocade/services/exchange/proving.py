"""Receipts as proof files, which `rocade verify` accepts or refuses without the hub, with the region's root certificate alone.

A file holds the receipt, its path, the signed root, and the certificate of the key that signed it with the signed issuer table.
"""

from __future__ import annotations

import msgspec

from rocade.services.exchange.service import Exchange
from rocade.trust.identity.envelope import Envelope
from rocade.trust.identity.proof_files import inclusion_proof
from rocade.wire.exchange import Tree


async def proofs(exchange: Exchange, number: int, issuers: bytes) -> list[bytes]:
    """The proof files of a message's receipts, RECEIVED first. `issuers`: the region's sealed issuer table.

    Raises: Refused `exchange.message.unknown`.
    """
    made = []
    for receipt, index, signed, leaves in await exchange.receipts(number):
        key = msgspec.json.decode(signed, type=Envelope).signatures[0].keyid
        chain = (await exchange.chain(bytes.fromhex(key))).decode()
        path = Tree(leaves).path(index)
        made.append(inclusion_proof("receipt", receipt, index, path, signed, chains=[chain], issuers=issuers))
    return made
