"""HTTP API of proofs: what the region signed about its audit log, open to everybody, and an entry with its proof for who may read it.

What needs no sign-in holds hashes, sizes and signatures only, in the forms that `rocade verify`, witnesses and any RFC 6962 client
take: docs/proofs.md. A whole tile never changes and may be kept by any cache.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter, SkipValidation

from rocade.doors.http.access import AnyRequest, caller_of, does
from rocade.trust.authority.cosigning import MAX_BYTES, Cosigning
from rocade.trust.authority.gate import acts
from rocade.trust.authority.merkle import GROUP, HASH_BYTES
from rocade.trust.authority.proving import Proofs, SignedHead

ProofsDependency = NamedDependency[SkipValidation[Proofs]]
NO_STORE = {"cache-control": "no-store"}
FOR_EVER = {"cache-control": "public, max-age=31536000, immutable"}
Document = Response[dict[str, Any]]


@get("/proofs/head", opt=does(acts.READ_PROOFS))
async def show_head(proofs: ProofsDependency, size: FromQuery[int | None] = None) -> Document:
    """The newest signed head of the audit log (or the one over `size` entries), the root's word on its key, witnesses' signatures."""
    return _answer(_document(proofs, await proofs.head(size)))


@get("/proofs/inclusion/{position:int}", opt=does(acts.READ_PROOFS))
async def show_inclusion(
    proofs: ProofsDependency, position: FromPath[int], size: FromQuery[int | None] = None
) -> Document:
    """An entry's leaf hash and the path from it to a signed head: who has the entry's bytes can tell that they stand in the log."""
    found, head = await proofs.inclusion(position, size)
    return _answer(_document(proofs, head, **msgspec.to_builtins(found)))


@get("/proofs/consistency", opt=does(acts.READ_PROOFS))
async def show_consistency(
    proofs: ProofsDependency,
    older: Annotated[int, QueryParameter(name="from")],
    newer: Annotated[int | None, QueryParameter(name="to")] = None,
) -> Document:
    """A proof file: the log under the signed head over `from` entries is the beginning of the log under the one over `to` (or the newest)."""
    return _answer(await proofs.consistency(older, newer))


@get("/proofs/tile/{level:int}/{number:int}", opt=does(acts.READ_PROOFS), media_type="application/octet-stream")
async def show_tile(proofs: ProofsDependency, level: FromPath[int], number: FromPath[int]) -> Response[bytes]:
    """256 hashes of one level of the tree (0 = leaves), 32 bytes each; fewer at the end of the log."""
    tile = await proofs.tile(level, number)
    headers = FOR_EVER if len(tile) == GROUP * HASH_BYTES else NO_STORE
    return Response(tile, media_type="application/octet-stream", headers=headers)


@post("/proofs/cosignatures", opt=does(acts.READ_PROOFS), status_code=200, request_max_body_size=2 * MAX_BYTES)
async def take_cosignature(
    request: AnyRequest, cosigning: NamedDependency[SkipValidation[Cosigning]]
) -> dict[str, str]:
    """Take what a witness signed of a head; it proves itself by its signature, and its key must be known here."""
    return {"witness": await cosigning.take(await request.body(), caller_of(request).id)}


@get("/v1/audit/{position:int}/proof", opt=does(acts.READ_AUDIT))
async def prove_entry(
    proofs: ProofsDependency, position: FromPath[int], what: FromQuery[Literal["entry", "erasure"]] = "entry"
) -> Document:
    """A proof file with the entry in it, for `rocade verify`; `erasure`: the certificate of an erasure, from the entry that ended it."""
    return _answer(await proofs.entry(position, "erasure" if what == "erasure" else "audit entry"))


def _document(proofs: Proofs, head: SignedHead, **more: object) -> bytes:
    return msgspec.json.encode(
        {
            **more,
            "head": msgspec.Raw(head.signed),
            "signers": [msgspec.Raw(proofs.statement)],
            "cosignatures": [msgspec.Raw(one) for one in head.cosignatures],
        }
    )


def _answer(made: bytes) -> Document:
    return Response(msgspec.json.decode(made, type=dict[str, Any]), headers=NO_STORE)


HANDLERS = [show_head, show_inclusion, show_consistency, show_tile, take_cosignature, prove_entry]
