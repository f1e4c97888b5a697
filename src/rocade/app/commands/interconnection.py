"""Commands about interconnection: which sites reach which services, what was opened, and what lines cost."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from rocade.app.client import ApiClient
from rocade.app.commands import Load, config_option, example
from rocade.app.commands.tables import Table

_site = click.option("--site", default="", help="Only this site.")
_service = click.option("--service", default="", help="Only this service.")


@click.group()
def interconnect() -> None:
    """Services between sites: which site may reach which service, what was opened, and what the lines cost."""


@interconnect.command("services", epilog=example("interconnect services --config ./eu"))
@config_option
@click.pass_obj
def services(load: Load, config: Path | None) -> None:
    """List the named services and the rules that open them; what no rule opens is closed."""
    with ApiClient(load(config)) as api:
        policy = api.get("/v1/interconnection/services")
    table = Table("service", "at", "address", "class", "about")
    for one in policy["services"]:
        table.add(one["name"], one["at"], f"{one['host']}:{one['port']}", one["priority"], one["about"])
    table.show()
    rules = Table("rule", "service", "opened to", "device", "at once", "per minute", "bytes/s", "bytes/day")
    for one in policy["rules"]:
        quotas = [str(one[name] or "") for name in ("connections", "per_minute", "rate_bytes_s", "day_bytes")]
        rules.add(str(one["number"]), one["service"], one["caller"], one["device"], *quotas)
    rules.show()


@interconnect.command(
    "offer", epilog=example("interconnect offer till --host 10.0.0.5 --port 9000 --class card --config ./eu")
)
@click.argument("name")
@click.option("--at", default="hub", show_default=True, help="hub, or the site whose agent reaches it.")
@click.option("--host", required=True, help="Its address, seen from where it is.")
@click.option("--port", type=click.IntRange(1, 65535), required=True, help="Its TCP port.")
@click.option(
    "--class",
    "priority",
    type=click.Choice(("voice", "card", "business", "bulk")),
    default="business",
    show_default=True,
    help="What leaves first on a full line.",
)
@click.option("--about", default="", help="What it is, for those who read the list.")
@config_option
@click.pass_obj
def offer(load: Load, name: str, at: str, host: str, port: int, priority: str, about: str, config: Path | None) -> None:
    """Name a service. Nobody reaches it before `allow`."""
    with ApiClient(load(config)) as api:
        api.put(
            f"/v1/interconnection/services/{quote(name, safe='')}",
            at=at,
            host=host,
            port=port,
            priority=priority,
            about=about,
        )
    click.echo(f"{name} is {host}:{port} at {at}")


@interconnect.command("withdraw", epilog=example("interconnect withdraw till --config ./eu"))
@click.argument("name")
@config_option
@click.pass_obj
def withdraw(load: Load, name: str, config: Path | None) -> None:
    """Take a service and its rules away; open connections to it are closed."""
    with ApiClient(load(config)) as api:
        api.delete(f"/v1/interconnection/services/{quote(name, safe='')}")


@interconnect.command(
    "allow", epilog=example("interconnect allow till --to brand:renault --at-once 4 --dry-run --config ./eu")
)
@click.argument("service")
@click.option("--to", "caller", required=True, help="all, or site:ID, dealer:ID, group:ID, brand:NAME, country:FR.")
@click.option("--device", default="", help="Only this device of the site.")
@click.option("--at-once", "connections", type=click.IntRange(0), default=0, help="Connections at once per site.")
@click.option("--per-minute", type=click.IntRange(0), default=0, help="Openings per minute and site.")
@click.option("--rate", "rate_bytes_s", type=click.IntRange(0), default=0, help="Bytes per second and direction.")
@click.option("--day", "day_bytes", type=click.IntRange(0), default=0, help="Bytes per day and site.")
@click.option("--dry-run", is_flag=True, help="Only say whom it would let in.")
@config_option
@click.pass_obj
def allow(
    load: Load, /, service: str, caller: str, device: str, dry_run: bool, config: Path | None, **quotas: int
) -> None:
    """Open a service to some sites. 0 = no quota."""
    with ApiClient(load(config)) as api:
        if dry_run:
            answer = api.get("/v1/interconnection/foretell", service=service, caller=caller, device=device)
        else:
            answer = api.post("/v1/interconnection/rules", service=service, caller=caller, device=device, **quotas)
    verb = "would open" if dry_run else f"rule {answer['number']} opens"
    click.echo(
        f"{verb} {service} to {len(answer['opens'])} more sites ({len(answer['open_before'])} reached it before)"
    )
    for site in answer["opens"][:20]:
        click.echo(f"  {site}")


@interconnect.command("disallow", epilog=example("interconnect disallow 3 --config ./eu"))
@click.argument("rule", type=click.IntRange(1))
@config_option
@click.pass_obj
def disallow(load: Load, rule: int, config: Path | None) -> None:
    """Take a rule away, by its number; what it had opened is closed."""
    with ApiClient(load(config)) as api:
        api.delete(f"/v1/interconnection/rules/{rule}")


@interconnect.command("reach", epilog=example("interconnect reach --service till --config ./eu"))
@_service
@_site
@click.option("--device", default="", help="As this device of the site.")
@config_option
@click.pass_obj
def reach(load: Load, service: str, site: str, device: str, config: Path | None) -> None:
    """Who could reach what now; with --site and --service also why not."""
    with ApiClient(load(config)) as api:
        items = api.get("/v1/interconnection/reach", service=service, site=site, device=device)["items"]
    table = Table("site", "service", "answer")
    for one in items:
        table.add(one["site"], one["service"], one["code"] or f"open by rule {one['rule']}")
    table.show()


@interconnect.command("openings", epilog=example("interconnect openings --site FR-00123-1 --refused --config ./eu"))
@_site
@_service
@click.option("--refused", is_flag=True, help="Only refusals.")
@config_option
@click.pass_obj
def openings(load: Load, site: str, service: str, refused: bool, config: Path | None) -> None:
    """What was opened and refused, the newest first."""
    with ApiClient(load(config)) as api:
        items = api.get(
            "/v1/interconnection/openings", site=site, service=service, refused="true" if refused else None
        )["items"]
    table = Table("opening", "at (UTC)", "site", "device", "service", "result", "up", "down")
    for one in items:
        at = datetime.fromtimestamp(one["at_us"] / 1e6, UTC).isoformat(timespec="seconds")
        result = one["code"] or ("open" if one["closed_us"] is None else "closed")
        sizes = (f"{one['up_bytes']:,}", f"{one['down_bytes']:,}")
        table.add(str(one["id"]), at, one["site"], one["device"], one["service"], result, *sizes)
    table.show()


@interconnect.command("devices", epilog=example("interconnect devices --site FR-00123-1 --config ./eu"))
@_site
@config_option
@click.pass_obj
def devices(load: Load, site: str, config: Path | None) -> None:
    """Devices that used a line, as their site's agent names them."""
    with ApiClient(load(config)) as api:
        items = api.get("/v1/interconnection/devices", site=site)["items"]
    table = Table("site", "device", "openings", "last (UTC)")
    for one in items:
        last = datetime.fromtimestamp(one["last_us"] / 1e6, UTC).isoformat(timespec="seconds")
        table.add(one["site"], one["name"], str(one["openings"]), last)
    table.show()


@interconnect.command(
    "line", epilog=example("interconnect line FR-00123-1 mpls --kbit 2000 --price 390.00 --private --config ./eu")
)
@click.argument("site")
@click.argument("name")
@click.option("--kbit", "capacity_kbit_s", type=click.IntRange(1), required=True, help="Capacity in kbit/s.")
@click.option("--price", required=True, help="Price of a month, such as 49.90.")
@click.option("--currency", default="EUR", show_default=True, help="Of the price, ISO 4217.")
@click.option("--supplier", default="", help="Who is paid for it.")
@click.option("--private", "is_private", is_flag=True, help="One of the old private networks.")
@config_option
@click.pass_obj
def line(load: Load, /, site: str, name: str, price: str, config: Path | None, **facts: Any) -> None:
    """Write down a line a site pays for, so that the report can say what it costs."""
    with ApiClient(load(config)) as api:
        api.put(
            f"/v1/interconnection/lines/{quote(site, safe='')}/{quote(name, safe='')}",
            monthly_minor=_minor(price),
            **facts,
        )


def _minor(price: str) -> int:
    whole, _, cents = price.partition(".")
    if not whole.isdecimal() or not (cents or "0").isdecimal() or len(cents) > 2:
        raise click.BadParameter("a price is like 49 or 49.90", param_hint="--price")
    return int(whole) * 100 + int(cents.ljust(2, "0") or 0)


@interconnect.command("report", epilog=example("interconnect report --month 2026-11 --config ./eu"))
@click.option("--month", default="", help="YYYY-MM; the running month if not given.")
@config_option
@click.pass_obj
def report(load: Load, month: str, config: Path | None) -> None:
    """What each service and line carried and costs, and which lines can be cancelled."""
    with ApiClient(load(config)) as api:
        made = api.get("/v1/interconnection/report", month=month)
    table = Table("service", "sites", "MB up", "MB down", "cost")
    for one in made["services"]:
        sizes = (f"{one['up_bytes'] / 1e6:,.1f}", f"{one['down_bytes'] / 1e6:,.1f}")
        table.add(one["service"], str(one["sites"]), *sizes, _money(one["cost_minor"]))
    table.show()
    advice = Table("site", "line", "advice", "why", "kbit/s", "price", "saves a month")
    for one in made["lines"]:
        if one["advice"] != "keep":
            saves = _money({one["currency"]: one["saves_minor"]}) if one["saves_minor"] else ""
            price = _money({one["currency"]: one["monthly_minor"]})
            advice.add(one["site"], one["line"], one["advice"], one["why"], str(one["capacity_kbit_s"]), price, saves)
    advice.show()
    click.echo(
        f"lines cost {_money(made['cost_minor']) or 'nothing'} a month; cancelling saves {_money(made['saves_minor']) or 'nothing'}"
    )


def _money(amounts: dict[str, int]) -> str:
    return " + ".join(f"{minor // 100:,}.{minor % 100:02d} {currency}" for currency, minor in amounts.items())


COMMANDS = [interconnect]
