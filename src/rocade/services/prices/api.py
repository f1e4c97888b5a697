"""HTTP API of price lists: hand a file in, look at what it would do, release it with a touch; files and heads for holders.

A file comes as the bare body of a POST, streamed to disk, never to memory. What is released is named in the path by the draft's
hash, so that the touch is bound to that file and no other. Price files are sealed and named by their hash: anybody and
any cache may have them.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from litestar import Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, SkipValidation

from rocade.core.identifiers import Identity
from rocade.doors.http import AnyRequest, does, permit_of
from rocade.services.prices import errors, instants
from rocade.services.prices.drafting import FILE_LIMIT_BYTES, describe
from rocade.services.prices.model import Draft, Mode, PriceList, Progress, Released, Report
from rocade.services.prices.service import Lists
from rocade.services.prices.tracing import Suspect
from rocade.trust.authority.gate import acts

ListsDependency = NamedDependency[SkipValidation[Lists]]
NO_STORE = {"cache-control": "no-store"}
FOR_EVER = {"cache-control": "public, max-age=31536000, immutable", "content-type": "application/octet-stream"}


class ListView(msgspec.Struct, frozen=True):
    """`seq` 0 = nothing released yet; `entitled`: points of sale it is for, now."""

    id: str
    brand: str
    country: str
    currency: str
    kind: str
    seq: int
    parts: int
    epoch: int
    entitled: int


class ListsView(msgspec.Struct, frozen=True):
    items: list[ListView]


class NewList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    brand: str
    country: str
    currency: str
    kind: str


class DraftView(msgspec.Struct, frozen=True):
    """`lines`: the report in words."""

    id: str
    list: str
    note: str
    made_us: int
    made_by: str
    report: Report
    lines: tuple[str, ...]


class DraftsView(msgspec.Struct, frozen=True):
    items: list[DraftView]


class ReleasesView(msgspec.Struct, frozen=True):
    items: list[Released]


class HolderView(msgspec.Struct, frozen=True):
    """`code`: why the last list was refused there, '' = it was not."""

    site: str
    fetched_seq: int
    applied_seq: int
    code: str
    at_us: int


class HoldersView(msgspec.Struct, frozen=True):
    items: list[HolderView]
    next: str | None


class PriceView(msgspec.Struct, frozen=True):
    """`price_minor` null = withdrawn at that instant."""

    ref: str
    price_minor: int | None
    currency: str
    valid_from_us: int
    seq: int
    family: str
    label: str
    superseded_by: str


class EpochView(msgspec.Struct, frozen=True):
    epoch: int


class TraceView(msgspec.Struct, frozen=True):
    """`named`: points of sale the file was made from; `share`: about which part of a list it holds."""

    named: tuple[str, ...]
    suspects: tuple[Suspect, ...]
    marks_each: int
    share: float


def _actor(request: AnyRequest) -> str:
    return permit_of(request).principal.id


def _view(lists: Lists, one: PriceList) -> ListView:
    return ListView(
        one.id, one.brand, one.country, one.currency, one.kind, one.seq, one.parts, one.epoch, len(lists.entitled(one))
    )


def _draft(one: Draft) -> DraftView:
    return DraftView(one.id, one.list, one.note, one.made_us, one.made_by, one.report, tuple(describe(one.report)))


@asynccontextmanager
async def _upload(request: AnyRequest, lists: Lists) -> AsyncIterator[Path]:
    """The request's body as a file, for as long as it is worked on. Raises: Refused `prices.file.too_large`."""
    place = lists.directory / "uploads"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=place)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            size = 0
            async for chunk in request.stream():
                size += len(chunk)
                if size > FILE_LIMIT_BYTES:
                    raise errors.file("too_large", f"{FILE_LIMIT_BYTES >> 20} MiB is the most")
                if chunk:
                    await asyncio.to_thread(file.write, chunk)
        yield path
    finally:
        await asyncio.to_thread(path.unlink, missing_ok=True)


# Lists ------------------------------------------------------------------------------------------------------------


@get("/v1/price-lists", opt=does(acts.READ_PRICE_LISTS))
async def list_lists(lists: ListsDependency) -> ListsView:
    """Every price list of the region."""
    return ListsView([_view(lists, one) for one in await lists.lists()])


@post("/v1/price-lists", opt=does(acts.MAKE_PRICE_LIST))
async def add_list(request: AnyRequest, data: JSONBody[NewList], lists: ListsDependency) -> ListView:
    """Make an empty list; its brand, country, currency and kind stay."""
    made = await lists.add(data.id, data.brand, data.country, data.currency, data.kind, _actor(request))
    return _view(lists, made)


@get("/v1/price-lists/{list_id:str}/releases", opt=does(acts.READ_PRICE_LISTS))
async def list_releases(
    list_id: FromPath[str], lists: ListsDependency, before: FromQuery[int] = 1 << 30
) -> ReleasesView:
    """Releases of a list, the newest first."""
    return ReleasesView(await lists.releases(list_id, max(0, min(before, 1 << 30))))


@get("/v1/price-lists/{list_id:str}/progress", opt=does(acts.READ_PRICE_LISTS))
async def show_progress(list_id: FromPath[str], lists: ListsDependency, seq: FromQuery[int | None] = None) -> Progress:
    """How many of those entitled have fetched and applied a release (default: the last)."""
    return await lists.progress(list_id, None if seq is None else max(0, min(seq, 1 << 30)))


@get("/v1/price-lists/{list_id:str}/holders", opt=does(acts.READ_PRICE_LISTS))
async def list_holders(list_id: FromPath[str], lists: ListsDependency, cursor: FromQuery[str] = "") -> HoldersView:
    """How far each point of sale has come."""
    found = await lists.holders(list_id, cursor, 501)
    items = [HolderView(*msgspec.structs.astuple(one)) for one in found[:500]]
    return HoldersView(items, items[-1].site if len(found) > 500 else None)


@get("/v1/price-lists/{list_id:str}/price", opt=does(acts.READ_PRICE_LISTS))
async def show_price(
    list_id: FromPath[str], ref: FromQuery[str], lists: ListsDependency, at: FromQuery[str] = "",
    known: FromQuery[int | None] = None,
) -> PriceView:  # fmt: skip
    """The price of a reference at an instant (default: now), as known at a release of the list (default: the last)."""
    at_us = instants.parse(at) if at else lists.clock.now_us()
    about = await lists.find(list_id)
    found = await lists.price(list_id, ref, at_us, None if known is None else max(0, min(known, 1 << 30)))
    return PriceView(
        found.ref, found.price_minor, about.currency, found.valid_from_us, found.seq, found.family, found.label,
        found.superseded_by,
    )  # fmt: skip


# Publishing -------------------------------------------------------------------------------------------------------


@post("/v1/price-lists/{list_id:str}/drafts", opt=does(acts.DRAFT_PRICES), request_max_body_size=FILE_LIMIT_BYTES)
async def add_draft(
    request: AnyRequest, list_id: FromPath[str], effective: FromQuery[str], lists: ListsDependency,
    mode: FromQuery[Mode] = "full", note: FromQuery[str] = "",
) -> DraftView:  # fmt: skip
    """Hand a file in (the body, CSV, XML or JSON): every line is checked, nothing is released. `effective`: an instant."""
    effective_us = instants.parse(effective)
    async with _upload(request, lists) as path:
        return _draft(await lists.draft(list_id, path, effective_us, _actor(request), mode=mode, note=note))


@get("/v1/price-lists/{list_id:str}/drafts", opt=does(acts.DRAFT_PRICES))
async def list_drafts(list_id: FromPath[str], lists: ListsDependency) -> DraftsView:
    """Files handed in and not released, the newest first."""
    return DraftsView([_draft(one) for one in await lists.drafts(list_id)])


@get("/v1/price-lists/{list_id:str}/drafts/{draft:str}", opt=does(acts.DRAFT_PRICES))
async def show_draft(list_id: FromPath[str], draft: FromPath[str], lists: ListsDependency) -> DraftView:
    """What one file would do."""
    return _draft(await lists.find_draft(list_id, draft))


@delete("/v1/price-lists/{list_id:str}/drafts/{draft:str}", opt=does(acts.DRAFT_PRICES), status_code=204)
async def drop_draft(request: AnyRequest, list_id: FromPath[str], draft: FromPath[str], lists: ListsDependency) -> None:
    """Forget a file."""
    await lists.drop_draft(list_id, draft, _actor(request))


@post("/v1/price-lists/{list_id:str}/drafts/{draft:str}/release", opt=does(acts.RELEASE))
async def release(
    request: AnyRequest,
    list_id: FromPath[str],
    draft: FromPath[str],
    lists: ListsDependency,
    accept: FromQuery[str] = "",
) -> Released:
    """Put a draft on the road. `accept`: what its report `needs` accepted, with commas between."""
    return await lists.release(list_id, draft, _actor(request), accept.split(","))


@post("/v1/price-lists/{list_id:str}/epochs", opt=does(acts.TURN_EPOCH))
async def turn_epoch(
    request: AnyRequest, list_id: FromPath[str], lists: ListsDependency, reason: FromQuery[str] = "asked"
) -> EpochView:
    """Seal what is released from now on with a new key, given only to those entitled then."""
    return EpochView(await lists.turn(list_id, _actor(request), reason[:64]))


@post("/v1/price-lists/{list_id:str}/leaks", opt=does(acts.TRACE_LEAK), request_max_body_size=FILE_LIMIT_BYTES)
async def trace(request: AnyRequest, list_id: FromPath[str], lists: ListsDependency) -> TraceView:
    """Whose list a file (the body) was made from."""
    async with _upload(request, lists) as path:
        found = await lists.who_leaked(list_id, path, _actor(request))
    return TraceView(found.named, found.suspects, found.marks_each, found.share)


# For holders ------------------------------------------------------------------------------------------------------


@get("/v1/price-lists/{list_id:str}/head", opt=does(acts.READ_PRICE_HEAD), media_type="application/json")
async def show_head(request: AnyRequest, list_id: FromPath[str], lists: ListsDependency) -> Response[bytes]:
    """The signed head of the last release, for operators and points of sale that are entitled to the list."""
    principal = permit_of(request).principal
    if not principal.duties:
        about = await lists.find(list_id)
        site = Identity.parse(principal.id).id if principal.kind == "dealer" else ""
        if not lists.is_entitled(site, about):
            raise errors.list_unknown()
    signed = await lists.head(list_id)
    return Response(signed, headers={"cache-control": "no-cache"}, media_type="application/json")


@get("/v1/price-lists/{list_id:str}/letter", opt=does(acts.READ_PRICE_HEAD), media_type="application/json")
async def show_letter(request: AnyRequest, list_id: FromPath[str], lists: ListsDependency) -> Response[bytes]:
    """The keys of a list, wrapped for the asking point of sale; what `down/epoch` carries."""
    principal = permit_of(request).principal
    site = Identity.parse(principal.id).id if principal.kind == "dealer" else ""
    if not lists.is_entitled(site, await lists.find(list_id)):
        raise errors.list_unknown()
    return Response(await lists.wrap(site, list_id), headers=NO_STORE, media_type="application/json")


@get("/v1/price-blobs/{name:str}", opt=does(acts.READ_PRICE_BLOB))
async def show_blob(request: AnyRequest, name: FromPath[str], lists: ListsDependency) -> Response[bytes]:
    """A sealed price file by the SHA-256 of its bytes; it never changes."""
    tag = f'"{name}"'
    if request.headers.get("if-none-match") == tag:
        await lists.blob(name)
        return Response(b"", status_code=304, headers={**FOR_EVER, "etag": tag})
    content = await lists.blob(name)
    return Response(content, headers={**FOR_EVER, "etag": tag}, media_type="application/octet-stream")


HANDLERS = [
    list_lists, add_list, list_releases, show_progress, list_holders, show_price, add_draft, list_drafts, show_draft,
    drop_draft, release, turn_epoch, trace, show_head, show_letter, show_blob,
]  # fmt: skip
