"""Commands about a region as a whole: make it, run it, look at its health."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from rocade.app import configuration as settings
from rocade.app.client import ApiClient
from rocade.app.commands import Load, config_option, example
from rocade.app.commands.tables import Table
from rocade.core.errors import Unavailable

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", True: "green", False: "red"}


@click.command(
    epilog=example("init ./eu --region eu", "init /var/lib/rocade/eu --region eu --server-name road.example.org")
)
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--region", required=True, help="Name of the region, part of every identity: eu, cn, ...")
@click.option("--trust-domain", default="rocade.local", show_default=True, help="Domain name in every identity.")
@click.option("--server-name", "names", multiple=True, help="Host name vehicles will use; may be given several times.")
def init(directory: Path, region: str, trust_domain: str, names: tuple[str, ...]) -> None:
    """Make a new region in DIRECTORY: keys, certificates, configuration."""
    from rocade.app import initialise

    initialise.create(directory, region, trust_domain, names)
    click.echo(f"region {region} is ready in {directory}")
    click.echo(f"keep {directory / 'trust' / 'root'} offline; it is only needed to roll an intermediate", err=True)
    click.echo(f"next: rocade serve --config {directory}", err=True)


@click.command(epilog=example("serve --config ./eu", "serve --config ./eu --role gateway"))
@click.option(
    "--role",
    type=click.Choice(settings.ROLES),
    default="all",
    show_default=True,
    help="all = database, migrations and a process per role; one role = just that, for a machine of its own.",
)
@config_option
@click.pass_obj
def serve(load: Load, role: str, config: Path | None) -> None:
    """Run the region (or one role of it) until SIGTERM; drains in at most ten seconds."""
    import asyncio

    from rocade.app import roles

    configuration = load(config)
    if role == "all":
        sys.exit(asyncio.run(roles.run_all(configuration)))
    roles.run(configuration, role)


@click.command(epilog=example("status --config ./eu"))
@config_option
@click.pass_obj
def status(load: Load, config: Path | None) -> None:
    """Show the processes, what flows and what waits. Exit 1 if something that should run does not."""
    with ApiClient(load(config)) as api:
        answer = api.get("/v1/status")
    table = Table("process", "alive", "what it says")
    for item in answer["processes"]:
        says = ", ".join(
            f"{key} {value}" for key, value in item["values"].items() if not isinstance(value, dict | list)
        )
        alive = "yes" if item["is_alive"] else "no"
        table.add(item["process"], alive, says, colours={1: _COLOURS[item["is_alive"]]})
    table.show()
    if not answer["processes"] or not all(item["is_alive"] for item in answer["processes"]):
        raise Unavailable("app.status.incomplete", "a process does not report; see the logs folder of the region")


@click.command(epilog=example("doctor --config ./eu"))
@config_option
@click.pass_obj
def doctor(load: Load, config: Path | None) -> None:
    """Check clock, file limits, fsync, disk, memory, ports, TLS, keys and certificates; say what to do. Exit 1 on a fail."""
    from rocade.app import doctor as examination
    from rocade.app import supervisor

    configuration = load(config)
    is_running = (configuration.socket_directory / supervisor.PID_FILE).exists()
    findings = examination.examine(configuration, is_running=is_running)
    table = Table("check", "", "seen", "do")
    for finding in findings:
        table.add(finding.name, finding.level, finding.seen, finding.advice, colours={1: _COLOURS[finding.level]})
    table.show()
    if any(finding.level == "fail" for finding in findings):
        sys.exit(1)


COMMANDS = (init, serve, status, doctor)
