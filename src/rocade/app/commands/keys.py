"""Commands about keys and who may speak: roll an intermediate, revoke a party, the operator itself."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from rocade.app.client import ApiClient
from rocade.app.commands import Load, config_option, example
from rocade.core.errors import Misconfigured
from rocade.core.identifiers import KINDS


@click.command(epilog=example("roll vehicle --config ./eu --dry-run", "roll dealer --withdraw --config ./eu"))
@click.argument("kinds", nargs=-1, required=True, type=click.Choice(KINDS), metavar="KIND...")
@click.option("--withdraw", is_flag=True, help="The old key leaked: refuse its certificates from now on.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before withdrawing.")
@config_option
@click.pass_obj
def roll(load: Load, kinds: tuple[str, ...], config: Path | None, *, withdraw: bool, dry_run: bool, yes: bool) -> None:
    """Give each KIND (vehicle, dealer, partner, operator, service) a new intermediate key, without a restart.

    Needs DIR/trust/root, which belongs offline the rest of the time; run it on the region's own machine. Certificates
    of the old key stay good until they end, unless --withdraw refuses them at once.
    """
    from rocade.app import rolling

    configuration = load(config)
    for line in rolling.plan(configuration, kinds, withdraw=withdraw):
        click.echo(line)
    if dry_run:
        return
    if withdraw and not yes:
        click.confirm("Refuse these certificates from now on?", abort=True, err=True)
    version = rolling.roll(configuration, kinds, withdraw=withdraw)
    click.echo(f"done: issuer table version {version}; take {configuration.trust / 'root'} offline again")


@click.command(epilog=example("revoke --kind vehicle --id VF1AAAAAAAA000001 --reason stolen --config ./eu"))
@click.option("--kind", type=click.Choice(KINDS), default="vehicle", show_default=True)
@click.option("--id", "party", required=True, help="VIN or serial of a vehicle, name of another party.")
@click.option("--reason", required=True, help="Why; stands in the audit log.")
@config_option
@click.pass_obj
def revoke(load: Load, kind: str, party: str, reason: str, config: Path | None) -> None:
    """End every certificate of a party, and its unused claim codes; open connections are closed within seconds."""
    with ApiClient(load(config)) as api:
        answer = api.post("/v1/revocations", kind=kind, id=party, reason=reason)
    click.echo(f"{answer['identity']}: certificates revoked: {answer['revoked']}")


@click.group()
def operator() -> None:
    """The operator's own identity, in DIR/operator. Commands renew it by themselves as long as it is valid."""


@operator.command("renew", epilog=example("operator renew --config ./eu"))
@config_option
@click.pass_obj
def operator_renew(load: Load, config: Path | None) -> None:
    """Issue a new operator certificate from the region's own keys, where the old one has ended; recorded in the audit log."""
    from rocade.app import rolling

    configuration = load(config)
    click.echo(f"{rolling.renew_operator(configuration)}: new key and certificate in {configuration.operator}")


@click.command(
    epilog='\b\nExamples:\n  eval "$(rocade completion bash)"\n  rocade completion fish > ~/.config/fish/completions/rocade.fish'
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes rocade's commands and options in SHELL."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise Misconfigured("app.completion.shell", f"no completion for {shell} here")
    click.echo(kind(context.find_root().command, {}, "rocade", "_ROCADE_COMPLETE").source())
    sys.stdout.flush()


COMMANDS = (roll, revoke, operator, completion)
