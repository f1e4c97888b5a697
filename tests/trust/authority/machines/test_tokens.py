"""Access tokens: what they prove, and every way of showing a wrong one."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws
from joserfc.jwk import ECKey
from tests.clocks import TurnedClock
from tests.notebook import Notebook
from tests.trust.authority.machines.conftest import ACME, OPERATOR, PLACE, Opener

from rocade.core.errors import Refused
from rocade.core.identifiers import Identity
from rocade.trust.authority.machines import Clients, Place, Tokens, thumbprint
from rocade.trust.authority.machines import tokens as tokens_module

OWN = thumbprint(b"the partner's certificate")
OTHER = thumbprint(b"somebody else's certificate")


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def opened(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, unchecked."""
    header, claims, _ = token.split(".")
    return tuple(json.loads(base64.urlsafe_b64decode(one + "==")) for one in (header, claims))  # type: ignore[return-value]


def code_of(tokens: Tokens, token: str, thumb: str = OWN, now_us: int | None = None) -> str:
    with pytest.raises(Refused) as refused:
        tokens.check(token, thumb, tokens._clock.now_us() if now_us is None else now_us)
    return refused.value.code


async def test_a_token_says_who_and_for_which_purposes(tokens: Tokens, clock: TurnedClock, audit: Notebook) -> None:
    token = await tokens.issue(ACME, OWN, ["insurance"])
    principal = tokens.check(token, OWN, clock.now_us())
    assert (principal.kind, principal.id, principal.recipient) == ("partner", ACME.uri, "partner:acme")
    assert (principal.means, principal.purposes, principal.region) == ("token", {"insurance"}, "eu")
    header, claims = opened(token)
    assert (header["typ"], header["alg"], header["kid"]) == ("at+jwt", "ES256", tokens.published()["keys"][0]["kid"])
    assert claims["exp"] - claims["iat"] == 300
    assert claims["aud"] == "spiffe://test.rocade/eu"
    assert claims["iss"] == PLACE.url
    noted = audit.entries[-1]
    assert (noted.action, noted.actor, noted.facts["token"]) == ("access.token.issue", ACME.uri, claims["jti"])


async def test_no_purpose_named_means_all_that_are_registered(tokens: Tokens, clock: TurnedClock) -> None:
    token = await tokens.issue(ACME, OWN, [])
    assert tokens.check(token, OWN, clock.now_us()).purposes == {"insurance", "research"}
    own = tokens.check(await tokens.issue(OPERATOR, OWN, []), OWN, clock.now_us())
    assert (own.recipient, own.purposes) == ("operator", {"operation", "support"})


@pytest.mark.parametrize(
    ("identity", "purposes", "code"),
    [
        (ACME, ["insurance", "traffic"], "access.token.purpose"),
        (OPERATOR, ["insurance"], "access.token.purpose"),
        (Identity("test.rocade", "eu", "partner", "nobody"), [], "access.token.client"),
        (Identity("test.rocade", "eu", "vehicle", "VF1"), [], "access.token.client"),
        (Identity("test.rocade", "cn", "partner", "acme"), ["insurance"], "access.token.client"),
    ],
)
async def test_only_registered_purposes_are_given(
    tokens: Tokens, identity: Identity, purposes: list[str], code: str
) -> None:
    with pytest.raises(Refused) as refused:
        await tokens.issue(identity, OWN, purposes)
    assert refused.value.code == code


async def test_a_program_that_asks_for_a_token_with_each_request_is_stopped(tokens: Tokens, clock: TurnedClock) -> None:
    clock.hold()  # all within one minute
    given = 0
    with pytest.raises(Refused) as refused:
        for _ in range(tokens_module.ISSUED_A_MINUTE + 1):
            await tokens.issue(ACME, OWN, [])
            given += 1
    assert (refused.value.code, given) == ("quota.tokens", tokens_module.ISSUED_A_MINUTE)
    assert await tokens.issue(OPERATOR, OWN, []), "another party is not disturbed"
    clock.ahead_us += 60_000_000
    assert await tokens.issue(ACME, OWN, [])


def forged(change: Callable[[dict[str, Any], dict[str, Any]], object], key: ECKey | None = None) -> Callable[..., str]:
    """A token with header and claims changed, signed by `key` or by the region's own key."""

    def make(tokens: Tokens, token: str) -> str:
        header, claims = opened(token)
        change(header, claims)
        signer = key or tokens._ring.keys[0].pair
        registry = jws.JWSRegistry(algorithms=["ES256"], strict_check_header=False)
        return jws.serialize_compact(header, json.dumps(claims), signer, registry=registry)

    return make


def unsigned(tokens: Tokens, token: str) -> str:
    return f"{part({'alg': 'none', 'typ': 'at+jwt'})}.{token.split('.')[1]}."


def signed_with_the_public_key_as_a_secret(tokens: Tokens, token: str) -> str:
    """The classical confusion: HS256 over the public key's PEM, which everybody may read."""
    pair = tokens._ring.keys[0].pair
    pem = pair.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = f"{part({'alg': 'HS256', 'typ': 'at+jwt', 'kid': pair.thumbprint()})}.{token.split('.')[1]}"
    mac = base64.urlsafe_b64encode(hmac.digest(pem, head.encode(), sha256)).rstrip(b"=").decode()
    return f"{head}.{mac}"


def altered(tokens: Tokens, token: str) -> str:
    header, _, signature = token.split(".")
    return f"{header}.{part({**opened(token)[1], 'sub': OPERATOR.uri})}.{signature}"


def claims_with(**changes: object) -> Callable[..., str]:
    return forged(lambda _, claims: claims.update(changes))


def header_with(**changes: object) -> Callable[..., str]:
    return forged(lambda header, _: header.update(changes))


FORGERIES: dict[str, tuple[Callable[..., str], str]] = {
    "claims altered": (altered, "signature"),
    "signed by another key under our key id": (forged(lambda *_: 0, ECKey.generate_key("P-256")), "signature"),
    "alg none": (unsigned, "algorithm"),
    "HS256 with the public PEM": (signed_with_the_public_key_as_a_secret, "algorithm"),
    "unknown key id": (header_with(kid="nobody"), "key"),
    "key id of another type": (lambda _, token: f"{part({'alg': 'ES256', 'typ': 'at+jwt', 'kid': [1]})}.{token.split('.')[1]}.AA", "key"),
    "no key id": (forged(lambda header, _: header.pop("kid")), "key"),
    "an ordinary JWT": (header_with(typ="JWT"), "type"),
    "no type": (forged(lambda header, _: header.pop("typ")), "type"),
    "other issuer": (claims_with(iss="https://road.example:9443"), "issuer"),
    "other region": (claims_with(aud="spiffe://test.rocade/cn"), "audience"),
    "several audiences": (claims_with(aud=["spiffe://test.rocade/eu", "spiffe://test.rocade/cn"]), "audience"),
    "bound to nothing": (claims_with(cnf={}), "unbound"),
    "binding of another type": (claims_with(cnf="x"), "malformed"),
    "no end": (forged(lambda _, claims: claims.pop("exp")), "malformed"),
    "an end that is a text": (claims_with(exp="never"), "malformed"),
    "an end that is a fraction": (claims_with(exp=1e300), "malformed"),
    "a begin that is a text": (claims_with(nbf="tomorrow"), "malformed"),
    "more purposes than registered": (claims_with(scope="purpose:insurance purpose:traffic"), "client"),
    "no purpose": (claims_with(scope=""), "client"),
    "somebody who is no client": (claims_with(sub="spiffe://test.rocade/eu/partner/other"), "client"),
    "three dots": (lambda *_: "a.b.c", "malformed"),
    "empty": (lambda *_: "", "malformed"),
    "not ASCII": (lambda *_: "ü.é.漢", "malformed"),
    "claims that are a list": (lambda _, token: f"{token.split('.')[0]}.{part([1])}.{token.split('.')[2]}", "signature"),
    "huge": (lambda _, token: token + "A" * 5_000, "malformed"),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGERIES)
async def test_refused_is(tokens: Tokens, what: str) -> None:
    make, reason = FORGERIES[what]
    token = await tokens.issue(ACME, OWN, ["insurance"])
    assert code_of(tokens, make(tokens, token)) == f"access.token.{reason}"
    assert code_of(tokens, make(tokens, token)) == f"access.token.{reason}", "nothing refused is remembered"


async def test_a_token_is_good_for_five_minutes_on_its_own_certificate_only(tokens: Tokens, clock: TurnedClock) -> None:
    clock.hold()  # seconds count here
    token = await tokens.issue(ACME, OWN, ["insurance"])
    for _ in range(2):  # the second time from memory
        now_us = clock.now_us()
        assert code_of(tokens, token, OTHER) == "access.token.certificate"
        assert code_of(tokens, token, "") == "access.token.bare"
        assert code_of(tokens, token, OWN, now_us - 12_000_000) == "access.token.early"
        assert code_of(tokens, token, OWN, now_us + 300_000_000) == "access.token.expired"
        assert tokens.check(token, OWN, now_us - 8_000_000), "clocks of two machines may differ a little"
        assert tokens.check(token, OWN, now_us + 298_000_000)


async def test_another_regions_token_is_refused(tokens: Tokens, open_tokens: Opener) -> None:
    """Same database and key, so that nothing but issuer and audience can tell them apart."""
    token = await tokens.issue(ACME, OWN, ["insurance"])
    assert code_of(await open_tokens(Place("test.rocade", "cn", PLACE.url)), token) == "access.token.audience"
    assert code_of(await open_tokens(Place("test.rocade", "eu", "https://b:1")), token) == "access.token.issuer"


async def test_what_a_client_loses_its_tokens_lose_in_every_process(
    tokens: Tokens, open_tokens: Opener, clients: Clients, clock: TurnedClock
) -> None:
    elsewhere = await open_tokens()
    wide = await tokens.issue(ACME, OWN, ["insurance", "research"])
    narrow = await tokens.issue(ACME, OWN, ["research"])
    assert elsewhere.check(wide, OWN, clock.now_us())
    await clients.put(ACME, ["research"], "operator:test")
    await until(lambda: refuses(elsewhere, wide) and refuses(tokens, wide))
    assert elsewhere.check(narrow, OWN, clock.now_us())
    await clients.drop(ACME, "operator:test")
    await until(lambda: refuses(elsewhere, narrow))
    assert code_of(elsewhere, narrow) == "access.token.client"


def refuses(tokens: Tokens, token: str) -> bool:
    try:
        tokens.check(token, OWN, tokens._clock.now_us())
    except Refused:
        return True
    return False


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)
