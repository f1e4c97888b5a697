"""Commands about charging: a vehicle's goal, plan, sessions; depots and their board; tariffs and CO2."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click
import msgspec

from rocade.app.client import ApiClient
from rocade.app.commands import Load, config_option, example
from rocade.app.commands.tables import Table
from rocade.core.money import amount

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_LOCAL = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_zone = click.option("--zone", default="UTC", show_default=True, help="Clock of local times, like Europe/Paris.")


def _goal_options[F: Any](command: F) -> F:
    for option in (
        click.option("--by", "by", default="", help="Ready by: 07:00, mon-fri 07:00 (every week), or 2026-11-23T07:00+01:00."),
        click.option("--calendar", type=click.Path(path_type=Path, exists=True), help="Ready by the events of an iCalendar file."),
        click.option("--word", default="", help="Only events with this word in their title or place."),
        _zone,
        click.option("--minimum", type=float, default=0.0, help="Percent that is charged first, at any price."),
        click.option("--green", type=float, default=0.0, help="0 = cheap, 1 = green, or anything between."),
        click.option("--care", is_flag=True, help="Charge what lies above 80 % as late as possible."),
        click.option("--tariff", default="", help="Price series."),
        click.option("--carbon", default="", help="CO2 series."),
        click.option("--power", type=float, default=0.0, help="Never more than so many kW."),
        config_option,
    ):  # fmt: skip
        command = option(command)
    return command


@click.group()
def charging() -> None:
    """Charging: say what is wanted, see the plan and what it saves, stop; depots under their limits; tariffs."""


# A vehicle ------------------------------------------------------------------------------------------------------------


@charging.command(
    "goal", epilog=example("charging goal VF1AAAAAAAA000001 80 --by 07:00 --zone Europe/Paris --tariff fr")
)
@click.argument("vehicle")
@click.argument("percent", type=click.FloatRange(0, 100, min_open=True))
@click.option("--dry-run", is_flag=True, help="Only show the plan it would get.")
@_goal_options
@click.pass_obj
def goal(load: Load, /, vehicle: str, percent: float, dry_run: bool, config: Path | None, **wanted: Any) -> None:
    """Charge VEHICLE (VIN or serial) to PERCENT by a departure."""
    body = _goal(percent, wanted)
    with ApiClient(load(config)) as api:
        path = f"/v1/vehicles/{_ref(api, vehicle)}/charging"
        plan = api.send(f"{path}/preview", json=body) if dry_run else api.put_body(path, _json(body))["plan"]
    _show_plan(plan)


@charging.command("show", epilog=example("charging show VF1AAAAAAAA000001 --config ./eu"))
@click.argument("vehicle")
@config_option
@click.pass_obj
def show(load: Load, vehicle: str, config: Path | None) -> None:
    """Show how a vehicle's charging stands: state, plan, session, what is wrong."""
    with ApiClient(load(config)) as api:
        one = api.get(f"/v1/vehicles/{_ref(api, vehicle)}/charging")
    now, goal_ = one["now"], one["goal"]
    soc = f"{now['soc_percent']:.0f} %" if now["soc_percent"] is not None else "unknown charge"
    cable = "plugged in" if now["is_plugged"] else "moving" if now["is_moving"] else "not plugged in"
    click.echo(f"{one['state']}: {soc}, {cable}, {now['power_kw']:g} kW")
    if goal_:
        click.echo(f"goal: {goal_['target_percent']:g} % by {_time(one['departure_us'])}")
    if one["plan"]:
        _show_plan(one["plan"])
    if one["session"]:
        click.echo(f"session: {_session(one['session'])}")
    for alert in one["alerts"]:
        click.echo(f"alert: {alert['code']} since {_time(alert['began_us'])}  (rocade why alert:{alert['id']})")


@charging.command("stop", epilog=example("charging stop VF1AAAAAAAA000001 --config ./eu"))
@click.argument("vehicle")
@config_option
@click.pass_obj
def stop(load: Load, vehicle: str, config: Path | None) -> None:
    """Stop: nothing is charged until `resume`."""
    with ApiClient(load(config)) as api:
        api.send(f"/v1/vehicles/{_ref(api, vehicle)}/charging/stop")
    click.echo("stopped")


@charging.command("resume", epilog=example("charging resume VF1AAAAAAAA000001 --config ./eu"))
@click.argument("vehicle")
@config_option
@click.pass_obj
def resume(load: Load, vehicle: str, config: Path | None) -> None:
    """Go on as the goal says."""
    with ApiClient(load(config)) as api:
        _show_plan(api.send(f"/v1/vehicles/{_ref(api, vehicle)}/charging/resume")["plan"])


@charging.command(
    "car", epilog=example("charging car VF1AAAAAAAA000001 --capacity 52 --power 11 --phases 3 --config ./eu")
)
@click.argument("vehicle")
@click.option("--capacity", "capacity_kwh", type=float, required=True, help="Usable capacity, kWh.")
@click.option("--power", "max_kw", type=float, required=True, help="The most it draws at a plug, kW.")
@click.option(
    "--least", "min_kw", type=float, default=1.4, show_default=True, help="The least it draws if it charges, kW."
)
@click.option("--phases", type=click.IntRange(1, 3), default=1, show_default=True, help="Phases it charges on.")
@click.option(
    "--efficiency", type=float, default=0.9, show_default=True, help="Share of the energy that reaches the battery."
)
@click.option(
    "--taper-from", "taper_from_percent", type=float, default=80.0, show_default=True, help="From here the power falls."
)
@click.option("--taper-to", "taper_to_kw", type=float, default=2.0, show_default=True, help="Power at 100 %, kW.")
@config_option
@click.pass_obj
def car(load: Load, /, vehicle: str, config: Path | None, **facts: Any) -> None:
    """Say what a car does not: its battery and plug."""
    with ApiClient(load(config)) as api:
        api.put_body(f"/v1/vehicles/{_ref(api, vehicle)}/charging/car", _json(facts))


@charging.command("sessions", epilog=example("charging sessions VF1AAAAAAAA000001 --config ./eu"))
@click.argument("vehicle")
@click.option("--count", type=click.IntRange(1, 200), default=20, show_default=True)
@config_option
@click.pass_obj
def sessions(load: Load, vehicle: str, count: int, config: Path | None) -> None:
    """List charging sessions with cost and CO2, against charged at once."""
    with ApiClient(load(config)) as api:
        found = api.get(f"/v1/vehicles/{_ref(api, vehicle)}/charging/sessions", limit=count)
    table = Table("session", "plugged in (UTC)", "unplugged", "kWh", "cost", "saved", "CO2 g", "saved g", "measured by")
    for one in found["items"]:
        money = amount(one["cost_minor"], one["currency"]) if one["currency"] else ""
        saved = amount(one["saved_minor"], one["currency"]) if one["currency"] else ""
        table.add(
            one["id"], _time(one["began_us"]), _time(one["ended_us"]), f"{one['energy_kwh']:.2f}", money, saved,
            str(one["co2_g"]), str(one["saved_g"]), one["source"],
        )  # fmt: skip
    table.show()


# Depots ---------------------------------------------------------------------------------------------------------------


@charging.command("sites", epilog=example("charging sites --config ./eu"))
@config_option
@click.pass_obj
def sites(load: Load, config: Path | None) -> None:
    """List the depots with their limits."""
    table = Table("depot", "name", "limits", "root kW", "tariff", "building kW", "sun kW")
    with ApiClient(load(config)) as api:
        for one in api.get("/v1/charging/sites")["items"]:
            root = next(node for node in one["nodes"] if not node["parent"])
            table.add(
                one["id"], one["name"], str(len(one["nodes"])), f"{root['limit_kw']:g}", one["tariff"],
                f"{one['building_kw']:g}", f"{one['solar_kw']:g}",
            )  # fmt: skip
    table.show()


@charging.command("site", epilog=example("charging site depot-nord ./depot.json --config ./eu"))
@click.argument("depot")
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@config_option
@click.pass_obj
def site(load: Load, depot: str, file: Path, config: Path | None) -> None:
    """Make or change a depot from a JSON FILE (see docs/charging.md)."""
    with ApiClient(load(config)) as api:
        made = api.put_body(f"/v1/charging/sites/{quote(depot, safe='')}", file.read_bytes())
    click.echo(f"{made['id']}: {len(made['nodes'])} limits")


@charging.command("place", epilog=example("charging place depot-nord VF1AAAAAAAA000001 --node row-a --config ./eu"))
@click.argument("depot")
@click.argument("vehicle")
@click.option("--node", default="", help="The limit it hangs under; none = the topmost.")
@click.option(
    "--priority", type=click.IntRange(-100, 100), default=0, show_default=True, help="Higher is served first."
)
@click.option("--connector", default="", help="Its connector, as station/evse.")
@click.option("--remove", is_flag=True, help="It charges there no more.")
@config_option
@click.pass_obj
def place(
    load: Load, depot: str, vehicle: str, node: str, priority: int, connector: str, remove: bool, config: Path | None
) -> None:
    """Say that VEHICLE charges at DEPOT."""
    with ApiClient(load(config)) as api:
        path = f"/v1/charging/sites/{quote(depot, safe='')}/places/{_ref(api, vehicle)}"
        if remove:
            api.delete(path)
        else:
            api.put_body(path, _json({"node": node, "priority": priority, "connector": connector}))


@charging.command("board", epilog=example("charging board depot-nord --config ./eu"))
@click.argument("depot")
@config_option
@click.pass_obj
def board(load: Load, depot: str, config: Path | None) -> None:
    """Show a depot now: its limit, its load, every car with the time it can still wait."""
    with ApiClient(load(config)) as api:
        found = api.get(f"/v1/charging/sites/{quote(depot, safe='')}/board")
    dimmed = ", dimmed" if found["is_dimmed"] else ""
    click.echo(
        f"{found['site']['name']}: {found['load_kw']:g} of {found['limit_kw'][0]:g} kW{dimmed};"
        f" planned {_time(found['made_us'])}, at most {found['gap']:.2%} from the optimum"
    )
    table = Table("vehicle", "car", "charge", "target", "leaves (UTC)", "kW", "can wait h", "state")
    for one in found["cars"]:
        soc = f"{one['soc_percent']:.0f} %" if one["soc_percent"] is not None else "?"
        laxity = f"{one['laxity_h']:.1f}" if one["laxity_h"] is not None else ""
        table.add(
            one["ref"], one["name"], soc, f"{one['target_percent']:g} %", _time(one["departure_us"]),
            f"{one['power_kw']:g}", laxity, one["state"],
        )  # fmt: skip
    table.show()


# Series ---------------------------------------------------------------------------------------------------------------


@charging.command("tariffs", epilog=example("charging tariffs --config ./eu"))
@config_option
@click.pass_obj
def tariffs(load: Load, config: Path | None) -> None:
    """List tariffs, CO2 series and loads, and how far each reaches."""
    table = Table("series", "name", "kind", "currency", "clock", "area", "published until (UTC)", "known until")
    with ApiClient(load(config)) as api:
        for one in api.get("/v1/charging/tariffs")["items"]:
            table.add(
                one["id"], one["name"], one["kind"], one["currency"], one["zone"], one["area"], _time(one["known_us"]),
                _time(one["until_us"]),
            )  # fmt: skip
    table.show()


@charging.command(
    "tariff", epilog=example("charging tariff fr --zone Europe/Paris --currency EUR --area FR --config ./eu")
)
@click.argument("series")
@click.option("--kind", type=click.Choice(["price", "co2", "building", "solar"]), default="price", show_default=True)
@click.option("--name", default="", help="For those who read lists.")
@click.option("--currency", default="", help="Of prices: three letters, ISO 4217.")
@click.option("--area", default="", help="Price zone its files must be for, like FR or its EIC; none = any.")
@_zone
@config_option
@click.pass_obj
def tariff(load: Load, /, series: str, config: Path | None, **facts: Any) -> None:
    """Make an empty SERIES; its kind, currency, clock and area stay."""
    facts["name"] = facts["name"] or series
    with ApiClient(load(config)) as api:
        api.put_body(f"/v1/charging/tariffs/{quote(series, safe='')}", _json(facts))


@charging.command("import", epilog=example("charging import fr ./day-ahead.xml --config ./eu"))
@click.argument("series")
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.option("--unit", default="", help="Where the file does not say it, like EUR/MWh or g/kWh.")
@click.option("--sequence", type=click.IntRange(0), default=0, help="Which auction, where a document holds several.")
@config_option
@click.pass_obj
def import_file(load: Load, series: str, file: Path, unit: str, sequence: int, config: Path | None) -> None:
    """Take a FILE of prices (CSV, ENTSO-E XML) or CO2 (CSV) into SERIES; whole or not at all."""
    with ApiClient(load(config)) as api:
        found = api.send(f"/v1/charging/tariffs/{quote(series, safe='')}/file", file=file, unit=unit, sequence=sequence)
    click.echo(f"{found['values']} values; {series} is published until {_time(found['tariff']['known_us'])} UTC")
    for note in found["notes"]:
        click.echo(f"  {note}")


def _goal(percent: float, wanted: dict[str, Any]) -> dict[str, Any]:
    return {
        "target_percent": percent, "departure": _departure(wanted), "minimum_percent": wanted["minimum"],
        "share_co2": wanted["green"], "care": wanted["care"], "tariff": wanted["tariff"], "carbon": wanted["carbon"],
        "power_limit_kw": wanted["power"],
    }  # fmt: skip


def _departure(wanted: dict[str, Any]) -> dict[str, Any]:
    """`07:00` is the next one on that clock, `mon-fri 07:00` every week, anything else an instant."""
    zone, by = wanted["zone"], wanted["by"].strip().lower()
    if wanted["calendar"]:
        return {
            "kind": "calendar",
            "zone": zone,
            "calendar": wanted["calendar"].read_text("utf-8"),
            "word": wanted["word"],
        }
    if not by:
        raise click.UsageError("say when the car has to be ready: --by or --calendar")
    days, _, clock = by.rpartition(" ")
    if (at := _LOCAL.fullmatch(clock)) and days:
        minute = int(at[1]) * 60 + int(at[2])
        return {"kind": "weekly", "zone": zone, "weekly": [{"weekday": day, "minute": minute} for day in _days(days)]}
    try:
        if at:
            now = datetime.now(ZoneInfo(zone))
            wall = datetime.combine(now.date(), time(int(at[1]), int(at[2])), now.tzinfo)
            when = wall if wall > now else wall + timedelta(days=1)
        else:
            when = datetime.fromisoformat(wanted["by"])
            when = when if when.tzinfo else when.replace(tzinfo=ZoneInfo(zone))
    except (ValueError, ZoneInfoNotFoundError) as error:
        raise click.BadParameter(str(error), param_hint="--by") from error
    return {"kind": "once", "zone": zone, "at_us": round(when.timestamp() * 1e6)}


def _days(text: str) -> list[int]:
    """`mon-fri`, `sat,sun`, `mon`."""
    found: list[int] = []
    for part in text.replace(" ", "").split(","):
        first, _, last = part.partition("-")
        if first[:3] not in DAYS or (last or first)[:3] not in DAYS:
            raise click.BadParameter(f"{part} is no day; write mon, mon-fri or sat,sun", param_hint="--by")
        begin, end = DAYS.index(first[:3]), DAYS.index((last or first)[:3])
        found += [day % 7 for day in range(begin, (end if end >= begin else end + 7) + 1)]
    return found


def _ref(api: ApiClient, vehicle: str) -> str:
    return str(api.get("/v1/vehicles", id=vehicle)["items"][0]["ref"])


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M") if at_us else ""


def _session(one: dict[str, Any]) -> str:
    money = f", {amount(one['cost_minor'], one['currency'])}" if one["currency"] else ""
    return f"since {_time(one['began_us'])}, {one['energy_kwh']:.2f} kWh{money}"


def _show_plan(plan: dict[str, Any]) -> None:
    if plan["currency"]:
        cost, once = (amount(plan[name], plan["currency"]) for name in ("cost_minor", "at_once_minor"))
        click.echo(f"plan {plan['version']}: {plan['energy_kwh']:.1f} kWh for {cost}; charged at once {once}")
    else:
        click.echo(f"plan {plan['version']}: {plan['energy_kwh']:.1f} kWh; no tariff is set")
    for begin, end, power in plan["pieces"]:
        click.echo(f"  {_time(begin)} to {_time(end)} UTC with {power:g} kW")
    if plan["shortfall_kwh"] > 0.05:
        reached = plan["soc_percent"][-1]
        click.echo(
            f"not reached: {reached:.0f} % at the departure, {plan['shortfall_kwh']:.1f} kWh are missing ({plan['reason']})"
        )
        if remedy := plan["remedy"]:
            ways = [
                f"leave {remedy['later_min']} minutes later" if remedy["later_min"] else "",
                f"ask for {remedy['target_percent']:g} %" if remedy["target_percent"] else "",
                f"give {remedy['power_kw']:g} kW" if remedy["power_kw"] else "",
            ]
            click.echo("it would be reached if you " + ", or ".join(way for way in ways if way))


COMMANDS = [charging]
