"""`rocade sandbox`: a hub, three dealers and a pretend DMS on this machine, for who builds a dealer management system."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import click
import msgspec

from rocade.app import logs
from rocade.app.commands import example


@click.command(epilog=example("sandbox ./try", "sandbox ./try --rehearse --report report.json"))
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--port", default=0, help="Where the hub listens on loopback; 0 = a free port.")
@click.option("--sftp", "sftp_port", default=0, help="Open drop folders over SFTP on this port of loopback; 0 = none.")
@click.option("--for", "seconds", type=float, help="End by itself after so many seconds.")
@click.option("--rehearse", is_flag=True, help="Let our own client go through the whole day, then end.")
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Write the conformance report here, as JSON."
)
def sandbox(
    directory: Path, port: int, sftp_port: int, seconds: float | None, report: Path | None, *, rehearse: bool
) -> None:
    """A hub, three points of sale and a pretend DMS in DIRECTORY; ends with a conformance report.

    Exit code 1 if somebody called and was found not conformant.
    """
    logs.quiet()
    sys.exit(asyncio.run(_run(directory, (port, sftp_port), seconds, report, is_rehearsal=rehearse)))


async def _run(
    directory: Path, ports: tuple[int, int], seconds: float | None, file: Path | None, *, is_rehearsal: bool
) -> int:
    from rocade.app.roles import stop_event
    from rocade.app.sandbox.hub import opened
    from rocade.app.sandbox.rehearsal import rehearse
    from rocade.core.ports import SystemClock

    async with opened(directory, *ports) as running:
        click.echo(f"hub: {running.address}   WSDL: {running.address}/v1/soap?wsdl")
        for name, place in running.identities.items():
            click.echo(f"identity of {name}: {place}")
        if ports[1]:
            click.echo(f"sftp: rue-haute@localhost, port {ports[1]}, with the key.pem of its identity")
        click.echo("price list lune-fr; send orders to the service `orders`; docs/formats.md shows the first steps")
        if is_rehearsal:
            identity = running.identities["rue-haute"]
            for line in await asyncio.to_thread(rehearse, running.address, identity, SystemClock().now_us()):
                click.echo(f"  {line}")
        else:
            stopping = stop_event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), seconds)
        click.echo(running.text())
        if file is not None:
            await asyncio.to_thread(file.write_bytes, msgspec.json.encode(running.reports()))
        return int(any(not one.is_conformant for one in running.reports()))


COMMANDS = (sandbox,)
