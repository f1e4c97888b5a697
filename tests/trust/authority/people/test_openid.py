"""ID tokens: one that holds, and every way in which one does not."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from rocade.core.errors import Refused
from rocade.trust.authority.people.openid import TOKEN_LIMIT_BYTES, verify

NOW_S = 1_800_000_000
ISSUER, CLIENT, NONCE = "https://id.example.org", "rocade", "a nonce"
KEY = ECKey.generate_key("P-256", {"kid": "one"}, private=True)
OTHER = ECKey.generate_key("P-256", {"kid": "one"}, private=True)
RSA = RSAKey.generate_key(2048, {"kid": "two"}, private=True)
SHOWN = KeySet([KEY, RSA])
TRUE = {"iss": ISSUER, "aud": CLIENT, "sub": "ada", "nonce": NONCE, "iat": NOW_S - 5, "exp": NOW_S + 300}


def made(claims: dict[str, Any], key: Any = KEY, **header: Any) -> str:
    head = {"alg": "ES256", "kid": key.kid, **header}
    return jwt.encode(head, claims, key, algorithms=[head["alg"]])


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in TRUE.items() if key != name}


def check(token: str) -> str:
    return verify(token, SHOWN, ISSUER, CLIENT, NONCE, NOW_S * 1_000_000)


@pytest.mark.parametrize(
    "token",
    [
        made(TRUE),
        made(TRUE, RSA, alg="RS256"),
        made(TRUE, RSA, alg="PS256"),
        made({**TRUE, "aud": [CLIENT, "x"], "azp": CLIENT}),
    ],
)
def test_a_token_that_holds_names_its_subject(token: str) -> None:
    assert check(token) == "ada"


def none_signed() -> str:
    return "eyJhbGciOiJub25lIn0." + made(TRUE).split(".")[1] + "."


def by_public_key() -> str:
    """The old confusion: what everybody knows, used as a shared secret. Made by hand, the library refuses to."""
    said = [json.dumps(part).encode() for part in ({"alg": "HS256", "kid": "one"}, TRUE)]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in said)
    proof = hmac.digest(KEY.as_pem(private=False), signed, "sha256")
    return (signed + b"." + base64.urlsafe_b64encode(proof).rstrip(b"=")).decode()


def altered() -> str:
    head, _, signature = made(TRUE).split(".")
    return ".".join((head, made({**TRUE, "sub": "eve"}).split(".")[1], signature))


FALSE: dict[str, tuple[Callable[[], str], str]] = {
    "another issuer": (lambda: made({**TRUE, "iss": "https://id.example.com"}), "issuer"),
    "no issuer": (lambda: made(without("iss")), "issuer"),
    "for somebody else": (lambda: made({**TRUE, "aud": "other"}), "audience"),
    "for many, handed to another": (lambda: made({**TRUE, "aud": [CLIENT, "x"], "azp": "x"}), "audience"),
    "for many, handed to nobody": (lambda: made({**TRUE, "aud": [CLIENT, "x"]}), "audience"),
    "for us, handed to another": (lambda: made({**TRUE, "azp": "x"}), "audience"),
    "another nonce": (lambda: made({**TRUE, "nonce": "replayed"}), "nonce"),
    "no nonce": (lambda: made(without("nonce")), "nonce"),
    "ended": (lambda: made({**TRUE, "exp": NOW_S - 61}), "expired"),
    "made long ago": (lambda: made({**TRUE, "iat": NOW_S - 601}), "expired"),
    "made tomorrow": (lambda: made({**TRUE, "iat": NOW_S + 86_400}), "expired"),
    "no end": (lambda: made(without("exp")), "malformed"),
    "an end in words": (lambda: made({**TRUE, "iat": "today"}), "malformed"),
    "names nobody": (lambda: made({**TRUE, "sub": ""}), "malformed"),
    "names a number": (lambda: made({**TRUE, "sub": 7}), "malformed"),
    "signed by another key of the same name": (lambda: made(TRUE, OTHER), "signature"),
    "claims changed": (altered, "signature"),
    "signed by nobody": (none_signed, "algorithm"),
    "signed with the public key as a secret": (by_public_key, "algorithm"),
    "a key that is not shown": (lambda: made(TRUE, ECKey.generate_key("P-256", {"kid": "three"}, private=True)), "key"),
    "no token": (lambda: "x.y.z", "malformed"),
    "nothing": (lambda: "", "malformed"),
    "too large": (lambda: "x" * (TOKEN_LIMIT_BYTES + 1), "malformed"),
}


@pytest.mark.parametrize("how", FALSE)
def test_a_token_that_does_not_hold_is_refused(how: str) -> None:
    make, code = FALSE[how]
    with pytest.raises(Refused) as refused:
        check(make())
    assert refused.value.code == f"people.openid.{code}"
