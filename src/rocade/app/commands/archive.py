"""Commands about the raw batch archive: what is there, what is gone, and a vehicle's batches once more down the road."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import click

from rocade.app.commands import Load, config_option, example
from rocade.app.commands.tables import Table
from rocade.core.identifiers import VehicleRef

FAR_US = 1 << 62
_INSTANT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])


@click.group()
def archive() -> None:
    """What vehicles sent, sealed as it came, kept longer than the log keeps it; docs/sealing.md."""


@archive.command("list", epilog=example("archive list --config ./eu"))
@config_option
@click.pass_obj
def list_days(load: Load, config: Path | None) -> None:
    """Objects and bytes of each day (UTC), and how many are gone that must be there; exit code 1 if one is."""
    from rocade.app.archiving import archive_of
    from rocade.app.local import Hand, act
    from rocade.services.telemetry.archive import Checked, absent, day_in

    configuration = load(config)

    async def work(hand: Hand) -> tuple[dict[str, tuple[int, int]], Checked]:
        archive = archive_of(configuration, hand.database)
        return await archive.days(), await archive.check()

    found, checked = act(configuration, work)
    gone = Counter(map(day_in, checked.absent))
    table = Table("day (UTC)", "objects", "bytes", "absent")
    for day in sorted(found.keys() | gone):
        objects, size_bytes = found.get(day, (0, 0))
        table.add(day, f"{objects:,}", f"{size_bytes:,}", f"{gone[day]:,}")
    table.show()
    if checked.absent:
        raise absent(checked.absent)


@archive.command("check", epilog=example("archive check --config ./eu", "archive check --read --config ./eu"))
@click.option(
    "--read", "is_whole", is_flag=True, help="Read every object, not only those that are gone or known to be damaged."
)
@click.option("--write-off", is_flag=True, help="Miss those that are gone no longer; recorded in the audit log.")
@config_option
@click.pass_obj
def check(load: Load, config: Path | None, *, is_whole: bool, write_off: bool) -> None:
    """Hold what must be there against what is: name each object that is gone or damaged; exit code 1 if one is."""
    from rocade.app.archiving import archive_of
    from rocade.app.local import Hand, act
    from rocade.services.telemetry.archive import Checked

    configuration = load(config)

    async def work(hand: Hand) -> Checked:
        archive = archive_of(configuration, hand.database)
        found = await archive.check(is_whole=is_whole)
        if write_off and found.absent:
            first = min(found.absent)
            await hand.record("telemetry.archive.written_off", "archive", objects=len(found.absent), first=first)
            await archive.give_up(found.absent)
        return found

    found = act(configuration, work)
    for code, names in (("archive.absent", found.absent), ("archive.corrupt", found.damaged)):
        for name in names:
            click.echo(f"{code} {name}")
    written_off = ", written off" if write_off and found.absent else ""
    click.echo(
        f"{found.objects:,} objects must be there: {len(found.absent):,} are gone{written_off},"
        f" {len(found.damaged):,} damaged", err=True,
    )  # fmt: skip
    if found.damaged or (found.absent and not write_off):
        raise SystemExit(1)


@archive.command("replay", epilog=example("archive replay VF1AAAAAAAA000001 --since 2026-11-20 --config ./eu"))
@click.argument("vehicle")
@click.option("--since", type=_INSTANT, help="From this arrival on (UTC).")
@click.option("--until", type=_INSTANT, help="Until before this arrival (UTC).")
@config_option
@click.pass_obj
def replay(load: Load, vehicle: str, since: datetime | None, until: datetime | None, config: Path | None) -> None:
    """Put the archived batches of VEHICLE (a VIN or serial number, or its reference) into the log again.

    What the region has already it drops, by the numbers of the batches.
    """
    from rocade.app.archiving import archive_of
    from rocade.app.local import Hand, act
    from rocade.app.wiring import Common, open_log
    from rocade.core.ports import SystemRandom
    from rocade.services.vehicles import Registry

    configuration = load(config)

    async def work(hand: Hand) -> int:
        parts = Common(configuration, hand.clock, SystemRandom(), hand.database, hand.audit, hand.keyring)
        registry = Registry(hand.database, hand.random, hand.clock)
        is_ref = re.fullmatch(r"[0-9]{1,19}", vehicle) is not None
        ref = VehicleRef(int(vehicle)) if is_ref else (await registry.resolve(vehicle)).ref
        await hand.record("telemetry.archive.replay", f"vehicle:{ref}")
        async with open_log(parts) as log:
            return await archive_of(configuration, hand.database).replay(
                log, int(ref), _us(since, 0), _us(until, FAR_US)
            )

    click.echo(f"{act(configuration, work):,} batches are on the road again")


def _us(instant: datetime | None, otherwise: int) -> int:
    return otherwise if instant is None else int(instant.replace(tzinfo=UTC).timestamp() * 1e6)


COMMANDS = (archive,)
