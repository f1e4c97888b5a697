"""Commands about who may speak: enrolment of every kind, revocation, rolls, tokens, the operator; and the audit log over it."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import asyncpg
import httpx
import pytest
from tests.app.conftest import Car, make_car
from tests.app.stand import Region

from rocade.core.identifiers import KINDS
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import EmbeddedPostgres
from rocade.trust.authority.region import Region as Keys
from rocade.trust.identity.directory import load_identity, load_issuers, load_leaf
from rocade.trust.identity.tls import client_context

PARTIES = [
    *((kind, f"some-{kind}", ()) for kind in KINDS if kind != "vehicle"),
    ("vehicle", "VF1VANX0000000001", ("--vehicle-kind", "van", "--brand", "peugeot", "--powertrain", "diesel")),
    ("vehicle", "BIKE-0001", ("--vehicle-kind", "bicycle", "--powertrain", "none")),
    ("vehicle", "MOPED-0001", ("--vehicle-kind", "moped", "--brand", "vespelle", "--hardware", "tcu 2")),
    ("vehicle", "SCOOTER-0001", ("--vehicle-kind", "standing_scooter")),
]


@pytest.mark.parametrize(("kind", "party", "more"), PARTIES, ids=lambda one: one if isinstance(one, str) else "")
def test_everybody_gets_a_whole_identity_directory(
    region: Region, tmp_path: Path, kind: str, party: str, more: tuple[str, ...]
) -> None:
    out = region.enrol(party, tmp_path / party, "--kind", kind, *more)
    identity = load_identity(out)
    assert (identity.kind, identity.id, identity.region) == (kind, party, "eu")
    files = {"key.pem", "certificate.pem", "trust.pem", "issuers.json"}
    birth = {"birth.key.pem", "birth.certificate.pem"} if kind == "vehicle" else set()
    assert {file.name for file in out.iterdir()} == files | birth
    assert out.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in out.glob("*key.pem"))


def test_an_identity_is_never_overwritten_and_a_wrong_vin_is_refused(region: Region, car: Car, tmp_path: Path) -> None:
    before = (car.identity / "key.pem").read_bytes()
    region.rocade("enroll", "--id", car.vin, "--out", car.identity, code=1, says="[app.enrol.exists]")
    assert (car.identity / "key.pem").read_bytes() == before
    region.rocade("enroll", "--id", "VF1SHORT", "--out", tmp_path / "x", code=1, says="[vehicles.vin.length]")
    assert not (tmp_path / "x").exists()


def test_a_claim_code_is_printed_alone_and_works_once(region: Region, tmp_path: Path) -> None:
    from rocade.core.errors import Refused
    from rocade.trust.identity import est_client

    code = region.rocade("enroll", "--kind", "dealer", "--id", "garage", "--claim-only").strip()
    assert re.fullmatch(r"([0-9A-Z]{5}-){4}[0-9A-Z]{5}", code)
    server = est_client.Server("localhost", region.configuration.est.port)
    root = (region.directory / "trust/trust.pem").read_bytes()
    assert est_client.enrol(server, tmp_path / "garage", code, root).identity.id == "garage"
    with pytest.raises(Refused, match="used already"):
        est_client.enrol(server, tmp_path / "thief", code, root)


def test_a_revoked_vehicle_is_refused_at_the_door(region: Region, drive: tuple[Path, Path]) -> None:
    car = make_car(region, drive, "VF1STLN0000000001")
    said = region.rocade("revoke", "--id", car.vin, "--reason", "stolen")
    assert "certificates revoked: 2" in said, "the operational and the birth certificate"
    replay = ["replay", car.log, "--again", "--identity", car.identity, "--mapping", car.mapping]
    region.rocade(*replay, code=1, says="[replay.turned_away]")
    region.rocade("revoke", "--id", "VF1NOBODY00000001", "--reason", "x", code=1, says="[trust.revocation.unknown]")


def test_a_roll_is_said_first_needs_the_root_and_cuts_nobody_off(region: Region, car: Car) -> None:
    trust = region.directory / "trust"
    before = load_issuers(trust).version
    said = region.rocade("roll", "vehicle", "operator", "--dry-run")
    assert said.count("a new intermediate key issues from now on") == 2
    assert load_issuers(trust).version == before
    shutil.move(trust / "root", region.directory.parent / "root")
    region.rocade("roll", "vehicle", code=1, says="[app.roll.root]")
    shutil.move(region.directory.parent / "root", trust / "root")
    assert f"issuer table version {before + 1}" in region.rocade("roll", "vehicle", "service")
    region.rocade("replay", car.log, "--again", "--identity", car.identity, "--mapping", car.mapping)
    deadline = time.monotonic() + 60
    while load_leaf(region.directory / "server").issuer != newest(region, "service") and time.monotonic() < deadline:
        time.sleep(0.2)
    region.rocade("vehicles")
    fresh = region.enrol("VF1RXLL0000000001", region.directory.parent / "rolled")
    assert load_leaf(fresh).issuer == newest(region, "vehicle")


def newest(region: Region, kind: str) -> object:
    issuers = [
        one for one in load_issuers(region.directory / "trust") if (one.kind, one.purpose) == (kind, "operational")
    ]
    return issuers[-1].certificate.subject


def test_withdrawing_the_operators_key_gives_this_operator_a_new_certificate(region: Region, tmp_path: Path) -> None:
    other = region.enrol("colleague", tmp_path / "colleague", "--kind", "operator")
    region.rocade("roll", "operator", "--withdraw", answer="n\n", code=1, says="Refuse these certificates from now on?")
    region.rocade("roll", "operator", "--withdraw", "--yes")
    region.rocade("vehicles")
    own = region.directory / "operator"
    kept = tmp_path / "own"
    shutil.copytree(own, kept)
    shutil.copytree(other, own, dirs_exist_ok=True)
    region.rocade("vehicles", code=1)
    shutil.copytree(kept, own, dirs_exist_ok=True)


def give_operator(region: Region, life_us: int) -> None:
    keys = Keys(region.directory / "trust", SystemClock(), SystemRandom())
    keys.credential(keys.identity("operator", "first"), life_us=life_us).write(region.directory / "operator")


def test_an_operator_certificate_that_is_due_is_renewed_by_the_next_command(region: Region) -> None:
    give_operator(region, 60_000_000)
    short = load_leaf(region.directory / "operator").not_valid_after_utc
    region.rocade("vehicles")
    assert (load_leaf(region.directory / "operator").not_valid_after_utc - short).days >= 6


def test_an_operator_certificate_that_has_ended_locks_nobody_out(region: Region) -> None:
    give_operator(region, 1_000_000)
    time.sleep(1.5)
    region.rocade("vehicles", code=1, says="`rocade operator renew --config")
    assert "the operator's ended" in region.rocade("doctor", code=1)
    assert "operator/first: new key and certificate" in region.rocade("operator", "renew")
    region.rocade("vehicles")
    told = [json.loads(line) for line in region.rocade("audit", "tail", "-n", "5").splitlines()]
    assert ("trust.provision", True) in {(one["action"], one["actor"].startswith("local:uid-")) for one in told}


def asked(region: Region, identity: Path, token: str) -> httpx.Response:
    """The list of vehicles, over mutual TLS with a token."""
    address = f"https://localhost:{region.configuration.http.api_port}/v1/vehicles"
    bearer = {"authorization": f"Bearer {token}"}
    return httpx.get(address, headers=bearer, verify=client_context(identity), timeout=30, trust_env=False)


def test_a_registered_partner_gets_tokens_until_it_is_dropped(region: Region, tmp_path: Path) -> None:
    acme = region.enrol("acme", tmp_path / "acme", "--kind", "partner")
    region.rocade("access-token", "--identity", acme, code=1, says="[access.token.client]")
    region.rocade("client", "add", "--id", "acme", "--purpose", "insurance", "--purpose", "research")
    assert "insurance research" in region.rocade("client", "list")
    region.rocade("access-token", "--identity", acme, "--purpose", "traffic", code=1, says="[access.token.purpose]")
    token = region.rocade("access-token", "--identity", acme, "--purpose", "insurance").strip()
    assert asked(region, acme, token).status_code == 200
    assert asked(region, region.directory / "operator", token).json()["code"] == "access.token.certificate"
    region.rocade("client", "rotate")
    assert asked(region, acme, token).status_code == 200
    region.rocade("client", "drop", "--id", "acme")
    deadline = time.monotonic() + 30
    while asked(region, acme, token).status_code == 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert asked(region, acme, token).json()["code"] == "access.token.client"
    region.rocade("client", "drop", "--id", "acme", code=1, says="[access.client.unknown]")


def test_the_operators_own_token_works_for_scripts_and_a_leaked_key_ends_it(region: Region) -> None:
    own = region.directory / "operator"
    token = region.rocade("access-token").strip()
    assert asked(region, own, token).status_code == 200
    region.rocade("client", "rotate", "--withdraw", answer="n\n", code=1, says="Refuse every access token")
    assert asked(region, own, token).status_code == 200
    region.rocade("client", "rotate", "--withdraw", "--yes")
    assert asked(region, own, token).json()["code"] == "access.token.key"


def test_status_shows_every_process_alive(region: Region, car: Car) -> None:
    alive = {(name, "yes") for name in ("gateway", "worker", "api", "postgres")}
    deadline = time.monotonic() + 60  # one that stood still for some seconds is not called alive
    while (said := {tuple(line.split()[:2]) for line in region.rocade("status").splitlines()[1:]}) != alive:
        assert time.monotonic() < deadline, said


async def test_audit_verify_names_the_entry_that_was_altered(region: Region) -> None:
    assert json.loads(region.rocade("audit", "verify"))["ok"] is True
    url = EmbeddedPostgres.url_of_running(region.directory / "postgres")
    assert url is not None
    connection = await asyncpg.connect(url)
    try:
        body = await connection.fetchval("SELECT body FROM audit_entry WHERE position = 3")
        altered = body.replace(b'"at_us":1', b'"at_us":2', 1)
        assert altered != body
        await connection.execute("UPDATE audit_entry SET body = $1 WHERE position = 3", altered)
        said = json.loads(region.rocade("audit", "verify", code=1))
        assert (said["ok"], said["code"], said["position"]) == (False, "audit.altered", 3)
        await connection.execute("UPDATE audit_entry SET body = $1 WHERE position = 3", body)
    finally:
        await connection.close()
    assert json.loads(region.rocade("audit", "verify"))["ok"] is True
