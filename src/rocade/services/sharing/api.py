"""HTTP API of sharing: owners make and end contracts, third parties take them up and read, operators set terms and see counts.

What a third party is shown never names the vehicle or its owner: a contract's id stands for both. References are decimal
strings, instants microseconds, `until_us` null = until it is ended.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from litestar import Response, delete, get, patch, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, SkipValidation
from litestar.response import Stream

from rocade.core import data_classes
from rocade.core.catalogue import Catalogue
from rocade.doors.http import AnyRequest, caller_of, does, permit_of
from rocade.services.consent import FOREVER_US
from rocade.services.sharing import streams as streams_api
from rocade.services.sharing.bulk import Bulk
from rocade.services.sharing.files import MEDIA_TYPES
from rocade.services.sharing.hooks import Hooks
from rocade.services.sharing.model import Contract, Line, Terms, Webhook
from rocade.services.sharing.records import Scope
from rocade.services.sharing.service import Sharing
from rocade.services.sharing.streams import FeedingDependency, StreamsDependency
from rocade.trust.authority.gate import acts

SharingDependency = NamedDependency[SkipValidation[Sharing]]
HooksDependency = NamedDependency[SkipValidation[Hooks]]
BulkDependency = NamedDependency[SkipValidation[Bulk]]
CatalogueDependency = NamedDependency[SkipValidation[Catalogue]]
NO_STORE = {"cache-control": "no-store"}


class TermsView(msgspec.Struct, frozen=True):
    """`party` '' = anybody; `withheld`: names of signals kept back as trade secrets, for `reason`."""

    version: int
    party: str
    compensation: str
    withheld: tuple[str, ...]
    reason: str
    made_us: int


class ContractView(msgspec.Struct, frozen=True):
    """`state`: offered | running | ended; `signals` empty = all of `classes`; `withheld`: what would go out but for the terms."""

    id: str
    version: int
    party: str
    purpose: str
    classes: tuple[str, ...]
    signals: tuple[str, ...]
    ways: tuple[str, ...]
    state: str
    terms: TermsView
    withheld: tuple[str, ...]
    from_us: int
    until_us: int | None
    made_us: int
    accepted_us: int | None
    ended_us: int | None
    why_ended: str


class ContractsView(msgspec.Struct, frozen=True):
    items: list[ContractView]


class LineView(msgspec.Struct, frozen=True):
    """`kind`: offered, accepted, narrowed, sent (sums of an hour), failing, resumed, expired, ended."""

    at_us: int
    kind: str
    way: str
    version: int
    records: int
    samples: int
    bytes: int
    code: str


class LogView(msgspec.Struct, frozen=True):
    items: list[LineView]


class WebhookView(msgspec.Struct, frozen=True):
    """`paused_us` not null: it is told nothing until it is resumed. `status`: the receiver's last answer, 0 = none."""

    url: str
    attempt: int
    due_us: int
    paused_us: int | None
    status: int
    told_us: int | None
    expired: int
    secret: str = ""


class SecretView(msgspec.Struct, frozen=True):
    secret: str


class CountView(msgspec.Struct, frozen=True):
    party: str
    purpose: str
    running: int
    offered: int


class OverviewView(msgspec.Struct, frozen=True):
    """Contracts by third party and purpose, without persons and vehicles; every version of the terms."""

    contracts: list[CountView]
    terms: list[TermsView]


class NewContract(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`signals`: names, none = all of `classes`; `ways`: sse, webhook, parquet."""

    party: str
    purpose: str
    classes: list[str]
    signals: list[str] = []
    ways: list[str] = msgspec.field(default_factory=lambda: ["sse"])
    from_us: int | None = None
    until_us: int | None = None


class Narrowed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is left out stays as it was."""

    classes: list[str]
    signals: list[str] | None = None
    until_us: int | None = None


class Address(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str


def terms_view(one: Terms, catalogue: Catalogue) -> TermsView:
    names = tuple(catalogue.by_id(signal).name for signal in one.withheld if signal in catalogue)
    return TermsView(one.version, one.party, one.compensation, names, one.reason, one.made_us)


async def contract_view(one: Contract, sharing: Sharing) -> ContractView:
    terms, catalogue = await sharing.terms(one.terms), sharing.catalogue
    return ContractView(
        one.id, one.version, one.party, one.purpose, data_classes.names(one.classes),
        tuple(catalogue.by_id(signal).name for signal in one.signals), one.ways, one.state, terms_view(terms, catalogue),
        tuple(Scope(one, terms, catalogue).withheld(one.classes)), one.from_us, _end(one.until_us), one.made_us,
        one.accepted_us or None, _end(one.ended_us), one.why_ended,
    )  # fmt: skip


def _end(at_us: int) -> int | None:
    return None if at_us == FOREVER_US else at_us


def _ids(names: Sequence[str], catalogue: Catalogue) -> tuple[int, ...]:
    return tuple(int(catalogue.by_name(name).id) for name in names)


def _lines(found: Sequence[Line]) -> LogView:
    return LogView(
        [
            LineView(one.at_us, one.kind, one.way, one.version, one.records, one.samples, one.bytes, one.code)
            for one in found
        ]
    )


def _webhook(one: Webhook, secret: str = "") -> WebhookView:
    return WebhookView(
        one.url, one.attempt, one.due_us, one.paused_us or None, one.status, one.told_us or None, one.expired, secret
    )


# The owner ----------------------------------------------------------------------------------------------------------


@get("/v1/my/vehicles/{ref:int}/contracts", opt=does(acts.READ_CONTRACTS))
async def list_mine(ref: FromPath[int], sharing: SharingDependency) -> ContractsView:
    """Contracts of a vehicle in one's own time, the newest first."""
    return ContractsView([await contract_view(one, sharing) for one in await sharing.of_vehicle(ref)])


@post("/v1/my/vehicles/{ref:int}/contracts", opt=does(acts.SHARE))
async def share(
    request: AnyRequest, ref: FromPath[int], data: JSONBody[NewContract], sharing: SharingDependency
) -> ContractView:
    """Name a third party; it takes the contract up before anything flows."""
    made = await sharing.share(
        ref, permit_of(request).principal.id, data.party, data.purpose, data_classes.mask(data.classes),
        signals=_ids(data.signals, sharing.catalogue), ways=tuple(dict.fromkeys(data.ways)), from_us=data.from_us,
        until_us=FOREVER_US if data.until_us is None else data.until_us,
    )  # fmt: skip
    return await contract_view(made, sharing)


@patch("/v1/my/vehicles/{ref:int}/contracts/{id:str}", opt=does(acts.END_SHARING))
async def narrow(
    request: AnyRequest, ref: FromPath[int], id: FromPath[str], data: JSONBody[Narrowed], sharing: SharingDependency
) -> ContractView:
    """Share less, or sooner no more: the answer is the version in force now."""
    signals = None if data.signals is None else _ids(data.signals, sharing.catalogue)
    person, classes = permit_of(request).principal.id, data_classes.mask(data.classes)
    return await contract_view(await sharing.narrow(ref, person, id, classes, signals, data.until_us), sharing)


@delete("/v1/my/vehicles/{ref:int}/contracts/{id:str}", opt=does(acts.END_SHARING), status_code=200)
async def withdraw(
    request: AnyRequest, ref: FromPath[int], id: FromPath[str], sharing: SharingDependency
) -> ContractView:
    """End a contract now; its feeds end within two seconds."""
    return await contract_view(await sharing.withdraw(ref, permit_of(request).principal.id, id), sharing)


@get("/v1/my/vehicles/{ref:int}/contracts/{id:str}/log", opt=does(acts.READ_CONTRACTS))
async def read_my_log(ref: FromPath[int], id: FromPath[str], sharing: SharingDependency) -> LogView:
    """What was sent under a contract, what failed, the newest first."""
    return _lines(await sharing.log(id) if any(one.id == id for one in await sharing.of_vehicle(ref)) else [])


# The third party ----------------------------------------------------------------------------------------------------


@get("/v1/sharing/contracts", opt=does(acts.FOLLOW_SHARING))
async def list_theirs(request: AnyRequest, sharing: SharingDependency) -> ContractsView:
    """The caller's contracts, offered, running and ended, the newest first."""
    found = await sharing.of_party(caller_of(request).recipient)
    return ContractsView([await contract_view(one, sharing) for one in found])


@get("/v1/sharing/contracts/{id:str}", opt=does(acts.FOLLOW_SHARING))
async def read_contract(request: AnyRequest, id: FromPath[str], sharing: SharingDependency) -> ContractView:
    return await contract_view(await sharing.for_party(caller_of(request).recipient, id), sharing)


@get("/v1/sharing/contracts/{id:str}/log", opt=does(acts.FOLLOW_SHARING))
async def read_log(request: AnyRequest, id: FromPath[str], sharing: SharingDependency) -> LogView:
    """The same log the owner reads."""
    return _lines(await sharing.log((await sharing.for_party(caller_of(request).recipient, id)).id))


@post("/v1/sharing/contracts/{id:str}/accept", opt=does(acts.FOLLOW_SHARING), status_code=200)
async def accept(request: AnyRequest, id: FromPath[str], sharing: SharingDependency) -> ContractView:
    """Take a contract up, with its terms."""
    caller = caller_of(request)
    return await contract_view(await sharing.accept(caller.recipient, id, caller.id), sharing)


@post("/v1/sharing/contracts/{id:str}/decline", opt=does(acts.FOLLOW_SHARING), status_code=200)
async def decline(request: AnyRequest, id: FromPath[str], sharing: SharingDependency) -> ContractView:
    """Not this contract, or no longer."""
    caller = caller_of(request)
    return await contract_view(await sharing.decline(caller.recipient, id, caller.id), sharing)


@get("/v1/sharing/contracts/{id:str}/parquet", opt=does(acts.FOLLOW_SHARING))
async def read_parquet(
    request: AnyRequest,
    id: FromPath[str],
    feeding: FeedingDependency,
    streams: StreamsDependency,
    bulk: BulkDependency,
    from_us: FromQuery[int | None] = None,
    until_us: FromQuery[int | None] = None,
) -> Stream:
    """The contract's past as one Parquet file, from its beginning until now unless said. Cut off in the middle, the contract has ended."""
    caller, sharing = caller_of(request), feeding.sharing
    contract = await sharing.for_party(caller.recipient, id, "parquet")
    begin_us, end_us = from_us or contract.from_us, until_us or sharing.clock.now_us()
    feeding.note(caller, contract)
    body = bulk.parquet(contract, begin_us, end_us, streams.lines.add)
    return Stream(body, media_type=MEDIA_TYPES["parquet"], headers=NO_STORE)


@get("/v1/sharing/contracts/{id:str}/webhook", opt=does(acts.FOLLOW_SHARING))
async def read_webhook(
    request: AnyRequest, id: FromPath[str], sharing: SharingDependency, hooks: HooksDependency
) -> WebhookView:
    """The contract's address and how it is doing."""
    await sharing.for_party(caller_of(request).recipient, id)
    return _webhook(await hooks.of(id))


@put("/v1/sharing/contracts/{id:str}/webhook", opt=does(acts.FOLLOW_SHARING))
async def put_webhook(
    request: AnyRequest, id: FromPath[str], data: JSONBody[Address], hooks: HooksDependency
) -> Response[WebhookView]:
    """Where records go from now on; the secret is in this answer and nowhere else."""
    caller = caller_of(request)
    return Response(_webhook(*await hooks.put(caller.recipient, id, data.url, caller.id)), headers=NO_STORE)


@post("/v1/sharing/contracts/{id:str}/webhook/rotate", opt=does(acts.FOLLOW_SHARING), status_code=200)
async def rotate_secret(request: AnyRequest, id: FromPath[str], hooks: HooksDependency) -> Response[SecretView]:
    """A new secret; for a day the old one signs besides."""
    caller = caller_of(request)
    return Response(SecretView(await hooks.rotate(caller.recipient, id, caller.id)), headers=NO_STORE)


@post("/v1/sharing/contracts/{id:str}/webhook/resume", opt=does(acts.FOLLOW_SHARING), status_code=204)
async def resume_webhook(request: AnyRequest, id: FromPath[str], hooks: HooksDependency) -> None:
    """Try a paused address again; it goes on where it was."""
    caller = caller_of(request)
    await hooks.resume(caller.recipient, id, caller.id)


# The data holder ----------------------------------------------------------------------------------------------------


@get("/v1/sharing/overview", opt=does(acts.READ_SHARING))
async def overview(sharing: SharingDependency) -> OverviewView:
    """How many contracts there are with whom for what, and the terms."""
    counts = [CountView(*one) for one in await sharing.counts()]
    return OverviewView(counts, [terms_view(one, sharing.catalogue) for one in await sharing.all_terms()])


@post("/v1/sharing/terms", opt=does(acts.SET_SHARING_TERMS))
async def set_terms(
    request: AnyRequest,
    sharing: SharingDependency,
    party: FromQuery[str] = "",
    compensation: FromQuery[str] = "",
    withheld: FromQuery[list[str] | None] = None,
    reason: FromQuery[str] = "",
) -> TermsView:
    """New terms for a third party, or for anybody; contracts made before keep theirs. In the address: the touch is bound to it."""
    ids = _ids(withheld or (), sharing.catalogue)
    made = await sharing.set_terms(party, compensation, ids, reason, caller_of(request).id)
    return terms_view(made, sharing.catalogue)


class StoppedView(msgspec.Struct, frozen=True):
    contracts: int


@post("/v1/sharing/parties/{party:str}/stop", opt=does(acts.SET_SHARING_TERMS), status_code=200)
async def stop(request: AnyRequest, party: FromPath[str], sharing: SharingDependency) -> StoppedView:
    """End every contract of a third party at once: its keys were stolen, or it broke its word."""
    return StoppedView(await sharing.stop(party, caller_of(request).id))


HANDLERS = [
    list_mine, share, narrow, withdraw, read_my_log, list_theirs, read_contract, read_log, accept, decline, read_parquet,
    read_webhook, put_webhook, rotate_secret, resume_webhook, overview, set_terms, stop, *streams_api.HANDLERS,
]  # fmt: skip
