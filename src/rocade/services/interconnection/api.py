"""HTTP API of interconnection: services, rules, who could reach what, openings, devices, lines and the report of their cost.

What changes the policy needs a touch, which is bound to path and query; so everything that matters stands there.
"""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter, SkipValidation

from rocade.core.errors import Refused
from rocade.core.ports import Clock
from rocade.doors.http import AnyRequest, does, permit_of
from rocade.services.interconnection import report
from rocade.services.interconnection.model import FOREVER_US, Device, Line, NamedService, Opening, Rule
from rocade.services.interconnection.service import PAGE, Interconnection
from rocade.trust.authority.gate import acts

Known = NamedDependency[SkipValidation[Interconnection]]
ClockDependency = NamedDependency[SkipValidation[Clock]]
Number = Annotated[int, QueryParameter(ge=0, le=(1 << 53) - 1)]
Instant = Annotated[int, QueryParameter(ge=0, le=FOREVER_US)]


class ServicesView(msgspec.Struct, frozen=True):
    number: int
    """Of the policy in force; grows with each change."""
    services: list[NamedService]
    rules: list[Rule]


class ReachView(msgspec.Struct, frozen=True):
    """`code` '' = open, by `rule`."""

    site: str
    service: str
    code: str
    rule: int


class ReachesView(msgspec.Struct, frozen=True):
    items: list[ReachView]


class ForetoldView(msgspec.Struct, frozen=True):
    """Sites a rule would let in, and those already in; `number` '' = nothing was changed."""

    opens: list[str]
    open_before: list[str]
    number: str


class OpeningsView(msgspec.Struct, frozen=True):
    items: list[Opening]
    next: str | None


class DevicesView(msgspec.Struct, frozen=True):
    items: list[Device]


class LinesView(msgspec.Struct, frozen=True):
    items: list[Line]


@get("/v1/interconnection/services", opt=does(acts.READ_INTERCONNECTION))
async def services(interconnection: Known) -> ServicesView:
    """The policy in force."""
    await interconnection.load()
    policy = interconnection.policy
    rules = sorted((rule for those in policy.rules.values() for rule in those), key=lambda rule: rule.number)
    return ServicesView(policy.number, list(policy.services.values()), rules)


@put("/v1/interconnection/services/{name:str}", status_code=204, opt=does(acts.CHANGE_INTERCONNECTION))
async def put_service(
    request: AnyRequest,
    interconnection: Known,
    name: FromPath[str],
    host: FromQuery[str],
    port: Number,
    at: FromQuery[str] = "hub",
    priority: FromQuery[str] = "business",
    about: FromQuery[str] = "",
) -> None:
    """Name a service, or change what a name means. Nobody reaches it before a rule says so."""
    service = NamedService(name=name, at=at, host=host, port=port, priority=priority, about=about)
    await interconnection.put_service(service, permit_of(request).principal.id)


@delete("/v1/interconnection/services/{name:str}", status_code=204, opt=does(acts.CHANGE_INTERCONNECTION))
async def drop_service(request: AnyRequest, interconnection: Known, name: FromPath[str]) -> None:
    """Take a service away, and its rules; open connections to it are closed."""
    await interconnection.drop_service(name, permit_of(request).principal.id)


@post("/v1/interconnection/rules", status_code=200, opt=does(acts.CHANGE_INTERCONNECTION))
async def add_rule(
    request: AnyRequest,
    interconnection: Known,
    service: FromQuery[str],
    caller: FromQuery[str],
    device: FromQuery[str] = "",
    connections: Number = 0,
    per_minute: Number = 0,
    rate_bytes_s: Number = 0,
    day_bytes: Number = 0,
    from_us: Instant = 0,
    until_us: Instant = FOREVER_US,
) -> ForetoldView:
    """Open a service to some sites."""
    rule = Rule(service=service, caller=caller, device=device, connections=connections, per_minute=per_minute,
                rate_bytes_s=rate_bytes_s, day_bytes=day_bytes, from_us=from_us, until_us=until_us)  # fmt: skip
    opens, before = await interconnection.foretell(rule)
    number = await interconnection.add_rule(rule, permit_of(request).principal.id)
    return ForetoldView(opens, before, str(number))


@get("/v1/interconnection/foretell", opt=does(acts.READ_INTERCONNECTION))
async def foretell(
    interconnection: Known, service: FromQuery[str], caller: FromQuery[str], device: FromQuery[str] = ""
) -> ForetoldView:
    """Whom such a rule would let in; nothing is changed."""
    opens, before = await interconnection.foretell(Rule(service=service, caller=caller, device=device))
    return ForetoldView(opens, before, "")


@delete("/v1/interconnection/rules/{number:int}", status_code=204, opt=does(acts.CHANGE_INTERCONNECTION))
async def drop_rule(request: AnyRequest, interconnection: Known, number: FromPath[int]) -> None:
    """Take a rule away; connections it had opened are closed within a second."""
    if not 0 <= number < 1 << 63:
        raise Refused("interconnection.rule.unknown", "there is no rule of this number")
    await interconnection.drop_rule(number, permit_of(request).principal.id)


@get("/v1/interconnection/reach", opt=does(acts.READ_INTERCONNECTION))
async def reach(
    interconnection: Known, service: FromQuery[str] = "", site: FromQuery[str] = "", device: FromQuery[str] = ""
) -> ReachesView:
    """Who could reach what now: every open pair, or the answer for one pair with its reason. The relay asks the same."""
    await interconnection.load()
    found = interconnection.reach(service, site, device)
    return ReachesView([ReachView(one, name, got.code, got.rule.number if got.rule else 0) for one, name, got in found])


@get("/v1/interconnection/openings", opt=does(acts.READ_INTERCONNECTION))
async def openings(
    interconnection: Known,
    site: FromQuery[str] = "",
    service: FromQuery[str] = "",
    refused: FromQuery[bool | None] = None,
    before: Instant = 1 << 62,
) -> OpeningsView:
    """What was opened and refused, the newest first."""
    found = await interconnection.openings(site, service, refused, before)
    return OpeningsView(found, str(found[-1].id) if len(found) == PAGE else None)


@get("/v1/interconnection/devices", opt=does(acts.READ_INTERCONNECTION))
async def devices(interconnection: Known, site: FromQuery[str] = "") -> DevicesView:
    """Devices that used a line, as their site's agent names them."""
    return DevicesView(await interconnection.devices(site))


@get("/v1/interconnection/lines", opt=does(acts.READ_INTERCONNECTION))
async def lines(interconnection: Known) -> LinesView:
    return LinesView(await interconnection.lines())


@put("/v1/interconnection/lines/{site:str}/{name:str}", status_code=204, opt=does(acts.CHANGE_INTERCONNECTION))
async def put_line(
    request: AnyRequest,
    interconnection: Known,
    site: FromPath[str],
    name: FromPath[str],
    capacity_kbit_s: Number,
    monthly_minor: Number,
    currency: FromQuery[str] = "EUR",
    supplier: FromQuery[str] = "",
    is_private: FromQuery[bool] = False,
) -> None:
    """A line a site pays for, for the report."""
    line = Line(site=site, name=name, supplier=supplier, capacity_kbit_s=capacity_kbit_s, monthly_minor=monthly_minor,
                currency=currency, is_private=is_private)  # fmt: skip
    await interconnection.put_line(line, permit_of(request).principal.id)


@delete("/v1/interconnection/lines/{site:str}/{name:str}", status_code=204, opt=does(acts.CHANGE_INTERCONNECTION))
async def drop_line(request: AnyRequest, interconnection: Known, site: FromPath[str], name: FromPath[str]) -> None:
    await interconnection.drop_line(site, name, permit_of(request).principal.id)


@get("/v1/interconnection/report", opt=does(acts.READ_LINE_COSTS))
async def cost_report(interconnection: Known, clock: ClockDependency, month: FromQuery[str] = "") -> report.Report:
    """Bytes and money of a month (YYYY-MM; the running one if not given), and which lines to cancel."""
    return await _report(interconnection, clock, month)


@get("/v1/interconnection/report.csv", opt=does(acts.READ_LINE_COSTS), media_type="text/csv")
async def cost_table(interconnection: Known, clock: ClockDependency, month: FromQuery[str] = "") -> Response[str]:
    """The lines of the report as a table for a spreadsheet."""
    made = await _report(interconnection, clock, month)
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(("site", "line", "supplier", "advice", "why", "capacity_kbit_s", "monthly", "currency", "saves"))
    for one in made.lines:
        money = (_amount(one.monthly_minor), one.currency, _amount(one.saves_minor))
        writer.writerow((one.site, one.line, _cell(one.supplier), one.advice, one.why, one.capacity_kbit_s, *money))
    return Response(out.getvalue(), media_type="text/csv; charset=utf-8")


async def _report(interconnection: Interconnection, clock: Clock, month: str) -> report.Report:
    from_us, until_us = month_of(month, clock.now_us())
    return report.make(
        await interconnection.traffic(from_us, until_us), await interconnection.lines(), from_us, until_us
    )


def month_of(month: str, now_us: int) -> tuple[int, int]:
    """First instant of a month and of the next, UTC. Raises: Refused `interconnection.report.month`."""
    try:
        begin = (
            datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
            if month
            else datetime.fromtimestamp(now_us / 1e6, UTC)
        )
        begin = datetime(begin.year, begin.month, 1, tzinfo=UTC)
        end = datetime(begin.year + begin.month // 12, begin.month % 12 + 1, 1, tzinfo=UTC)
    except ValueError:
        raise Refused("interconnection.report.month", "a month is YYYY-MM, such as 2026-11") from None
    return max(0, int(begin.timestamp()) * 1_000_000), max(0, int(end.timestamp()) * 1_000_000)


def _amount(minor: int) -> str:
    return f"{minor // 100}.{minor % 100:02d}"


def _cell(text: str) -> str:
    """A spreadsheet must not take a name for a formula."""
    return f"'{text}" if text[:1] in "=+-@\t\r" else text


HANDLERS = [services, put_service, drop_service, add_rule, foretell, drop_rule, reach, openings, devices, lines, put_line,
            drop_line, cost_report, cost_table]  # fmt: skip
