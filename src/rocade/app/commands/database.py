"""`rocade database`: the embedded PostgreSQL's commit log, mended or taken as it is."""

from __future__ import annotations

from pathlib import Path

import click

from rocade.app.commands import Load, config_option, example


@click.group()
def database() -> None:
    """The database that Rocade runs itself; docs/disks.md."""


@database.command("mend", epilog=example("database mend --config ./eu", "database mend --accept --config ./eu"))
@click.option("--accept", is_flag=True, help="Take it as it stands, what is damaged included.")
@config_option
@click.pass_obj
def mend(load: Load, config: Path | None, *, accept: bool) -> None:
    """Turn bits of the commit log back that turned on the disk, after a start said `database.commit_log`; the region must not run.

    A bit is turned back where the digest of its page proves it; nothing is done if one cannot be. The act is recorded.
    """
    from rocade.app.mending import mend_commit_log

    damages = mend_commit_log(load(config), accept=accept)
    for damage in damages:
        click.echo(damage)
    if accept:
        click.echo("the commit log is taken as it stands")
    else:
        click.echo("turned back" if damages else "the commit log is whole, nothing was done")


COMMANDS = (database,)
