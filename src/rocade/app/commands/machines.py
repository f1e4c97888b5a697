"""Commands about machines at the API: who may ask for access tokens, the keys that sign them, and a token for scripts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from rocade.app.client import ApiClient
from rocade.app.commands import Load, config_option, example
from rocade.app.commands.tables import Table

KINDS = ("partner", "dealer", "service")

_kind = click.option("--kind", type=click.Choice(KINDS), default="partner", show_default=True)
_id = click.option("--id", "party", required=True, help="Name of the party, as it was enrolled.")


@click.group()
def client() -> None:
    """Machines of partners, dealers and services: which of them may ask /oauth/token for which purposes."""


@client.command("add", epilog=example("client add --id acme --purpose insurance --purpose research --config ./eu"))
@_kind
@_id
@click.option("--purpose", "purposes", multiple=True, required=True, help="May be given several times.")
@config_option
@click.pass_obj
def add(load: Load, kind: str, party: str, purposes: tuple[str, ...], config: Path | None) -> None:
    """Register a machine, or give it other purposes; effective at once, on tokens given before as well."""
    with ApiClient(load(config)) as api:
        answer = api.post("/v1/clients", kind=kind, id=party, purposes=",".join(purposes))
    click.echo(f"{kind} {party} may ask for tokens for: {', '.join(answer['purposes'])}")


@client.command("list", epilog=example("client list --config ./eu"))
@config_option
@click.pass_obj
def list_(load: Load, config: Path | None) -> None:
    """List the registered machines."""
    with ApiClient(load(config)) as api:
        items = api.get("/v1/clients")["items"]
    table = Table("kind", "id", "purposes", "since (UTC)", "by")
    for item in items:
        since = datetime.fromtimestamp(item["added_us"] / 1e6, UTC).isoformat(timespec="seconds")
        table.add(item["kind"], item["id"], " ".join(item["purposes"]), since, item["added_by"])
    table.show()


@client.command("drop", epilog=example("client drop --id acme --config ./eu"))
@_kind
@_id
@config_option
@click.pass_obj
def drop(load: Load, kind: str, party: str, config: Path | None) -> None:
    """Take a machine off the register; its tokens are refused from then on, its certificate stays (see `revoke`)."""
    with ApiClient(load(config)) as api:
        api.delete("/v1/clients", kind=kind, id=party)
    click.echo(f"{kind} {party} gets no more tokens")


@client.command("rotate", epilog=example("client rotate --config ./eu", "client rotate --withdraw --yes --config ./eu"))
@click.option("--withdraw", is_flag=True, help="The old key leaked: refuse all its tokens from now on.")
@click.option("--yes", is_flag=True, help="Do not ask before withdrawing.")
@config_option
@click.pass_obj
def rotate(load: Load, config: Path | None, *, withdraw: bool, yes: bool) -> None:
    """Sign access tokens with a new key, in ten seconds; it happens by itself once a day. Tokens given before stay good."""
    if withdraw and not yes:
        click.confirm("Refuse every access token given so far?", abort=True, err=True)
    with ApiClient(load(config)) as api:
        answer = api.post("/v1/clients/keys", withdraw=str(withdraw).lower())
    click.echo(f"new key {answer['kid']}")


@click.command(
    "access-token", epilog=example("access-token --config ./eu", "access-token --identity ./acme --purpose insurance")
)
@click.option("--purpose", "purposes", multiple=True, help="Default: every purpose the party is registered for.")
@click.option(
    "--identity",
    type=click.Path(path_type=Path),
    help="Identity directory of the party; default: the region's operator.",
)
@config_option
@click.pass_obj
def access_token(load: Load, purposes: tuple[str, ...], identity: Path | None, config: Path | None) -> None:
    """Print an access token for scripts: it lives five minutes and is good only over mutual TLS with its own certificate.

    With curl: --cert DIR/certificate.pem --key DIR/key.pem --cacert DIR/trust.pem -H "Authorization: Bearer TOKEN"
    """
    scope = " ".join(f"purpose:{purpose}" for purpose in purposes)
    form = {"grant_type": "client_credentials", **({"scope": scope} if scope else {})}
    with ApiClient(load(config), identity=identity) as api:
        click.echo(api.form("/oauth/token", form)["access_token"])


COMMANDS = (client, access_token)
