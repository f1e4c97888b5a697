"""Commands about the grid and batteries: signals to depots, who may send them, what a depot saved; a battery's health."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec

from rocade.app.client import ApiClient
from rocade.app.commands import Load, config_option, example
from rocade.app.commands.charging import charging
from rocade.app.commands.tables import Table
from rocade.core.money import amount

_day = click.DateTime(["%Y-%m-%d"])


@charging.command("report", epilog=example("charging report depot-nord --from 2026-11-01 --config ./eu"))
@click.argument("site")
@click.option("--from", "begin", type=_day, help="First day (UTC). Default: 31 days ago.")
@click.option("--until", "end", type=_day, help="Day after the last (UTC). Default: now.")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
@config_option
@click.pass_obj
def report(load: Load, site: str, begin: datetime | None, end: datetime | None, form: str, config: Path | None) -> None:
    """What planning avoided at a depot: cost, CO2 and peak, against charged at once."""
    until = end.replace(tzinfo=UTC) if end else datetime.now(UTC)
    since = begin.replace(tzinfo=UTC) if begin else until - timedelta(days=31)
    asked = {"from_us": _us(since), "until_us": _us(until)}
    with ApiClient(load(config)) as api:
        path = f"/v1/charging/sites/{quote(site, safe='')}/report"
        if form == "csv":
            click.echo(b"".join(api.stream(f"{path}.csv", **asked)).decode(), nl=False)
            return
        found = api.get(path, **asked)
    if form == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    table = Table("", "planned", "charged at once", "avoided")
    for money in found["money"]:
        sums = (amount(money[name], money["currency"]) for name in ("cost_minor", "at_once_minor", "avoided_minor"))
        table.add(f"cost, {money['currency']}", *sums)
    table.add("CO2, kg", *(f"{found[name] / 1000:.1f}" for name in ("co2_g", "at_once_g", "avoided_g")))
    table.add("peak, kW", *(f"{found[name]:.1f}" for name in ("peak_kw", "at_once_peak_kw", "avoided_peak_kw")))
    table.show()
    click.echo(f"{found['energy_kwh']:.1f} kWh in {found['sessions']} sessions of {found['vehicles']} vehicles")
    if found["signals"]:
        click.echo(f"{found['signals_kept']} of {found['signals']} grid signals kept within the control period")
    if found["unmeasured"]:
        click.echo(f"{found['unmeasured']} sessions without measured power: their part of the peak is a mean")


@charging.command("dim", epilog=example("charging dim depot-nord 20 --minutes 60 --signal evening-1 --config ./eu"))
@click.argument("site")
@click.argument("limit_kw", type=click.FloatRange(0))
@click.option(
    "--minutes",
    type=click.FloatRange(0, 31 * 1440, min_open=True),
    required=True,
    help="It ends by itself after so long.",
)
@click.option("--signal", required=True, help="Its id: the same id again changes it.")
@config_option
@click.pass_obj
def dim(load: Load, site: str, limit_kw: float, minutes: float, signal: str, config: Path | None) -> None:
    """Limit what a depot's charging draws, from now on, as a grid operator would."""
    body = {"signal": signal, "limit_kw": limit_kw, "duration_s": max(round(minutes * 60), 1)}
    with ApiClient(load(config)) as api:
        _show_signal(api.send(f"/v1/charging/sites/{quote(site, safe='')}/dimming", json=body))


@charging.command("signals", epilog=example("charging signals depot-nord evening-1 --config ./eu"))
@click.argument("site")
@click.argument("signal", default="")
@click.option("--end", is_flag=True, help="Call this signal off.")
@config_option
@click.pass_obj
def signals(load: Load, site: str, signal: str, end: bool, config: Path | None) -> None:
    """List a depot's grid signals, or show one with the proof of what was done."""
    if end and not signal:
        raise click.UsageError("name the signal to call off")
    path = f"/v1/charging/sites/{quote(site, safe='')}/dimming"
    with ApiClient(load(config)) as api:
        if signal:
            one = f"{path}/{quote(signal, safe='')}"
            _show_signal(api.delete(one) if end else api.get(one))
            return
        found = api.get(path)["items"]
    table = Table("signal", "from", "limit kW", "from (UTC)", "until", "state", "kept in time")
    for one in found:
        dimming = one["dimming"]
        table.add(
            dimming["signal"], one["received"]["party"], f"{dimming['limit_kw']:g}", _time(dimming["from_us"]),
            _time(dimming["until_us"]), one["state"], _yes(one["within_period"]),
        )  # fmt: skip
    table.show()


@charging.command("grid", epilog=example("charging grid depot-nord --bind partner:netz-nord --config ./eu"))
@click.argument("site")
@click.option("--bind", default="", help="Let this partner dim the depot.")
@click.option("--unbind", default="", help="Let it no longer.")
@config_option
@click.pass_obj
def grid(load: Load, site: str, bind: str, unbind: str, config: Path | None) -> None:
    """Show or change which partners may dim a depot."""
    path = f"/v1/charging/sites/{quote(site, safe='')}/grid"
    with ApiClient(load(config)) as api:
        if bind:
            api.put(f"{path}/{quote(bind, safe='')}")
        if unbind:
            api.delete(f"{path}/{quote(unbind, safe='')}")
        for party in api.get(path)["items"]:
            click.echo(party)


@click.command(
    "battery",
    epilog=example("battery VF1AAAAAAAA000001 --config ./eu", "battery VF1AAAAAAAA000001 --passport > passport.json"),
)
@click.argument("vehicle")
@click.option("--passport", is_flag=True, help="The fields of an EU battery passport this platform knows, as JSON.")
@config_option
@click.pass_obj
def battery(load: Load, vehicle: str, passport: bool, config: Path | None) -> None:
    """Show the state of health of VEHICLE's battery (VIN or serial) with its interval, or why there is none."""
    with ApiClient(load(config)) as api:
        path = f"/v1/vehicles/{api.get('/v1/vehicles', id=vehicle)['items'][0]['ref']}/battery"
        if passport:
            click.echo(msgspec.json.format(msgspec.json.encode(api.get(f"{path}/passport")), indent=2).decode())
            return
        found = api.get(path)
    how = found["how"]
    click.echo(found["said"])
    if found["capacity_kwh"] is not None:
        kwh = f"{found['capacity_kwh']:.1f} kWh ({found['capacity_low']:.1f} to {found['capacity_high']:.1f})"
        new = f", {found['pack']['new_kwh']:g} kWh when new" if found["pack"]["new_kwh"] else ""
        click.echo(f"capacity: {kwh}{new}")
    if found["reported_percent"] is not None:
        click.echo(f"the vehicle itself says {found['reported_percent']:g} %")
    click.echo(
        f"found by: {how['method']}, {how['charges']} charges and {how['drives']} drives ({how['used']} of {how['needed']} needed)"
    )
    for why, count in found["how"]["left_out"].items():
        click.echo(f"left out, {why}: {count}")
    for flag in how["flags"]:
        click.echo(f"beware: {flag}")
    click.echo(f"rocade why battery:{found['ref']}")


def _show_signal(one: dict[str, Any]) -> None:
    dimming = one["dimming"]
    until = _time(dimming["until_us"])
    click.echo(
        f"{dimming['signal']}: {one['state']}, at most {dimming['limit_kw']:g} kW until {until}, kept in time: {_yes(one['within_period'])}"
    )
    if one["proof"]:
        table = Table("at (UTC)", "what", "vehicle", "kW", "code")
        for line in one["proof"]:
            kw = "" if line["kw"] is None else f"{line['kw']:.2f}"
            table.add(_time(line["at_us"]), line["what"], str(line["ref"] or ""), kw, line["code"])
        table.show()


def _yes(value: bool | None) -> str:
    return "not known yet" if value is None else "yes" if value else "no"


def _us(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")


COMMANDS = [battery]
