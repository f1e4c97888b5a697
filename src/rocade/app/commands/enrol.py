"""`rocade enroll`: register a vehicle (or another party) and leave a ready identity directory.

The operator asks the API for a one-time claim code; the key is made here and only its request travels, over EST
(RFC 7030), exactly as a vehicle would do it alone with the code.
"""

from __future__ import annotations

from pathlib import Path

import click

from rocade.app.client import ApiClient
from rocade.app.commands import Load, config_option, example
from rocade.core.catalogue import VEHICLE_KINDS
from rocade.core.errors import Refused
from rocade.core.identifiers import KINDS


@click.command(
    epilog=example(
        "enroll --id VF1AAAAAAAA000001 --brand renault --model Twizy --out ./car --config ./eu",
        "enroll --vehicle-kind bicycle --powertrain none --id BIKE-0001 --brand lune --out ./bike --config ./eu",
        "enroll --kind partner --id insurer --claim-only --config ./eu",
    )
)
@click.option("--kind", type=click.Choice(KINDS), default="vehicle", show_default=True, help="What enrols.")
@click.option("--id", "party", required=True, help="VIN, or the serial of a bicycle, moped or scooter; a party's name.")
@click.option("--brand", default="other", show_default=True, help="Brand, one of brands/*.toml.")
@click.option("--model", default="", help="Model name.")
@click.option(
    "--vehicle-kind",
    type=click.Choice(VEHICLE_KINDS),
    default="car",
    show_default=True,
    help="Cars and vans have a VIN, the others a serial.",
)
@click.option("--powertrain", default="electric", show_default=True, help="electric, petrol, diesel, hybrid, none, ...")
@click.option("--hardware", default="", help="Telematics unit and revision.")
@click.option("--market", default="", help="Region the vehicle is registered in, for VIN rules; default this region.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for key, certificate and chain.")
@click.option("--claim-only", is_flag=True, help="Print the one-time claim code; the party enrols by itself over EST.")
@config_option
@click.pass_obj
def enroll(
    load: Load,
    kind: str,
    party: str,
    brand: str,
    model: str,
    vehicle_kind: str,
    powertrain: str,
    hardware: str,
    market: str,
    out: Path | None,
    config: Path | None,
    *,
    claim_only: bool,
) -> None:
    """Let a vehicle (or operator, partner, dealer, service) in: registry, claim code, key, certificate.

    The key is made here and never travels. With --claim-only the one-time code is printed instead, for the party to
    enrol by itself over EST (RFC 7030).
    """
    from rocade.trust.identity import est_client

    if not out and not claim_only:
        raise click.UsageError("say where to write with --out DIR, or ask for the code alone with --claim-only")
    if out and (out / "key.pem").exists():
        raise Refused("app.enrol.exists", f"{out} holds an identity already; it is never overwritten")
    configuration = load(config)
    vehicle = {"vehicle_kind": vehicle_kind, "brand": brand, "model": model, "powertrain": powertrain,
               "hardware": hardware, "market": market or configuration.region}  # fmt: skip
    with ApiClient(configuration) as api:
        answer = api.post("/v1/enrolments", kind=kind, id=party, **(vehicle if kind == "vehicle" else {}))
    if claim_only or out is None:
        click.echo(answer["claim_code"])
        return
    server = est_client.Server("localhost", configuration.est.port)
    root = (configuration.operator / "trust.pem").read_bytes()
    est_client.enrol(server, out, answer["claim_code"], root, birth=kind == "vehicle")
    click.echo(f"{answer['identity']}\nkey.pem, certificate.pem, trust.pem, issuers.json in {out}")


COMMANDS = (enroll,)
