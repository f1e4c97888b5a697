"""HTTP API of the wall: topics, drafts, what exactly would cross, its release with a touch, the packet; neighbours and arrivals.

A release names the content's hash in its path, so that the touch is bound to what was seen and nothing else.
"""

from __future__ import annotations

import msgspec
from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, SkipValidation

from rocade.doors.http import AnyRequest, does, permit_of
from rocade.services.crossing.model import TOPICS, Arrival, Draft, Neighbour, Packet, Topic
from rocade.services.crossing.service import NEWEST, Crossing
from rocade.trust.authority.gate import acts

CrossingDependency = NamedDependency[SkipValidation[Crossing]]
PAGE = 100


class TopicsView(msgspec.Struct, frozen=True):
    items: list[Topic]


class DraftBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An export to draft, over the whole UTC days within `from_us` and `until_us` (microseconds)."""

    topic: str
    to: str
    from_us: int
    until_us: int
    signals: tuple[str, ...] = ()
    note: str = ""


class DraftsView(msgspec.Struct, frozen=True):
    """Newest first. `next`: the cursor that goes on, null at the end."""

    items: list[Draft]
    next: str | None


class PreviewView(msgspec.Struct, frozen=True):
    """The draft, and exactly what would cross."""

    draft: Draft
    packet: Packet


class NeighbourBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`root`: the other region's root certificate (PEM), got from its people by another way than this one."""

    root: str


class NeighboursView(msgspec.Struct, frozen=True):
    items: list[Neighbour]


class ArrivalsView(msgspec.Struct, frozen=True):
    items: list[Arrival]


def _actor(request: AnyRequest) -> str:
    return permit_of(request).principal.id


@get("/v1/crossing/topics", opt=does(acts.READ_CROSSINGS))
async def list_topics() -> TopicsView:
    """Everything that may leave a region, and what its lines hold."""
    return TopicsView(list(TOPICS.values()))


@get("/v1/crossing/exports", opt=does(acts.READ_CROSSINGS))
async def list_exports(crossing: CrossingDependency, cursor: FromQuery[int | None] = None) -> DraftsView:
    """Drafts, released and dropped exports."""
    found = await crossing.drafts(NEWEST if cursor is None else cursor, PAGE + 1)
    return DraftsView(found[:PAGE], str(found[PAGE - 1].number) if len(found) > PAGE else None)


@post("/v1/crossing/exports", opt=does(acts.DRAFT_CROSSING))
async def draft_export(request: AnyRequest, crossing: CrossingDependency, data: JSONBody[DraftBody]) -> Draft:
    """Make what would cross; nothing leaves by it."""
    return await crossing.draft(
        data.topic, data.to, data.from_us, data.until_us, data.signals, data.note, _actor(request)
    )


@get("/v1/crossing/exports/{number:int}", opt=does(acts.READ_CROSSINGS))
async def read_export(crossing: CrossingDependency, number: FromPath[int]) -> PreviewView:
    """The preview: exactly what would cross, or did."""
    return PreviewView(*await crossing.preview(number))


@post("/v1/crossing/exports/{number:int}/{sha256:str}/release", status_code=200, opt=does(acts.RELEASE_CROSSING))
async def release_export(
    request: AnyRequest, crossing: CrossingDependency, number: FromPath[int], sha256: FromPath[str]
) -> Draft:
    """Let exactly this content cross. Somebody else than who drafted it, with a fresh touch."""
    return await crossing.release(number, sha256, _actor(request))


@post("/v1/crossing/exports/{number:int}/drop", status_code=200, opt=does(acts.DRAFT_CROSSING))
async def drop_export(request: AnyRequest, crossing: CrossingDependency, number: FromPath[int]) -> Draft:
    """Put a draft away for good."""
    return await crossing.drop(number, _actor(request))


@get("/v1/crossing/exports/{number:int}/packet", opt=does(acts.CARRY_CROSSING))
async def read_packet(request: AnyRequest, crossing: CrossingDependency, number: FromPath[int]) -> Response[bytes]:
    """The signed file to carry over to the region it was released for."""
    name = f"crossing-{number}.json"
    return Response(
        await crossing.packet(number, _actor(request)),
        media_type="application/json",
        headers={"cache-control": "no-store", "content-disposition": f'attachment; filename="{name}"'},
    )


@get("/v1/crossing/neighbours", opt=does(acts.READ_CROSSINGS))
async def list_neighbours(crossing: CrossingDependency) -> NeighboursView:
    """Regions whose packets may be accepted here."""
    return NeighboursView(await crossing.neighbours())


@put("/v1/crossing/neighbours/{region:str}/{fingerprint:str}", opt=does(acts.PIN_REGION))
async def pin_neighbour(
    request: AnyRequest,
    crossing: CrossingDependency,
    region: FromPath[str],
    fingerprint: FromPath[str],
    data: JSONBody[NeighbourBody],
) -> Neighbour:
    """Believe packets that this root vouches for. `fingerprint`: SHA-256 of the certificate (DER), hex."""
    return await crossing.pin(region, data.root.encode(), fingerprint, _actor(request))


@delete("/v1/crossing/neighbours/{region:str}", opt=does(acts.PIN_REGION))
async def unpin_neighbour(request: AnyRequest, crossing: CrossingDependency, region: FromPath[str]) -> None:
    """Accept nothing of that region any more; what was accepted stays."""
    await crossing.unpin(region, _actor(request))


@post("/v1/crossing/arrivals/{sha256:str}", opt=does(acts.ACCEPT_CROSSING))
async def accept_packet(request: AnyRequest, crossing: CrossingDependency, sha256: FromPath[str]) -> Arrival:
    """Take in the packet in the body, whose SHA-256 the path names; the same again changes nothing."""
    return await crossing.accept(await request.body(), sha256, _actor(request))


@get("/v1/crossing/arrivals", opt=does(acts.READ_CROSSINGS))
async def list_arrivals(crossing: CrossingDependency) -> ArrivalsView:
    """Packets accepted here, newest first."""
    return ArrivalsView(await crossing.arrivals(PAGE))


@get("/v1/crossing/arrivals/{origin:str}/{number:int}", opt=does(acts.READ_CROSSINGS))
async def read_arrival(crossing: CrossingDependency, origin: FromPath[str], number: FromPath[int]) -> Packet:
    """What a packet holds."""
    return await crossing.arrived(origin, number)


HANDLERS = [
    list_topics, list_exports, draft_export, read_export, release_export, drop_export, read_packet, list_neighbours,
    pin_neighbour, unpin_neighbour, accept_packet, list_arrivals, read_arrival,
]  # fmt: skip
