"""Commands about charging stations: register, look at, limit, give orders, tags."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from rocade.app.client import ApiClient
from rocade.app.commands import Load, config_option, example
from rocade.app.commands.tables import Table
from rocade.core.errors import Refused

_evse = click.option(
    "--evse", type=click.IntRange(0, 1000), default=1, show_default=True, help="Its EVSE (1.6: connector)."
)


@click.group()
def stations() -> None:
    """Charging stations over OCPP: who may come in, what they draw, what they are limited to."""


@stations.command("add", epilog=example("stations add CP-1 --site depot-nord --config ./eu"))
@click.argument("station")
@click.option("--name", default="", help="For those who read lists.")
@click.option("--site", default="", help="The depot it stands at.")
@click.option("--profile", type=click.IntRange(1, 3), default=2, show_default=True, help="Least OCPP security profile.")
@click.option("--open", "is_open", is_flag=True, help="Anybody may charge; unknown tags are taken.")
@click.option("--phases", type=click.IntRange(1, 3), default=3, show_default=True, help="Phases of its supply.")
@click.option("--voltage", type=float, default=230.0, show_default=True, help="Between phase and neutral.")
@config_option
@click.pass_obj
def add(load: Load, /, station: str, config: Path | None, **facts: Any) -> None:
    """Register STATION; prints its password (profiles 1 and 2) or claim code (3), this once."""
    with ApiClient(load(config)) as api:
        made = api.post("/v1/stations", id=station, **_texts(facts))
    click.echo(made["password"] or made["claim_code"])


@stations.command("list", epilog=example("stations list --site depot-nord --config ./eu"))
@click.option("--site", default="", help="Only of this depot.")
@config_option
@click.pass_obj
def list_stations(load: Load, site: str, config: Path | None) -> None:
    """List registered stations: whether they are here, what they are, when they were heard last."""
    table = Table("station", "site", "line", "OCPP", "profile", "make and model", "heard (UTC)")
    with ApiClient(load(config)) as api:
        for one in api.pages("/v1/stations", site=site):
            line = "closed" if one["is_closed"] else "up" if one["is_here"] else "down"
            make = f"{one['vendor']} {one['model']} {one['firmware']}".strip()
            table.add(one["id"], one["site"], line, one["version"], str(one["profile"]), make, _time(one["seen_us"]))
    table.show()


@stations.command("show", epilog=example("stations show CP-1 --config ./eu"))
@click.argument("station")
@config_option
@click.pass_obj
def show(load: Load, station: str, config: Path | None) -> None:
    """Show connectors, open transactions, limits and how they stand, and what STATION has shown that it accepts."""
    with ApiClient(load(config)) as api:
        found = api.get(f"/v1/stations/{quote(station, safe='')}")
    connectors = Table("EVSE", "connector", "state", "error", "since (UTC)")
    for one in found["connectors"]:
        connectors.add(str(one["evse"]), str(one["connector"]), one["state"], one["error"], _time(one["at_us"]))
    connectors.show()
    running = Table("transaction", "EVSE", "began (UTC)", "kWh", "kW", "charge %")
    for one in found["open"]:
        kw = None if one["power_w"] is None else one["power_w"] / 1000
        values = [_value(number) for number in (one["energy_kwh"], kw, one["soc_percent"])]
        running.add(one["number"], str(one["evse"]), _time(one["began_us"]), *values)
    running.show()
    limits = Table("EVSE", "limit kW", "until (UTC)", "stands", "by", "why not")
    for one in found["limits"]:
        limit = one["limit"]
        by = f"{one['purpose']} {one['unit']}".strip()
        kw = ", ".join(_value(slot["power_kw"]) for slot in limit["slots"])
        limits.add(str(one["place"]["evse"]), kw, _time(limit["until_us"]), one["state"], by, one["code"])
    limits.show()
    ways = Table("purpose", "unit", "has shown", "last (UTC)", "why")
    for one in found["ways"]:
        ways.add(one["purpose"], one["unit"], one["proof"], _time(one["at_us"]), one["code"])
    ways.show()


@stations.command("password", epilog=example("stations password CP-1 --over-the-line --config ./eu"))
@click.argument("station")
@click.option("--at-once", is_flag=True, help="The old one ends now, not at the first use of the new one.")
@click.option("--over-the-line", is_flag=True, help="Set it at the station; then nobody sees it.")
@config_option
@click.pass_obj
def password(load: Load, station: str, at_once: bool, over_the_line: bool, config: Path | None) -> None:
    """Make a new password: printed once to be entered at STATION, or set there over its line."""
    with ApiClient(load(config)) as api:
        if over_the_line:
            _settled(api.post(f"/v1/stations/{quote(station, safe='')}/orders", act="password", wait_s=30))
        else:
            made = api.post(f"/v1/stations/{quote(station, safe='')}/password", at_once=str(at_once).lower())
            click.echo(made["password"])


@stations.command("set", epilog=example("stations set CP-1 --profile 3 --config ./eu"))
@click.argument("station")
@click.option("--name", help="For those who read lists.")
@click.option("--site", help="The depot it stands at.")
@click.option("--profile", type=click.IntRange(1, 3), help="Least OCPP security profile.")
@click.option("--open/--not-open", "is_open", default=None, help="Whether anybody may charge.")
@click.option("--closed/--not-closed", "is_closed", default=None, help="A closed station is sent away.")
@click.option("--phases", type=click.IntRange(1, 3), help="Phases of its supply.")
@click.option("--voltage", type=float, help="Between phase and neutral.")
@config_option
@click.pass_obj
def change(load: Load, /, station: str, config: Path | None, **facts: Any) -> None:
    """Change what is known of STATION."""
    with ApiClient(load(config)) as api:
        api.put(f"/v1/stations/{quote(station, safe='')}", **_texts(facts))


@stations.command("limit", epilog=example("stations limit CP-1 7.4 --hours 8 --config ./eu"))
@click.argument("station")
@click.argument("kw", type=click.FloatRange(0, 1000))
@_evse
@click.option("--hours", type=click.FloatRange(0.02, 168), default=24.0, show_default=True, help="When it ends.")
@config_option
@click.pass_obj
def limit(load: Load, station: str, kw: float, evse: int, hours: float, config: Path | None) -> None:
    """Limit an EVSE to KW (0 = pause), and say what its station made of it."""
    until_us = time.time_ns() // 1000 + round(hours * 3_600_000_000)
    with ApiClient(load(config)) as api:
        wanted = api.put(f"/v1/stations/{quote(station, safe='')}/limit", power_kw=kw, evse=evse, until_us=until_us)
        ends = time.monotonic() + 15
        while True:
            found = [
                one
                for one in api.get(f"/v1/stations/{quote(station, safe='')}")["limits"]
                if one["place"]["evse"] == evse
            ]
            now = found[0] if found else wanted
            if now["state"] != "wanted" or now["version"] != wanted["version"] or time.monotonic() > ends:
                break
            time.sleep(0.3)
    way = f" by {now['purpose']} in {now['unit']}" if now["purpose"] else ""
    click.echo(f"{now['state']}{way}{': ' + now['code'] if now['code'] else ''}")


@stations.command("unlimit", epilog=example("stations unlimit CP-1 --config ./eu"))
@click.argument("station")
@_evse
@config_option
@click.pass_obj
def unlimit(load: Load, station: str, evse: int, config: Path | None) -> None:
    """Take the limit of an EVSE away."""
    with ApiClient(load(config)) as api:
        api.delete(f"/v1/stations/{quote(station, safe='')}/limit", evse=evse)


def _order(act: str, help: str, *options: Any) -> click.Command:
    """A command that gives one order and says what became of it."""

    @click.argument("station")
    @config_option
    @click.pass_obj
    def run(load: Load, /, station: str, config: Path | None, **body: Any) -> None:
        with ApiClient(load(config)) as api:
            _settled(api.post(f"/v1/stations/{quote(station, safe='')}/orders", act=act, wait_s=30, **_texts(body)))

    for option in options:
        run = option(run)
    run.__doc__ = help
    return click.command(act, epilog=example(f"stations {act} CP-1{_SHOWN.get(act, '')} --config ./eu"))(run)


_SHOWN = {"stop": " --transaction 17", "trigger": " --message MeterValues"}
_transaction = click.option("--transaction", required=True, help="Its number, from `stations show`.")
_vehicle = click.option("--vehicle", help="Reference of the vehicle that is to charge.")
_hard = click.option("--hard", is_flag=True, help="At once, whatever runs.")
_message = click.option(
    "--message", required=True, help="BootNotification, Heartbeat, MeterValues or StatusNotification."
)
for _command in (
    _order("start", "Let STATION begin a charge; its tag is made for this one start.", _evse, _vehicle),
    _order("stop", "Let STATION end a charge.", _transaction),
    _order("reset", "Start STATION anew, as after a power cut.", _hard),
    _order("unlock", "Unlock the plug of an EVSE.", _evse),
    _order("trigger", "Ask STATION for a message now.", _message, _evse),
    _order("composite", "Read what all profiles of an EVSE come to for the next hour, as STATION says.", _evse),
    _order(
        "certify", "Let STATION ask for a certificate for its key, and hand it over (then: stations set --profile 3)."
    ),
):
    stations.add_command(_command)


@stations.command("values", epilog=example("stations values CP-1 --hours 2 --config ./eu"))
@click.argument("station")
@_evse
@click.option("--hours", type=click.FloatRange(0.01, 9000), default=24.0, show_default=True, help="How far back.")
@config_option
@click.pass_obj
def values(load: Load, station: str, evse: int, hours: float, config: Path | None) -> None:
    """Print meter values of an EVSE."""
    from_us = time.time_ns() // 1000 - round(hours * 3_600_000_000)
    table = Table("at (UTC)", "Wh", "W", "A", "charge %")
    with ApiClient(load(config)) as api:
        for one in api.get(f"/v1/stations/{quote(station, safe='')}/meter", evse=evse, from_us=from_us)["items"]:
            currents = " ".join(_value(number) for number in one.get("current_a", ()))
            table.add(
                _time(one["at_us"]), _value(one.get("energy_wh")), _value(one.get("power_w")), currents,
                _value(one.get("soc_percent")),
            )  # fmt: skip
    table.show()


@stations.command("events", epilog=example("stations events --station CP-1 --config ./eu"))
@click.option("--station", default="", help="Only of this one.")
@config_option
@click.pass_obj
def events(load: Load, station: str, config: Path | None) -> None:
    """List what happened at stations, the newest first."""
    table = Table("at (UTC)", "station", "EVSE", "what", "code")
    with ApiClient(load(config)) as api:
        for one in api.get("/v1/station-events", station=station)["items"]:
            table.add(_time(one["at_us"]), one["station"], str(one["evse"] or ""), one["kind"], one["code"])
    table.show()


@stations.command("tag", epilog=example("stations tag --vehicle VF1AAAAAAAA000001 --label 'van 7' --config ./eu"))
@click.option("--tag", prompt=True, hide_input=True, help="The tag; asked for if not given, so that no shell keeps it.")
@click.option("--vehicle", default="", help="VIN or serial of the vehicle it belongs to.")
@click.option("--label", default="", help="For those who read lists.")
@click.option("--blocked", "is_blocked", is_flag=True, help="It may not charge, for now.")
@config_option
@click.pass_obj
def tag(load: Load, tag: str, vehicle: str, label: str, is_blocked: bool, config: Path | None) -> None:
    """Let a tag charge, for a vehicle or for whoever bears it. Only a keyed digest of it is kept."""
    with ApiClient(load(config)) as api:
        ref = str(api.get("/v1/vehicles/by-id/" + vehicle)["ref"]) if vehicle else ""
        wanted = {"tag": tag, "vehicle": ref, "label": label, "is_blocked": is_blocked}
        click.echo(api.send("/v1/station-tags", json=wanted)["reference"])


@stations.command("tags", epilog=example("stations tags --config ./eu"))
@config_option
@click.pass_obj
def tags(load: Load, config: Path | None) -> None:
    """List tags by the reference they were given; none can be read back."""
    table = Table("reference", "label", "of a vehicle", "blocked")
    with ApiClient(load(config)) as api:
        for one in api.pages("/v1/station-tags"):
            table.add(
                one["reference"], one["label"], "yes" if one["vehicle"] else "", "yes" if one["is_blocked"] else ""
            )
    table.show()


@stations.command("untag", epilog=example("stations untag 3f9a12c477d0 --config ./eu"))
@click.argument("reference")
@config_option
@click.pass_obj
def untag(load: Load, reference: str, config: Path | None) -> None:
    """Drop a tag, by its reference."""
    with ApiClient(load(config)) as api:
        api.delete(f"/v1/station-tags/{reference}")


def _settled(order: dict[str, Any]) -> None:
    """Say what became of an order. Raises: Refused with the station's own word."""
    if order["state"] in {"failed", "expired"}:
        kind = order["answer"].get("kind")
        raise Refused(order["code"] or "stations.away", f"the station said {kind}" if kind else "it was not done")
    if order["state"] in {"queued", "sent"}:
        click.echo(f"order {order['id']} waits for the station")
        return
    for name, value in order["answer"].items():
        click.echo(f"{name}: {value}")


def _texts(facts: dict[str, Any]) -> dict[str, Any]:
    """As the API's query wants them."""
    return {key: str(value).lower() if isinstance(value, bool) else value for key, value in facts.items()}


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="seconds")[:19] if at_us else ""


def _value(number: float | None) -> str:
    return "" if number is None else f"{number:.2f}".rstrip("0").rstrip(".")


COMMANDS = [stations]
