"""HTTP API of certificates and claim codes, for operators whose duty is security: who is late to renew, what waits."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter, SkipValidation

from rocade.doors.http.access import does
from rocade.trust.authority.gate import acts
from rocade.trust.authority.papers import Paper, Papers

PapersDependency = NamedDependency[SkipValidation[Papers]]


class CertificateView(msgspec.Struct, frozen=True):
    """`serial` in hexadecimal; `state`: late (three quarters of its life over), ended, live, revoked."""

    serial: str
    kind: str
    id: str
    purpose: str
    not_before_us: int
    not_after_us: int
    state: str
    reason: str


class CountView(msgspec.Struct, frozen=True):
    """Parties of one kind by the state of their newest certificate."""

    kind: str
    live: int
    late: int
    ended: int


class CertificatesView(msgspec.Struct, frozen=True):
    items: list[CertificateView]
    next: str | None
    counts: list[CountView]


@get("/v1/certificates", opt=does(acts.READ_CERTIFICATES))
async def list_certificates(
    papers: PapersDependency,
    paper_state: Annotated[str, QueryParameter(name="state")] = "late",
    kind: FromQuery[str] = "",
    find: FromQuery[str] = "",
    cursor: FromQuery[str] = "",
    limit: FromQuery[int] = 100,
) -> CertificatesView:
    """Certificates that near their end (`late`), `ended` ones nobody renewed, `live` or `revoked` ones; `find` = part of an id.

    A party is shown by the newest certificate it may use: what was renewed in time is not listed.
    """
    page = await papers.certificates(paper_state, kind, find, cursor, limit)
    counts = [CountView(one.kind, one.live, one.late, one.ended) for one in await papers.counts()]
    return CertificatesView([_view(one) for one in page.papers], page.cursor, counts)


def _view(one: Paper) -> CertificateView:
    return CertificateView(
        f"{one.serial:x}", one.kind, one.id, one.purpose, one.not_before_us, one.not_after_us, one.state, one.reason
    )


HANDLERS = [list_certificates]
