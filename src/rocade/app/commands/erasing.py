"""`rocade erase`: a vehicle's or a person's data, for good; how far it is, and the certificate that it is done."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec

from rocade.app.client import ApiClient
from rocade.app.commands import Load, config_option, example
from rocade.core.errors import Unavailable

POLL_S = 0.5
WAIT_S = 3_600.0


@click.command(
    epilog=example(
        "erase VF1AAAAAAAA000001 --dry-run --config ./eu",
        "erase VF1AAAAAAAA000001 --yes --physical",
        "erase VF1AAAAAAAA000001 --yes --certificate erased.json",
        "erase person:0123456789abcdef --yes --certificate erased.json",
    )
)
@click.argument("who")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would go, remove nothing.")
@click.option("--physical", is_flag=True, help="Wait until no file holds them; else files follow within the hour.")
@click.option(
    "--certificate",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the signed certificate here, for `rocade verify`; as --physical.",
)
@config_option
@click.pass_obj
def erase(
    load: Load, who: str, config: Path | None, certificate: Path | None, *, yes: bool, dry_run: bool, physical: bool
) -> None:
    """Remove the readable data of WHO (a VIN or serial number, or person:...) for good."""
    physical = physical or certificate is not None
    with ApiClient(load(config)) as api:
        said = (
            _person(api, who, yes, dry_run) if who.startswith("person:") else _vehicle(api, who, yes, dry_run, physical)
        )
        if said is None:
            return
        if physical:
            said |= _followed(api, said["erasure"])
        if certificate is not None:
            certificate.write_bytes(_certificate(api, said["erasure"]))
            click.echo(f"certificate in {certificate}; rocade verify {certificate} --key trust.pem", err=True)
    click.echo(msgspec.json.format(msgspec.json.encode(said), indent=2).decode())


def _vehicle(api: ApiClient, vin: str, yes: bool, dry_run: bool, physical: bool) -> dict[str, Any] | None:
    ref = str(api.get("/v1/vehicles/by-id/" + vin)["ref"])
    plan = api.delete(f"/v1/vehicles/{ref}/data", dry_run="true")
    click.echo(f"{plan['points']:,} stored points and the twin of this vehicle", err=True)
    if dry_run:
        return None
    _ask(yes)
    ordered: dict[str, Any] = api.delete(f"/v1/vehicles/{ref}/data", physical="true" if physical else "false")
    return ordered


def _person(api: ApiClient, person: str, yes: bool, dry_run: bool) -> dict[str, Any] | None:
    click.echo("name, passkeys, sessions, duties and consents of this person, and the data of his vehicles", err=True)
    if dry_run:
        return None
    _ask(yes)
    ordered: dict[str, Any] = api.delete(f"/v1/people/{quote(person, safe='')}/data")
    return ordered


def _ask(yes: bool) -> None:
    if not yes:
        click.confirm("Erase them? This cannot be undone", abort=True, err=True)


def _followed(api: ApiClient, number: str) -> dict[str, Any]:
    """Say how far it is until it is done."""
    end, told = time.monotonic() + WAIT_S, ""
    while time.monotonic() < end:
        state: dict[str, Any] = api.get(f"/v1/erasures/{number}")
        now = f"{state['step']} {state['progress']}".strip()
        if now != told and sys.stderr.isatty():
            click.echo(f"\r\033[K{now}", nl=False, err=True)
        elif now != told:
            click.echo(now, err=True)
        told = now
        if state["done_us"]:
            if sys.stderr.isatty():
                click.echo(err=True)
            return state
        time.sleep(POLL_S)
    raise Unavailable(
        "erasure.slow", "the erasure is still under way; nobody finds the data, files follow by themselves"
    )


def _certificate(api: ApiClient, number: str) -> bytes:
    """Fetched as soon as a signed head covers the entry."""
    end = time.monotonic() + 60
    while True:
        try:
            return b"".join(api.stream(f"/v1/erasures/{number}/certificate"))
        except Unavailable as error:
            if error.code != "erasure.certificate.early" or time.monotonic() > end:
                raise
        time.sleep(POLL_S)


COMMANDS = (erase,)
