"""The command that tells a vehicle to do something, and shows what became of it: one call of the HTTP API, then its events."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec

from rocade.app.client import ApiClient
from rocade.app.commands import Load, config_option, example
from rocade.app.commands.tables import Table
from rocade.core.errors import Refused
from rocade.wire.commands import ACTS

IN_ORDER = {
    "charge.limit": ("percent", "current_a"),
    "charge.schedule": ("slots",),
    "charge.timer": ("departure_us", "target_percent"),
    "climate.precondition": ("temperature_c", "until_us"),
    "attention.horn": ("seconds",),
    "attention.lights": ("seconds",),
}
"""Parameters in the order in which they are written without their names."""


def instant_us(text: str, now: datetime) -> int:
    """`07:00` = the next time it is that late here, `+30m`, `+2h`, or an ISO 8601 instant. Raises: Refused `app.time.unreadable`."""
    try:
        if text[:1] == "+" and text[-1:] in "mh":
            passed = float(text[1:-1])
            at = now + (timedelta(minutes=passed) if text[-1] == "m" else timedelta(hours=passed))
        elif len(text) <= 5 and ":" in text:
            hour, minute = map(int, text.split(":"))
            at = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
            at = at if at > now else at + timedelta(days=1)
            at = at.replace(tzinfo=None).astimezone()  # the offset of that day, not of this one
        else:
            at = datetime.fromisoformat(text)
            at = at if at.tzinfo else at.astimezone()
    except (ValueError, OverflowError) as error:
        raise Refused(
            "app.time.unreadable", f"{text!r} is no time; write 07:00, +30m or 2026-11-22T07:00+01:00"
        ) from error
    return int(at.timestamp() * 1e6)


def parameters_of(act: str, given: tuple[str, ...], now: datetime) -> dict[str, Any]:
    """What follows an act: values in order, or `name=value`; instants as `--by` takes them, slots as START/END/KW,...

    Raises: Refused `app.time.unreadable`, `command.parameters.malformed`.
    """
    names = list(IN_ORDER.get(act, ()))
    found: dict[str, Any] = {}
    for text in given:
        name, has_name, value = text.partition("=")
        if not has_name:
            if not names:
                raise Refused("command.parameters.malformed", f"{act} takes no parameter {text!r}")
            name, value = names[0], text
        if name in names:
            names.remove(name)
        if name == "slots":
            slots = [one.split("/") for one in value.split(",") if one]
            if any(len(one) != 3 for one in slots):
                raise Refused("command.parameters.malformed", "write a slot as START/END/KW, several with commas")
            found[name] = [[instant_us(begin, now), instant_us(end, now), float(power)] for begin, end, power in slots]
        elif name.endswith("_us"):
            found[name] = instant_us(value, now)
        else:
            try:
                found[name] = int(value) if value.lstrip("-").isdigit() else float(value)
            except ValueError:
                raise Refused("command.parameters.malformed", f"{name}: {value!r} is no number") from None
    return found


KNOWN = """\b
Acts:
  charge.start, charge.stop, charge.limit PERCENT [CURRENT_A]
  charge.schedule START/END/KW,...      charge.timer DEPARTURE PERCENT
  climate.precondition CELSIUS UNTIL, climate.stop
  doors.lock, doors.unlock, attention.horn SECONDS, attention.lights SECONDS
  location.report, power.wake

"""


@click.command(
    epilog=KNOWN
    + example(
        "command VF1AAAAAAAA000001 charge.limit 80 --by 07:00 --wait --config ./eu",
        "command VF1AAAAAAAA000001 climate.precondition 21 until_us=07:30 --config ./eu",
        "command VF1AAAAAAAA000001 charge.schedule 01:00/03:30/7.4 --config ./eu",
        "command VF1AAAAAAAA000001 --config ./eu",
    )
)
@click.argument("vehicle")
@click.argument("act", required=False)
@click.argument("parameters", nargs=-1)
@click.option(
    "--by", default="", help="Deadline: 07:00, +30m or an ISO instant; default: a quarter of an hour from now."
)
@click.option("--key", default="", help="A word of your own that makes repeating this command harmless.")
@click.option("--wait", is_flag=True, help="Show what happens until it is over; exit code 1 unless it was proven.")
@click.option("--json", "as_json", is_flag=True, help="The answer as JSON.")
@config_option
@click.pass_obj
def command(
    load: Load, vehicle: str, act: str | None, parameters: tuple[str, ...], by: str, key: str, config: Path | None, *,
    wait: bool, as_json: bool,
) -> None:  # fmt: skip
    """Tell VEHICLE (VIN or serial) to do ACT; without an act list what it was told before."""
    now = datetime.now().astimezone()
    wanted: dict[str, Any] = {}
    if act is not None:
        by_us = instant_us(by, now) if by else 0
        wanted = {"act": act, "parameters": parameters_of(act, parameters, now), "by_us": by_us, "key": key}
    with ApiClient(load(config)) as api:
        ref = api.get(f"/v1/vehicles/by-id/{quote(vehicle, safe='')}")["ref"]
        if act is None:
            _list(api, ref, as_json=as_json)
            return
        given = api.send(f"/v1/vehicles/{ref}/commands", json=wanted)
        if not wait:
            click.echo(msgspec.json.encode(given).decode() if as_json else f"{given['id']} {given['state']}")
            return
        told: set[str] = set()
        for one in _life(api, given["id"]):
            given = one
            for moment in one["life"]:
                if moment["state"] not in told and not as_json:
                    told.add(moment["state"])
                    click.echo(f"{_clock(moment['at_us'])}  {moment['state']}")
    if as_json:
        click.echo(msgspec.json.encode(given).decode())
    elif given["code"]:
        click.echo(f"{given['code']}  (rocade why command:{given['id']})", err=True)
    sys.exit(0 if given["state"] == "verified" else 1)


def _life(api: ApiClient, id: str) -> Any:
    """The command each time it has changed; a stream that breaks is taken up again."""
    is_open = True
    while is_open:
        left = b""
        for chunk in api.stream(f"/v1/commands/{id}/events"):
            *whole, left = (left + chunk).split(b"\n\n")
            for frame in whole:
                lines = dict(line.partition(b": ")[::2] for line in frame.splitlines())
                if lines.get(b"event") == b"command":
                    one = msgspec.json.decode(lines[b"data"])
                    is_open = one["is_open"]
                    yield one


def _list(api: ApiClient, ref: str, *, as_json: bool) -> None:
    items = api.get(f"/v1/vehicles/{ref}/commands")["items"]
    if as_json:
        click.echo(msgspec.json.encode(items).decode())
        return
    table = Table("given (UTC)", "act", "state", "code", "id")
    for one in items:
        at = datetime.fromtimestamp(one["life"][0]["at_us"] / 1e6, UTC).isoformat(sep=" ", timespec="seconds")
        table.add(at, one["act"], one["state"] + (" ?" if one["doubt"] else ""), one["code"], one["id"])
    table.show()


def _clock(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6).astimezone().strftime("%H:%M:%S.%f")[:-3]


assert IN_ORDER.keys() <= ACTS.keys()
COMMANDS = (command,)
