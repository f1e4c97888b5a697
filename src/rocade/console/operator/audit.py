"""The audit log: looked through by actor, subject, act and outcome; and proven whole."""

from __future__ import annotations

from urllib.parse import urlencode

import msgspec
from litestar import Response, get
from litestar.params import FromQuery

from rocade.console.operator.desk import DeskDependency
from rocade.console.pages import fragment, render
from rocade.core.errors import Corrupt
from rocade.doors.http import AnyRequest, does
from rocade.trust.authority.book import Asked
from rocade.trust.authority.gate import acts

PAGE = 50


@get("/audit", opt=does(acts.READ_AUDIT), include_in_schema=False)
async def show_audit(
    request: AnyRequest,
    desk: DeskDependency,
    actor: FromQuery[str] = "",
    subject: FromQuery[str] = "",
    action: FromQuery[str] = "",
    outcome: FromQuery[str] = "",
    before: FromQuery[int | None] = None,
) -> Response[str]:
    asked = Asked(actor.strip(), subject.strip(), action.strip(), outcome)
    found = await desk.book.browse(asked, before, PAGE)
    query = urlencode({name: value for name, value in msgspec.structs.asdict(asked).items() if value})
    return render(
        request,
        "operator/audit.html",
        "audit",
        {},
        entries=found.entries,
        until_us=found.until_us,
        asked=asked,
        next=f"/audit?{query}{'&' if query else ''}before={found.before}" if found.before is not None else "",
        first=f"/audit?{query}" if before is not None else "",
    )


@get("/audit/verification", opt=does(acts.VERIFY_AUDIT), include_in_schema=False)
async def verify(request: AnyRequest, desk: DeskDependency) -> Response[str]:
    """Check every entry against the signed heads; seconds in a long log."""
    try:
        report = await desk.book.verify()
    except Corrupt as broken:
        return fragment(request, "operator/verified.html", report=None, code=broken.code, facts=broken.facts)
    return fragment(request, "operator/verified.html", report=report, code="", facts={})


HANDLERS = [show_audit, verify]
