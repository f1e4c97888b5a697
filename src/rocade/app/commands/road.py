"""Commands of the road itself: the demo, replay of real logs, a guess at what a log's columns mean."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from rocade.app.commands import Load, config_option, example


@click.command(epilog=example("demo", "demo --vehicles 500 --for 60 --chaos"))
@click.option("--vehicles", default=100, show_default=True, help="How many vehicles drive.")
@click.option(
    "--for", "seconds", type=float, help="End after SECONDS with a summary line in JSON; default: until Ctrl-C."
)
@click.option(
    "--chaos", is_flag=True, help="Pull plugs while it runs: kill the store, kill a worker, cut cars, fill the disk."
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    default=Path("rocade-demo"),
    show_default=True,
    help="Where the demo region lives; kept for the next start.",
)
def demo(vehicles: int, seconds: float | None, directory: Path, *, chaos: bool) -> None:
    """Everything in one command: a region, a moving fleet of every kind, a live map to click on."""
    from rocade.app.demo import run

    sys.exit(run(directory, vehicles, seconds, with_chaos=chaos))


@click.command(
    epilog=example(
        "replay drive.csv.gz --identity ./car --mapping examples/twizy.toml --config ./eu",
        "replay log.csv --identity ./car --dbc car.dbc --brand hyundai --host road.example.org",
    )
)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--identity",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder made by `rocade enroll`: the vehicle that speaks.",
)
@click.option(
    "--mapping",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What the columns mean; see examples/ and `rocade mapping guess`.",
)
@click.option(
    "--dbc", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="CAN log: the DBC that decodes it."
)
@click.option("--brand", default="", help="With --dbc: brand whose overlay names the signals.")
@click.option(
    "--speed", default=0.0, show_default=True, help="0 = as fast as it is acknowledged, 1 = the log's own time."
)
@click.option("--again", is_flag=True, help="Send files that were sent before once more.")
@click.option("--host", default="", help="Gateway; default localhost.")
@click.option("--port", default=0, help="Port of the gateway; default the configured one, else 8883.")
@config_option
@click.pass_obj
def replay(
    load: Load,
    files: tuple[Path, ...],
    identity: Path,
    mapping: Path | None,
    dbc: Path | None,
    brand: str,
    speed: float,
    host: str,
    port: int,
    config: Path | None,
    *,
    again: bool,
) -> None:
    """Send real logs (.csv, .csv.gz) through the real door; ends when every row is accounted for and acknowledged."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from rocade.agents.vehicle import replay as replaying
    from rocade.core.errors import Misconfigured

    if bool(mapping) == bool(dbc):
        raise click.UsageError("give either --mapping FILE.toml or --dbc FILE")
    if not port:
        try:
            port = load(config).mqtt.port
        except Misconfigured:
            port = 8883
    screen = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[says]}"),
               TimeElapsedColumn())  # fmt: skip
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task("replay", total=None, says="")

        def show(progress: replaying.Progress) -> None:
            state = progress.problem or ("" if progress.is_connected else "connecting")
            bar.update(
                task, total=progress.batches, completed=progress.acknowledged, description=progress.file,
                says=f"{progress.rows_read:,} rows, {progress.acknowledged}/{progress.batches} batches acknowledged {state}",
            )  # fmt: skip

        report = replaying.replay(
            files, identity, host=host or "localhost", port=port, mapping_file=mapping, dbc_file=dbc, brand=brand,
            speed=speed, again=again, progress=show,
        )  # fmt: skip
    click.echo(
        f"rows read {report.rows_read} = sent {report.rows_sent} + repaired {report.repaired} + refused {report.refused}"
        f"; {report.batches} batches, {report.points} points acknowledged in {report.seconds:.1f} s"
    )
    for reason, count in sorted(report.refused_by_reason.items()):
        click.echo(f"  refused: {count} rows, {reason}")
    for reason, count in sorted(report.cells_refused.items()):
        click.echo(f"  cells left out: {count}, {reason}")
    for number, why in report.set_aside.items():
        click.echo(f"  batch {number} set aside: {why}", err=True)
    for file in report.already_sent:
        click.echo(f"  {file} was sent before; --again sends it once more", err=True)
    sys.exit(report.exit_status)


@click.group()
def mapping() -> None:
    """What the columns of a log mean."""


@mapping.command("guess", epilog=example("mapping guess drive.csv > drive.toml"))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Write the proposal there; default standard output.")
def mapping_guess(file: Path, out: Path | None) -> None:
    """Propose a mapping for FILE.csv: signal, unit, range and confidence of each column, as TOML to correct and use."""
    from rocade.agents.vehicle import mapping_guess as guessing
    from rocade.core import catalogue

    proposal = guessing.guess(file, catalogue.standard())
    if out:
        out.write_text(proposal.toml)
    else:
        click.echo(proposal.toml)


COMMANDS = (demo, replay, mapping)
