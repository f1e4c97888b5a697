"""The letter on `down/epoch`: keys of price lists' epochs, wrapped for one holder, and who signs the lists.

The keys are wrapped for each of the holder's encryption keys, because several are valid at once; the list-signing keys come
as the statements the region's root signed about them (`KEY_TYPE`), so that nothing else about the letter need be believed.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from rocade.core.errors import Refused
from rocade.wire.prices.marks import SealedMarks
from rocade.wire.prices.sealing import unwrap_key


class WrappedKey(msgspec.Struct, frozen=True, rename={"list_id": "list"}):
    """One epoch's key of one list, once for each of the holder's encryption keys."""

    list_id: str
    epoch: int
    wrapped: tuple[bytes, ...]


class EpochLetter(msgspec.Struct, frozen=True):
    """What a holder gets; `signers` are envelopes, each a JSON text; `marks` are for his exports (`marks`)."""

    keys: tuple[WrappedKey, ...] = ()
    signers: tuple[str, ...] = ()
    marks: tuple[SealedMarks, ...] = ()


def write_letter(letter: EpochLetter) -> bytes:
    return msgspec.json.encode(letter)


def read_letter(content: bytes) -> EpochLetter:
    """Raises: Refused `prices.epoch.malformed`."""
    try:
        return msgspec.json.decode(content, type=EpochLetter)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Refused("prices.epoch.malformed", "this is no letter with keys of price lists") from None


def open_key(wrapped: WrappedKey, privates: Sequence[X25519PrivateKey]) -> bytes:
    """The epoch's key, by whichever of these it was wrapped for. Raises: Refused `prices.epoch.wrapped`."""
    for private in privates:
        for one in wrapped.wrapped:
            try:
                return unwrap_key(one, private, wrapped.list_id, wrapped.epoch)
            except Refused:
                continue
    raise Refused("prices.epoch.wrapped", "this key of a price list was not wrapped for any key of ours")
