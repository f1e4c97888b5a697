"""The `rocade` command. Each sub-command is a few lines here; the work stands in the room it belongs to.

Exit codes: 0 done; 1 it ran and found or hit a problem (said on standard error); 2 wrong use.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from rocade import __version__
from rocade.app import configuration as settings
from rocade.app.commands import (
    archive,
    backup,
    charging,
    crossing,
    custody,
    data,
    database,
    dealer,
    dealers,
    enrol,
    erasing,
    exchange,
    grid,
    interconnection,
    keys,
    machines,
    people,
    prices,
    proofs,
    region,
    road,
    sandbox,
    sharing,
    stations,
    why,
)
from rocade.app.commands import (
    command as vehicle_command,
)
from rocade.app.unloaded import leave_out
from rocade.core.errors import RocadeError

FIRST_DAY = """\b
First minute:
  rocade demo

\b
A region of your own:
  rocade init ./eu --region eu
  rocade serve --config ./eu
  rocade enroll --config ./eu --id VF1AAAAAAAA000001 --brand renault --model Twizy --out ./car
  rocade replay drive.csv.gz --config ./eu --identity ./car --mapping examples/twizy.toml
  rocade history VF1AAAAAAAA000001 --signal Vehicle.Speed --every 60s --config ./eu

Every command has --help with an example."""


class Cli(click.Group):
    """Turns Rocade's errors into one line on standard error and exit code 1; keeps commands in the order of a first day."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RocadeError as error:
            if os.environ.get("ROCADE_LOG") == "debug":
                raise
            hint = f"  (rocade why {why})" if (why := error.facts.get("why")) else ""
            click.echo(f"rocade: {error.message}  [{error.code}]{hint}", err=True)
            sys.exit(1)


@click.group(
    cls=Cli, epilog=FIRST_DAY, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="rocade")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="ROCADE_CONFIG",
    help="DIR or DIR/rocade.toml of the region (also after the sub-command; default ./rocade.toml).",
)
@click.pass_context
def main(ctx: click.Context, config: Path | None) -> None:
    """Rocade: an open, self-hosted, multi-brand connected vehicle platform."""
    leave_out()
    ctx.obj = lambda override=None: settings.load(override or config)


for command in (
    *road.COMMANDS,
    *region.COMMANDS,
    *enrol.COMMANDS,
    *data.COMMANDS,
    *erasing.COMMANDS,
    *vehicle_command.COMMANDS,
    *keys.COMMANDS,
    *custody.COMMANDS,
    *database.COMMANDS,
    *archive.COMMANDS,
    *backup.COMMANDS,
    *machines.COMMANDS,
    *people.COMMANDS,
    *interconnection.COMMANDS,
    *dealers.COMMANDS,
    *exchange.COMMANDS,
    *dealer.COMMANDS,
    *prices.COMMANDS,
    *proofs.COMMANDS,
    *sandbox.COMMANDS,
    *charging.COMMANDS,
    *stations.COMMANDS,
    *grid.COMMANDS,
    *crossing.COMMANDS,
    *sharing.COMMANDS,
    *why.COMMANDS,
):
    main.add_command(command)
