"""Commands about the raw batch archive: what is there, and a vehicle's batches once more down the road."""

from __future__ import annotations

import re
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
    """Objects and bytes of each day (UTC)."""
    import asyncio

    from rocade.app.archiving import archive_of

    found = asyncio.run(archive_of(load(config)).days())
    table = Table("day (UTC)", "objects", "bytes")
    for day, (objects, size_bytes) in sorted(found.items()):
        table.add(day, f"{objects:,}", f"{size_bytes:,}")
    table.show()


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
            return await archive_of(configuration).replay(log, int(ref), _us(since, 0), _us(until, FAR_US))

    click.echo(f"{act(configuration, work):,} batches are on the road again")


def _us(instant: datetime | None, otherwise: int) -> int:
    return otherwise if instant is None else int(instant.replace(tzinfo=UTC).timestamp() * 1e6)


COMMANDS = (archive,)
