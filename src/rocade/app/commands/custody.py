"""Commands about the region key: how it stands, a new one, another custody for it."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from rocade.app.commands import Load, config_option, example
from rocade.app.configuration import Custody


@click.group()
def custody() -> None:
    """The region key that everything sealed hangs on; docs/sealing.md."""


@custody.command("status", epilog=example("custody status --config ./eu"))
@click.option("--json", "as_json", is_flag=True, help="As one JSON document.")
@config_option
@click.pass_obj
def status(load: Load, config: Path | None, *, as_json: bool) -> None:
    """Say where the region key is, whether it opens the tables, and what waits for a puncture."""
    from rocade.app.custody_move import place_of
    from rocade.app.local import Hand, act
    from rocade.trust.authority.sealing import State

    configuration = load(config)

    async def work(hand: Hand) -> State:
        return await hand.keyring.state()

    state, place = act(configuration, work), place_of(configuration, configuration.custody)
    if as_json:
        click.echo(msgspec.json.encode({"place": place, **msgspec.structs.asdict(state)}))
    else:
        held = ", ".join(map(str, state.held)) or "none"
        click.echo(f"region key {state.version} in {place}: {state.trouble or 'answers'} (held: {held})")
        click.echo(f"{state.keys:,} data keys, {state.destroyed:,} owners destroyed")
        if state.unpunctured:
            click.echo(
                f"{state.unpunctured:,} of them an older copy of the key tables still gives: rocade custody rotate"
            )
    if state.trouble:
        raise SystemExit(1)


@custody.command("rotate", epilog=example("custody rotate --config ./eu", "custody rotate --all --config ./eu"))
@click.option("--all", "everything", is_flag=True, help="New keys for all 1,024 buckets: one of them may have leaked.")
@config_option
@click.pass_obj
def rotate(load: Load, config: Path | None, *, everything: bool) -> None:
    """Make a new region key and destroy the old one, while the region runs: no older copy of the key tables opens any more.

    Copies of the keys made before are useless afterwards; back the keys up anew.
    """
    from rocade.app.local import Hand, act
    from rocade.trust.authority.sealing import Punctured

    async def work(hand: Hand) -> Punctured:
        await hand.record("custody.rotated", "custody", everything=int(everything))
        return await hand.keyring.puncture(everything=everything)

    done = act(load(config), work)
    click.echo(
        f"region key {done.version_after}; {done.version_before} is destroyed; {done.buckets} buckets have new keys"
    )


@custody.command(
    "move",
    epilog=example(
        "custody move --directory /mnt/trustee/eu --destroy-old --config ./eu",
        "custody move --library /usr/lib/softhsm/libsofthsm2.so --token eu --pin-file pin --config ./eu",
    ),
)
@click.option("--directory", help="To files in this folder, best on a mount of another party.")
@click.option("--library", help="To a token: the PKCS#11 library of its maker.")
@click.option("--token", help="The token's label.")
@click.option("--pin-file", help="A file with the user PIN, mode 0600, relative to DIR.")
@click.option("--destroy-old", is_flag=True, help="Destroy the key in the old custody at the end.")
@click.option("--yes", is_flag=True, help="Do not ask before destroying.")
@config_option
@click.pass_obj
def move(
    load: Load, directory: str | None, library: str | None, token: str | None, pin_file: str | None,
    config: Path | None, *, destroy_old: bool, yes: bool,
) -> None:  # fmt: skip
    """Give the region key to another custody, while the region is stopped. Nothing sealed is touched; rocade.toml is rewritten."""
    from rocade.app import custody_move
    from rocade.app.local import Hand, act

    is_token = library and token and pin_file
    if bool(directory) == bool(is_token) or (directory and (library or token or pin_file)):
        raise click.UsageError("name either --directory, or --library, --token and --pin-file")
    configuration = load(config)
    settings = (
        Custody(directory=directory)
        if directory
        else Custody(kind="pkcs11", library=library or "", token=token or "", pin_file=pin_file or "")
    )
    settings = msgspec.structs.replace(settings, lease_s=configuration.custody.lease_s)
    if destroy_old and not yes:
        click.confirm("Destroy the key in the old custody at the end?", abort=True, err=True)

    async def work(hand: Hand) -> int:
        return await custody_move.move(hand, settings, destroys_old=destroy_old)

    version = act(configuration, work)
    click.echo(f"region key {version} in {custody_move.place_of(configuration, settings)}; start the region again")
    click.echo("keys parts of before hold or need the old key: write one anew with rocade backup --keys-only", err=True)
    if not destroy_old:
        click.echo("the old key still opens older copies of the key tables: destroy it where it is", err=True)


COMMANDS = (custody,)
