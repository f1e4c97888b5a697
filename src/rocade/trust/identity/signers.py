"""Who signs statements in the region's name: service certificates whose keys sign receipts and lists, several at a time.

A signer's key lives days and is replaced without anybody's doing; each statement names its key, and the certificates of all
keys that may still stand under something are handed out together. `read_signers` checks each chain strictly and keeps the time
its key counts for; a statement counts if its own instant lies within. Refuses: `trust.signer.unknown`, `trust.signer.time`, what
`verify_leaf` refuses, and what `envelope.unseal` refuses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from rocade.core.errors import Refused
from rocade.trust.identity import envelope
from rocade.trust.identity.certificates import verify_leaf
from rocade.trust.identity.issuers import IssuerTable, to_us
from rocade.trust.identity.keys import PublicKey, key_id


class SignerKey(msgspec.Struct, frozen=True):
    """A key that signs for the region, and when."""

    key: PublicKey
    serial: int
    not_before_us: int
    not_after_us: int


type Signers = Mapping[str, SignerKey]
"""By hex key id."""


def read_signers(chains: Iterable[bytes], issuers: IssuerTable, name: str, denied: Collection[int] = ()) -> Signers:
    """The keys of these PEM chains that belong to the service `name`; a chain that does not hold is refused.

    Raises: Refused `trust.certificate.*`, `trust.signer.unknown`.
    """
    found: dict[str, SignerKey] = {}
    for chain in chains:
        leaf, begin_us, end_us = _leaf(chain)
        verified = verify_leaf(leaf.public_bytes(Encoding.DER), issuers, begin_us + 1_000_000, ("service",))
        key = leaf.public_key()
        if verified.identity.id != name or not isinstance(key, ec.EllipticCurvePublicKey):
            raise Refused("trust.signer.unknown", f"this certificate is not that of the service {name}")
        if verified.serial not in denied:
            found[key_id(key).hex()] = SignerKey(key, verified.serial, begin_us, end_us)
    return found


def unseal(payload_type: str, content: bytes, signers: Signers) -> tuple[bytes, SignerKey]:
    """The payload of a statement and the key that signed it; `check_time` still has to be asked.

    Raises: Refused `trust.envelope.*`.
    """
    keys = {name: one.key for name, one in signers.items()}
    payload, signer = envelope.unseal_with_signer(payload_type, content, keys)
    return payload, signers[signer]


def check_time(signer: SignerKey, at_us: int) -> None:
    """A statement of this instant may stand under this key. Raises: Refused `trust.signer.time`."""
    if not signer.not_before_us <= at_us < signer.not_after_us:
        raise Refused("trust.signer.time", "the statement was not made while its key was in force")


def _leaf(chain: bytes) -> tuple[x509.Certificate, int, int]:
    """The first certificate, and the instants of its life."""
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
        return leaf, to_us(leaf.not_valid_before_utc), to_us(leaf.not_valid_after_utc)
    except (ValueError, x509.InvalidVersion):
        raise Refused("trust.signer.unknown", "this is no certificate chain") from None
