"""Client credentials over real mutual TLS: a token for the certificate's own party, and every wrong way of asking."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.doors.http.conftest import CLOCK, Stand
from tests.trust.authority.machines.conftest import PURPOSES

from rocade.core.ports import SystemRandom
from rocade.doors.http import Access, build, oauth
from rocade.fabric.database import Database
from rocade.trust.authority.machines import Clients, Place, Tokens, thumbprint
from rocade.trust.identity.directory import load_leaf

GRANT = {"grant_type": "client_credentials"}


@pytest.fixture
async def tokens(stand: Stand, database: Database, tmp_path: Path) -> AsyncIterator[Tokens]:
    clients = Clients(database, stand.audit, CLOCK, PURPOSES)
    await clients.put(stand.region.identity("partner", "acme"), ["insurance", "research"], "test")
    place = Place("test.rocade", "eu", "https://localhost:8443")
    tokens = await Tokens.open(database, tmp_path / "tokens", place, stand.audit, CLOCK, SystemRandom())
    access = Access(stand._verify, stand.revoked.__contains__, stand.gate, stand.audit, CLOCK, tokens=tokens)
    stand.app = build([*oauth.HANDLERS], {"tokens": tokens}, access, version="0")
    yield tokens
    await tokens.close()


def thumb(directory: Path) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return thumbprint(load_leaf(directory).public_bytes(Encoding.DER))


async def test_a_partner_gets_a_token_bound_to_its_certificate(stand: Stand, tokens: Tokens) -> None:
    acme = stand.identity("partner", "acme")
    async with stand.serve() as (_, address), stand.client(address, acme) as client:
        answer = await client.post("/oauth/token", data={**GRANT, "scope": "purpose:insurance"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert {key: body[key] for key in ("token_type", "expires_in", "scope")} == {
        "token_type": "Bearer",
        "expires_in": 300,
        "scope": "purpose:insurance",
    }
    principal = tokens.check(body["access_token"], thumb(acme), CLOCK.now_us())
    assert (principal.recipient, principal.purposes) == ("partner:acme", {"insurance"})


async def test_without_a_scope_it_is_told_what_it_got(stand: Stand, tokens: Tokens) -> None:
    async with stand.serve() as (_, address), stand.client(address, stand.identity("partner", "acme")) as client:
        uri = stand.region.identity("partner", "acme").uri
        body = (await client.post("/oauth/token", data={**GRANT, "client_id": uri})).json()
    assert body["scope"] == "purpose:insurance purpose:research"


WRONG: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "another grant": ({"data": {"grant_type": "password"}}, 400, "unsupported_grant_type", "access.token.grant"),
    "no grant": ({"data": {"scope": "purpose:research"}}, 400, "invalid_request", "access.token.request"),
    "no body": ({}, 400, "invalid_request", "access.token.request"),
    "JSON": ({"json": GRANT}, 400, "invalid_request", "access.token.request"),
    "a scope that is no purpose": ({"data": {**GRANT, "scope": "admin"}}, 400, "invalid_scope", "access.token.scope"),
    "a purpose that is not registered": (
        {"data": {**GRANT, "scope": "purpose:insurance purpose:traffic"}}, 400, "invalid_scope", "access.token.purpose"),
    "somebody else": (
        {"data": {**GRANT, "client_id": "spiffe://test.rocade/eu/partner/other"}}, 401, "invalid_client", "access.token.client_id"),
    "a secret": ({"data": {**GRANT, "client_secret": "s"}}, 400, "invalid_request", "access.token.request"),
    "an assertion": ({"data": {**GRANT, "client_assertion": "x"}}, 400, "invalid_request", "access.token.request"),
    "parameters in the address": ({"params": GRANT, "data": GRANT}, 400, "invalid_request", "access.token.request"),
    "a parameter twice": (
        {"content": b"grant_type=client_credentials&grant_type=client_credentials"}, 400, "invalid_request", "access.token.request"),
    "bytes that are no form": ({"content": b"\xff\xfe=&&"}, 400, "invalid_request", "access.token.request"),
    "a long form": ({"content": b"grant_type=client_credentials&x=" + b"a" * 5_000}, 400, "invalid_request", "access.token.request"),
}  # fmt: skip


async def test_every_wrong_way_of_asking_has_its_error_and_a_note(stand: Stand, tokens: Tokens) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    async with stand.serve() as (_, address), stand.client(address, stand.identity("partner", "acme")) as client:
        for what, (request, status, error, code) in WRONG.items():
            answer = await client.post("/oauth/token", headers=form if "content" in request else None, **request)
            body = answer.json()
            assert (answer.status_code, body["error"], body["code"]) == (status, error, code), what
            assert body["error_description"], what
            assert len(body["request_id"]) == 16, what
            assert answer.headers["content-type"] == "application/json", what
            assert stand.audit.entries[-1].reason == code, what
    assert "access.token.issue" not in {entry.action for entry in stand.audit.entries}


@pytest.mark.parametrize(("kind", "status"), [("partner", 401), ("service", 401), ("vehicle", 401)])
async def test_who_is_no_client_gets_no_token(stand: Stand, tokens: Tokens, kind: str, status: int) -> None:
    async with stand.serve() as (_, address), stand.client(address, stand.identity(kind, "other")) as client:
        answer = await client.post("/oauth/token", data=GRANT)
    assert answer.status_code == status
    assert "access_token" not in answer.json()


async def test_the_published_keys_verify_a_token_with_another_library_and_hold_no_secret(
    stand: Stand, tokens: Tokens
) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    def number(text: str) -> int:
        return int.from_bytes(base64.urlsafe_b64decode(text + "=="))

    async with stand.serve() as (_, address), stand.client(address, stand.identity("operator", "first")) as client:
        published = (await client.get("/oauth/jwks")).json()["keys"]
        token = (await client.post("/oauth/token", data=GRANT)).json()["access_token"]
    head, claims, signature = token.split(".")
    kid = json.loads(base64.urlsafe_b64decode(head + "=="))["kid"]
    (key,) = [key for key in published if key["kid"] == kid]
    assert {key["alg"], key["use"], key["kty"], key["crv"]} == {"ES256", "sig", "EC", "P-256"}
    assert "d" not in key
    public = ec.EllipticCurvePublicNumbers(number(key["x"]), number(key["y"]), ec.SECP256R1()).public_key()
    raw = base64.urlsafe_b64decode(signature + "==")
    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    public.verify(der, f"{head}.{claims}".encode(), ec.ECDSA(SHA256()))


async def test_metadata_names_what_there_is_and_nothing_else(stand: Stand, tokens: Tokens) -> None:
    async with stand.serve() as (_, address), stand.client(address, stand.identity("partner", "acme")) as client:
        told = (await client.get("/.well-known/oauth-authorization-server")).json()
    assert told == {
        "issuer": "https://localhost:8443",
        "token_endpoint": "https://localhost:8443/oauth/token",
        "jwks_uri": "https://localhost:8443/oauth/jwks",
        "response_types_supported": [],
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["tls_client_auth"],
        "tls_client_certificate_bound_access_tokens": True,
    }


async def test_nobody_gets_in_without_a_certificate(stand: Stand, tokens: Tokens) -> None:
    anonymous = stand.identity("partner", "acme")
    from rocade.trust.identity import tls

    context = tls.client_context(anonymous, anonymous=True)
    async with stand.serve() as (_, address):
        with pytest.raises(httpx.TransportError):
            async with httpx.AsyncClient(base_url=address, verify=context, trust_env=False) as client:
                await client.post("/oauth/token", data=GRANT)
