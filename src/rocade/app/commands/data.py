"""Commands that read or erase data: each is one call of the HTTP API."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from rocade.app.client import ApiClient
from rocade.app.commands import Load, config_option

FORMATS = ("csv", "json", "arrow", "parquet")


def _instant(at_us: int | None) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="seconds") if at_us else "-"


@click.command()
@click.option("--brand", help="Only this brand.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of a table.")
@config_option
@click.pass_obj
def vehicles(load: Load, brand: str | None, config: Path | None, *, as_json: bool) -> None:
    """List the vehicles of the region."""
    with ApiClient(load(config)) as api:
        items = list(api.pages("/v1/vehicles", brand=brand))
    if as_json:
        import msgspec

        for item in items:
            click.echo(msgspec.json.encode(item).decode())
        return
    table = Table("id", "kind", "brand", "model", "powertrain", "last seen (UTC)")
    for item in items:
        table.add_row(
            item["id"], item["kind"], item["brand"], item["model"], item["powertrain"], _instant(item.get("seen_us"))
        )
    Console().print(table)
    click.echo(f"{len(items)} vehicles", err=True)


@click.command()
@click.argument("vin")
@click.option("--json", "as_json", is_flag=True, help="The API's answer as it is.")
@config_option
@click.pass_obj
def twin(load: Load, vin: str, config: Path | None, *, as_json: bool) -> None:
    """Show the latest value of every signal of VIN, with its time and quality."""
    with ApiClient(load(config)) as api:
        answer = api.get(f"/v1/vehicles/{_ref(api, vin)}/twin")
    if as_json:
        click.echo(_json(answer))
        return
    table = Table("signal", "value", "unit", "time (UTC)", "quality")
    for item in answer["signals"]:
        table.add_row(
            item["name"],
            str(item["value"]),
            item["unit"],
            _instant(item["time_us"]),
            ", ".join(item["quality"]) or "good",
        )
    Console().print(table)


@click.command()
@click.argument("vin")
@click.option("--signal", required=True, help="VSS name, for example Vehicle.Speed; brand names and old names too.")
@click.option("--from", "since", help="Start, ISO 8601 (UTC unless it says otherwise). Default: the beginning.")
@click.option("--to", "until", help="End, exclusive.")
@click.option("--every", help="Width of the windows when downsampling: 10s, 60s, 5m, 1h, 1d.")
@click.option(
    "--agg",
    type=click.Choice(["mean", "min", "max", "last", "twa"]),
    default="mean",
    show_default=True,
    help="What to say of each window (twa = time-weighted mean). Needs --every.",
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="csv", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="File to write; default standard output.")
@config_option
@click.pass_obj
def history(
    load: Load,
    vin: str,
    signal: str,
    since: str | None,
    until: str | None,
    every: str | None,
    agg: str,
    form: str,
    out: Path | None,
    config: Path | None,
) -> None:
    """Print what VIN said of one signal: columns time, value, quality."""
    parameters: dict[str, Any] = {"signal": signal, "from": since, "to": until, "format": form}
    if every:
        parameters |= {"every": every, "agg": agg}
    with ApiClient(load(config)) as api:
        path = f"/v1/vehicles/{_ref(api, vin)}/history"
        if out:
            with out.open("wb") as file:
                for chunk in api.stream(path, **parameters):
                    file.write(chunk)
            return
        for chunk in api.stream(path, **parameters):
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


@click.command()
@click.argument("vin")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would go, remove nothing.")
@config_option
@click.pass_obj
def erase(load: Load, vin: str, config: Path | None, *, yes: bool, dry_run: bool) -> None:
    """Remove VIN's readable data from twin and history, for good."""
    with ApiClient(load(config)) as api:
        ref = _ref(api, vin)
        plan = api.delete(f"/v1/vehicles/{ref}/data", dry_run="true")
        click.echo(f"{plan['points']:,} stored points and the twin of this vehicle", err=True)
        if dry_run:
            return
        if not yes:
            click.confirm("Erase them? This cannot be undone", abort=True, err=True)
        click.echo(_json(api.delete(f"/v1/vehicles/{ref}/data")))


@click.group()
def audit() -> None:
    """The tamper-evident audit log."""


@audit.command("verify")
@config_option
@click.pass_obj
def audit_verify(load: Load, config: Path | None) -> None:
    """Check every entry against the signed tree heads; name the first that was altered, dropped, moved or cut off."""
    with ApiClient(load(config)) as api:
        answer = api.get("/v1/audit/verify")
    click.echo(_json(answer))
    if not answer["ok"]:
        sys.exit(1)


@audit.command("tail")
@click.option("-n", "count", default=20, show_default=True)
@config_option
@click.pass_obj
def audit_tail(load: Load, count: int, config: Path | None) -> None:
    """Print the newest entries."""
    with ApiClient(load(config)) as api:
        for item in api.get("/v1/audit", limit=count)["items"]:
            click.echo(_json(item))


@click.group()
def quarantine() -> None:
    """Records that could not be taken in: look, repair, replay, drop."""


@quarantine.command("list")
@config_option
@click.pass_obj
def quarantine_list(load: Load, config: Path | None) -> None:
    """List what is in quarantine, with reasons."""
    table = Table("id", "at (UTC)", "reason", "bytes")
    with ApiClient(load(config)) as api:
        for item in api.pages("/v1/quarantine"):
            table.add_row(str(item["id"]), _instant(item["at_us"]), item["reason"], f"{item['size_bytes']:,}")
    Console().print(table)


def _one_quarantined(name: str, method: str, suffix: str, text: str) -> click.Command:
    @click.command(name, help=text)
    @click.argument("number", type=int)
    @config_option
    @click.pass_obj
    def run(load: Load, number: int, config: Path | None) -> None:
        with ApiClient(load(config)) as api:
            click.echo(_json(getattr(api, method)(f"/v1/quarantine/{number}{suffix}")))

    return run


quarantine.add_command(_one_quarantined("show", "get", "", "Show one record: reason, size, what can be read of it."))
quarantine.add_command(_one_quarantined("replay", "post", "/replay", "Send one record down the road again."))
quarantine.add_command(_one_quarantined("drop", "delete", "", "Remove one record for good."))


def _ref(api: ApiClient, vin: str) -> str:
    """The reference of a vehicle, asked of the registry by its VIN or serial."""
    return str(api.get("/v1/vehicles/by-id/" + vin)["ref"])


def _json(value: Any) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


COMMANDS = (vehicles, twin, history, erase, audit, quarantine)
