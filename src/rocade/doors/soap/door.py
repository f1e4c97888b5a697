"""The HTTP route of SOAP: POST /v1/soap over mutual TLS, the WSDL beside it, every refusal audited under its own code.

Besides stand the documents that describe the formats; they are open to everybody.
"""

from __future__ import annotations

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, SkipValidation

from rocade.core.errors import Refused
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.doors.http import AnyRequest, caller_of, does
from rocade.doors.soap.dispatch import Dispatcher
from rocade.trust.authority.gate import acts
from rocade.wire.resources import documents

PATH = "/v1/soap"


class Described(msgspec.Struct, frozen=True):
    """What the documents say of this hub: where it is reached, and its version."""

    address: str
    version: str


DescribedDependency = NamedDependency[SkipValidation[Described]]


@post(PATH, opt=does(acts.CALL_SOAP), status_code=200, include_in_schema=False)
async def call(
    request: AnyRequest,
    soap: NamedDependency[SkipValidation[Dispatcher]],
    audit: NamedDependency[SkipValidation[Audit]],
    clock: NamedDependency[SkipValidation[Clock]],
) -> Response[bytes]:
    """One signed envelope in, one signed envelope out."""
    caller, request_id = caller_of(request), str(request.scope.get("rocade.request_id", ""))
    content_type = request.headers.get("content-type", "")
    answer = await soap.answer(await request.body(), content_type, caller.id, request_id)
    if answer.code:
        facts: dict[str, str | int | float] = {"request": request_id, "operation": answer.operation[:40]}
        audit.note(AuditEntry(clock.now_us(), caller.id, "soap.call", "http", "refused", answer.code, facts))
    headers = {"cache-control": "no-store"}
    return Response(answer.body, status_code=answer.status, media_type=answer.content_type, headers=headers)


@get(PATH, opt=does(acts.READ_REFERENCE), media_type="text/xml", include_in_schema=False)
async def show_wsdl(described: DescribedDependency) -> Response[bytes]:
    """The WSDL, with or without `?wsdl`."""
    return Response(documents.wsdl(described.address + PATH), media_type="text/xml; charset=utf-8")


@get("/v1/formats/{name:str}", opt=does(acts.READ_REFERENCE), include_in_schema=False)
async def show_document(name: FromPath[str], described: DescribedDependency) -> Response[bytes]:
    """rocade.xsd, openapi.json, asyncapi.json."""
    host = described.address.removeprefix("https://")
    if name == "rocade.xsd":
        return Response(documents.xsd(), media_type="application/xml")
    if name == "openapi.json":
        made = documents.openapi(described.version)
        return Response(msgspec.json.encode(made), media_type="application/vnd.oai.openapi+json")
    if name == "asyncapi.json":
        made = documents.asyncapi(described.version, host)
        return Response(msgspec.json.encode(made), media_type="application/vnd.aai.asyncapi+json")
    raise Refused("formats.document.unknown", "there are rocade.xsd, openapi.json and asyncapi.json")


HANDLERS = [call, show_wsdl, show_document]
