"""Commands that read data: each is one call of the HTTP API."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec

from rocade.app.client import ApiClient
from rocade.app.commands import Load, config_option, example
from rocade.app.commands.tables import Table

FORMATS = ("csv", "json", "arrow", "parquet")


def _instant(at_us: int | None) -> str:
    try:
        return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="seconds") if at_us else "-"
    except (ValueError, OverflowError):  # a vehicle may say any time
        return f"{at_us} us"


@click.command(epilog=example("vehicles --config ./eu", "vehicles --brand renault --json"))
@click.option("--brand", help="Only this brand.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of a table.")
@config_option
@click.pass_obj
def vehicles(load: Load, brand: str | None, config: Path | None, *, as_json: bool) -> None:
    """List the vehicles of the region."""
    with ApiClient(load(config)) as api:
        items = list(api.pages("/v1/vehicles", brand=brand))
    if as_json:
        for item in items:
            click.echo(_line(item))
        return
    table = Table("id", "kind", "brand", "model", "powertrain", "last seen (UTC)")
    for item in items:
        table.add(
            item["id"], item["kind"], item["brand"], item["model"], item["powertrain"], _instant(item.get("seen_us"))
        )
    table.show()
    click.echo(f"{len(items)} vehicles", err=True)


@click.command(epilog=example("twin VF1AAAAAAAA000001 --config ./eu"))
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
        table.add(
            item["name"],
            str(item["value"]),
            item["unit"],
            _instant(item["time_us"]),
            ", ".join(item["quality"]) or "good",
        )
    table.show()


@click.command(
    epilog=example(
        "history VF1AAAAAAAA000001 --signal Vehicle.Speed --config ./eu",
        "history VF1AAAAAAAA000001 --signal Vehicle.Speed --from 2026-11-01 --every 1h --agg max",
        "history VF1AAAAAAAA000001 --signal Vehicle.Speed --format parquet --out speed.parquet",
    )
)
@click.argument("vin")
@click.option("--signal", required=True, help="VSS name, for example Vehicle.Speed; brand names and old names too.")
@click.option("--from", "since", help="Start, ISO 8601 (UTC unless it says otherwise). Default: the beginning.")
@click.option("--to", "until", help="End, exclusive.")
@click.option("--every", help="Width of the windows when downsampling: 10s, 60s, 5m, 1h, 1d.")
@click.option(
    "--agg",
    type=click.Choice(["mean", "min", "max", "last", "count", "twa"]),
    help="What to say of each window (twa = time-weighted mean); default mean. Needs --every.",
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
    agg: str | None,
    form: str,
    out: Path | None,
    config: Path | None,
) -> None:
    """Print what VIN said of one signal: columns time, value, quality."""
    if agg and not every:
        raise click.UsageError("--agg says what to make of windows: give their width with --every 60s")
    parameters: dict[str, Any] = {"signal": signal, "from": since, "to": until, "format": form}
    if every:
        parameters |= {"every": every, "agg": agg or "mean"}
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


@click.group()
def audit() -> None:
    """The tamper-evident audit log."""


@audit.command("verify", epilog=example("audit verify --config ./eu"))
@config_option
@click.pass_obj
def audit_verify(load: Load, config: Path | None) -> None:
    """Check every entry against the signed tree heads; name the first that was altered, dropped, moved or cut off."""
    with ApiClient(load(config)) as api:
        answer = api.get("/v1/audit/verify")
    click.echo(_json(answer))
    if not answer["ok"]:
        sys.exit(1)


@audit.command("tail", epilog=example("audit tail -n 50 --config ./eu"))
@click.option("-n", "count", default=20, show_default=True)
@config_option
@click.pass_obj
def audit_tail(load: Load, count: int, config: Path | None) -> None:
    """Print the newest entries, newest first, one JSON object a line."""
    with ApiClient(load(config)) as api:
        for item in api.get("/v1/audit", limit=count)["items"]:
            click.echo(_line(item))


@click.group()
def quarantine() -> None:
    """Records that could not be taken in: look, repair, replay, drop."""


@quarantine.command("list", epilog=example("quarantine list --config ./eu"))
@config_option
@click.pass_obj
def quarantine_list(load: Load, config: Path | None) -> None:
    """List what is in quarantine, with reasons."""
    table = Table("id", "at (UTC)", "reason", "bytes")
    with ApiClient(load(config)) as api:
        for item in api.pages("/v1/quarantine"):
            table.add(str(item["id"]), _instant(item["at_us"]), item["reason"], f"{item['size_bytes']:,}")
    table.show()


def _one_quarantined(name: str, method: str, suffix: str, text: str) -> click.Command:
    @click.command(name, help=text, epilog=example(f"quarantine {name} 17 --config ./eu"))
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
    return str(api.get(f"/v1/vehicles/by-id/{quote(vin, safe='')}")["ref"])


def _line(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


COMMANDS = (vehicles, twin, history, audit, quarantine)
