"""Signatures of webhooks as Standard Webhooks 1.0 has them, with secrets that no table holds.

The secret of an endpoint is made from the region's webhook key, the endpoint's id and its generation: whoever reads the
database cannot sign. A new generation makes a new secret; for a day both sign, so that a receiver changes over at leisure.
Source: standard-webhooks specification, section "Verifying webhook authenticity".
"""

from __future__ import annotations

import base64
import hmac
from hashlib import sha256

OVERLAP_US = 86_400_000_000


def secret_of(master: bytes, endpoint: str, generation: int) -> str:
    """`whsec_` and 32 bytes in Base64."""
    made = hmac.new(master, f"webhook|{endpoint}|{generation}".encode(), sha256).digest()
    return "whsec_" + base64.b64encode(made).decode()


def signature(secret: str, id: str, at_s: int, body: bytes) -> str:
    """`v1,` and the HMAC of id, time and body."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    made = hmac.new(key, f"{id}.{at_s}.".encode() + body, sha256).digest()
    return "v1," + base64.b64encode(made).decode()


def headers(secrets: list[str], id: str, at_s: int, body: bytes) -> dict[str, str]:
    return {
        "webhook-id": id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(signature(one, id, at_s, body) for one in secrets),
    }
