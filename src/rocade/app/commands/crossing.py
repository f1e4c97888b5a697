"""Commands at the wall between regions: draft an export, look at all of it, release it, carry it over, accept one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec

from rocade.app.client import ApiClient
from rocade.app.commands import Load, config_option, example
from rocade.app.commands.tables import Table

_day = click.DateTime(["%Y-%m-%d"])


@click.group()
def crossing() -> None:
    """The wall between regions: what may leave this one, seen whole before it does, and what came."""


@crossing.command("topics", epilog=example("crossing topics --config ./eu"))
@config_option
@click.pass_obj
def topics(load: Load, config: Path | None) -> None:
    """List all that may leave a region."""
    with ApiClient(load(config)) as api:
        items = api.get("/v1/crossing/topics")["items"]
    table = Table("topic", "columns", "what it is")
    for one in items:
        table.add(one["name"], ", ".join(one["columns"]), one["about"])
    table.show()


@crossing.command(
    "draft",
    epilog=example(
        "crossing draft fleet.daily --to cn --signal Vehicle.Speed --from 2026-11-01 --until 2026-11-08 --config ./eu",
        "crossing draft fleet.models --to cn --note 'for the yearly report' --config ./eu",
    ),
)
@click.argument("topic")
@click.option("--to", required=True, help="The region it would go to.")
@click.option("--from", "begin", type=_day, help="First day (UTC). Default: 7 days ago.")
@click.option("--until", "end", type=_day, help="Day after the last (UTC). Default: today.")
@click.option("--signal", "signals", multiple=True, help="A signal of fleet.daily; may be repeated.")
@click.option("--note", default="", help="Why, for who has to decide and for those who look later.")
@config_option
@click.pass_obj
def draft(
    load: Load, topic: str, to: str, begin: datetime | None, end: datetime | None, signals: tuple[str, ...], note: str,
    config: Path | None,
) -> None:  # fmt: skip
    """Make what would cross under TOPIC; nothing leaves by it."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    until = end.replace(tzinfo=UTC) if end else today
    since = begin.replace(tzinfo=UTC) if begin else until - timedelta(days=7)
    body = {
        "topic": topic, "to": to, "from_us": _us(since), "until_us": _us(until), "signals": signals, "note": note,
    }  # fmt: skip
    with ApiClient(load(config)) as api:
        made = api.send("/v1/crossing/exports", json=body)
        _show(api.get(f"/v1/crossing/exports/{made['number']}"))
    click.echo(f"nothing has left; somebody else releases it: rocade crossing release {made['number']}")


@crossing.command("list", epilog=example("crossing list --config ./eu"))
@config_option
@click.pass_obj
def list_(load: Load, config: Path | None) -> None:
    """Drafted, released and dropped exports, and what was accepted."""
    with ApiClient(load(config)) as api:
        exports, arrivals = api.get("/v1/crossing/exports")["items"], api.get("/v1/crossing/arrivals")["items"]
    table = Table("number", "topic", "region", "days (UTC)", "lines", "state")
    for one in exports:
        table.add(str(one["number"]), one["topic"], f"to {one['to']}", _days(one), str(one["rows"]), one["state"])
    for one in arrivals:
        table.add(str(one["number"]), one["topic"], f"from {one['origin']}", _days(one), str(one["rows"]), "accepted")
    table.show()


@crossing.command("show", epilog=example("crossing show 7 --config ./eu"))
@click.argument("number", type=int)
@config_option
@click.pass_obj
def show(load: Load, number: int, config: Path | None) -> None:
    """Show exactly what would cross, or did."""
    with ApiClient(load(config)) as api:
        _show(api.get(f"/v1/crossing/exports/{number}"))


@crossing.command(
    "release",
    epilog=example("crossing release 7 --config ./eu", "crossing release 7 --identity ./ben --yes --config ./eu"),
)
@click.argument("number", type=int)
@click.option("--yes", is_flag=True, help="Do not ask after showing it.")
@click.option(
    "--identity",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the operator who releases, where the region's own has drafted (rocade enroll --kind operator).",
)
@config_option
@click.pass_obj
def release(load: Load, number: int, identity: Path | None, config: Path | None, *, yes: bool) -> None:
    """Show export NUMBER and let exactly that cross; never by who drafted it."""
    with ApiClient(load(config), identity=identity) as api:
        found = api.get(f"/v1/crossing/exports/{number}")
        _show(found)
        if not yes:
            click.confirm(f"Let these lines leave for region {found['draft']['to']}?", abort=True)
        api.post(f"/v1/crossing/exports/{number}/{found['draft']['sha256']}/release")
    click.echo(f"released; carry it over: rocade crossing fetch {number} --out crossing-{number}.json")


@crossing.command("drop", epilog=example("crossing drop 7 --config ./eu"))
@click.argument("number", type=int)
@config_option
@click.pass_obj
def drop(load: Load, number: int, config: Path | None) -> None:
    """Put a draft away for good."""
    with ApiClient(load(config)) as api:
        api.post(f"/v1/crossing/exports/{number}/drop")
    click.echo(f"export {number} is dropped; it will never cross")


@crossing.command("fetch", epilog=example("crossing fetch 7 --out crossing-7.json --config ./eu"))
@click.argument("number", type=int)
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Where the file goes.")
@config_option
@click.pass_obj
def fetch(load: Load, number: int, out: Path, config: Path | None) -> None:
    """Write the signed packet of a released export."""
    with ApiClient(load(config)) as api:
        out.write_bytes(b"".join(api.stream(f"/v1/crossing/exports/{number}/packet")))
    click.echo(f"{out}: to be accepted by the region it names")


@crossing.command("pin", epilog=example("crossing pin eu eu-root.pem --config ./cn"))
@click.argument("region")
@click.argument("root", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@config_option
@click.pass_obj
def pin(load: Load, region: str, root: Path, config: Path | None) -> None:
    """Believe packets of REGION that this ROOT certificate vouches for; get it from its people by another way."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    pem = root.read_bytes()
    try:
        fingerprint = x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex()
    except ValueError:
        raise click.BadParameter("this file holds no certificate (PEM)", param_hint="ROOT") from None
    body = msgspec.json.encode({"root": pem.decode()})
    with ApiClient(load(config)) as api:
        api.put_body(f"/v1/crossing/neighbours/{quote(region, safe='')}/{fingerprint}", body)
    click.echo(f"packets of region {region} may be accepted here now; its root is {fingerprint}")


@crossing.command("accept", epilog=example("crossing accept crossing-7.json --config ./cn"))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@config_option
@click.pass_obj
def accept(load: Load, file: Path, config: Path | None) -> None:
    """Take in a packet that another region released for this one."""
    with ApiClient(load(config)) as api:
        one = api.send(f"/v1/crossing/arrivals/{sha256(file.read_bytes()).hexdigest()}", file=file)
    click.echo(f"accepted number {one['number']} of region {one['origin']}: {one['topic']}, {one['rows']} lines")


def _show(found: dict[str, Any]) -> None:
    draft, packet = found["draft"], found["packet"]
    click.echo(f"export {draft['number']}: {draft['topic']} to region {draft['to']}, {_days(draft)}, {draft['state']}")
    table = Table(*packet["columns"])
    for row in packet["rows"]:
        table.add(*(str(cell) for cell in row))
    table.show()
    for why, count in draft["left_out"].items():
        click.echo(f"left out: {count} ({why})")
    click.echo(f"{draft['rows']} lines, SHA-256 {draft['sha256']}")


def _days(one: dict[str, Any]) -> str:
    first, last = (datetime.fromtimestamp(one[name] / 1e6, UTC) for name in ("from_us", "until_us"))
    return f"{first:%Y-%m-%d} to {last - timedelta(days=1):%Y-%m-%d}"


def _us(instant: datetime) -> int:
    return int(instant.timestamp() * 1_000_000)


COMMANDS = (crossing,)
