"""`rocade backup` and `rocade restore`: a whole region at one instant, and back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from rocade.app.backup.progress import Progress
from rocade.app.commands import Load, config_option, example


@click.command(
    epilog=example(
        "backup /mnt/backups --keys-to /mnt/safe/keys --config ./eu",
        "backup s3://bucket/eu --keys-to /mnt/safe/keys --keep-days 30 --config ./eu",
        "backup --keys-only --config ./eu",
    )
)
@click.argument("to", required=False)
@click.option("--keys-to", help="Where the keys part goes: another place than TO. Default: [backup] keys_to.")
@click.option("--keep-days", type=click.FloatRange(0), help="Remove backups older than that afterwards; 0 = none.")
@click.option(
    "--keep-keys-days",
    type=click.FloatRange(0),
    help="The same for keys parts; those that a puncture made useless go at once. Default: [backup], 7.",
)
@click.option("--keys-only", is_flag=True, help="Write a fresh keys part and nothing else.")
@click.option("--dry-run", is_flag=True, help="Say what would be copied, write nothing.")
@config_option
@click.pass_obj
def backup(
    load: Load,
    to: str | None,
    keys_to: str | None,
    keep_days: float | None,
    keep_keys_days: float | None,
    config: Path | None,
    *,
    keys_only: bool,
    dry_run: bool,
) -> None:
    """Copy the region as it is now to TO, while it runs: database, history, blobs, audit; its keys apart.

    Run it on the region's own machine. Broken off, run it again: it goes on. Chunks are sealed; without the keys part they
    say nothing.
    """
    from rocade.app import backing_up

    configuration = load(config)
    wanted = backing_up.wanted(configuration, to, keys_to, keep_days, keep_keys_days, keys_only=keys_only)
    if dry_run:
        for line in backing_up.plan(configuration, wanted):
            click.echo(line)
        return
    if not configuration.backup.keys_to:
        click.echo(
            "note: set [backup] keys_to, so that an erasure renews the keys part; after one, an older keys part opens nothing",
            err=True,
        )
    with _bar() as progress:
        said = backing_up.back_up(configuration, wanted, progress)
    for line in said:
        click.echo(line)


@click.command(
    epilog=example(
        "restore /mnt/backups --keys /mnt/safe/keys --ledger /mnt/ledger --into ./eu",
        "restore /mnt/backups --keys /mnt/safe/keys --ledger /mnt/ledger --into ./eu --dry-run",
    )
)
@click.argument("source", metavar="FROM")
@click.option("--keys", required=True, help="The place of the keys parts; the newest is used.")
@click.option(
    "--ledger",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder of the ledger of erasures: the region's newest, newer than the backup.",
)
@click.option(
    "--into", required=True, type=click.Path(path_type=Path), help="Where the region will stand; must not exist."
)
@click.option("--backup", "name", help="A backup's folder in FROM; default: the newest whole one.")
@click.option("--trust", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="The region's root certificate as you know it; default: that of the keys part.")  # fmt: skip
@click.option(
    "--take-over",
    is_flag=True,
    help="The region key is another party's: go on with it. The region that was backed up must not run any more.",
)
@click.option("--dry-run", is_flag=True, help="Check everything, every chunk too; write nothing.")
def restore(
    source: str,
    keys: str,
    ledger: Path,
    into: Path,
    name: str | None,
    trust: Path | None,
    *,
    take_over: bool,
    dry_run: bool,
) -> None:
    """Put a region back from FROM: checked, filled, erasures applied again, the audit log verified, and only then in place.

    Nothing listens before all of that is done. Broken off, run it again: it goes on.
    """
    from rocade.app import backing_up

    with _bar() as progress:
        said = backing_up.put_back(
            backing_up.Asked(source, keys, ledger, into, name, trust, take_over, dry_run), progress
        )
    for line in said:
        click.echo(line)


@contextmanager
def _bar() -> Iterator[Progress]:
    """A bar on a terminal; elsewhere a line for each tenth."""
    progress = Progress()
    if sys.stderr.isatty():
        with click.progressbar(length=1, file=sys.stderr, item_show_func=str, show_pos=False) as bar:

            def show(done: int, expected: int, what: str) -> None:
                bar.length = max(expected, 1)
                bar.current_item = f"{what} {done / 1e6:,.0f} of {expected / 1e6:,.0f} MB"
                bar.update(min(done, bar.length) - bar.pos)

            progress.show = show
            yield progress
        return
    told = [-1]

    def tell(done: int, expected: int, what: str) -> None:
        tenth = 10 * done // expected if expected else 0
        if tenth > told[0]:
            told[0] = tenth
            click.echo(f"{10 * tenth:3} % {done / 1e6:,.0f} MB ({what})", err=True)

    progress.show = tell
    yield progress


COMMANDS = (backup, restore)
