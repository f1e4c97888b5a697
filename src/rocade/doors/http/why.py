"""HTTP API of `why`: the chain of facts behind an id or a code, as sentences in the asked language.

`GET /v1/why/{id}?language=fr` -> sentences in order, each with the id that explains it further. Open to everybody who may
speak to the API at all: codes are explained to all, anything else only to whom it concerns (`trust.authority.why`).
"""

from __future__ import annotations

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, SkipValidation

from rocade.doors.http.access import AnyRequest, caller_of, does
from rocade.trust.authority.gate import acts
from rocade.trust.authority.why import Answer, Why

WhyDependency = NamedDependency[SkipValidation[Why]]


class SentenceView(msgspec.Struct, frozen=True):
    """`id` explains the sentence further; None = nothing further."""

    text: str
    id: str | None


class WhyView(msgspec.Struct, frozen=True):
    """From what happened to what it rests on."""

    id: str
    language: str
    sentences: list[SentenceView]


@get("/v1/why/{id:str}", opt=does(acts.EXPLAIN))
async def explain(
    request: AnyRequest,
    id: FromPath[str],
    why: WhyDependency,
    language: FromQuery[str] = "en",
    purpose: FromQuery[str] = "",
) -> WhyView:
    """Why: the facts behind a refusal (request id), a flag, a gap, a grant, an entry or a code; languages en, fr, zh."""
    return view(await why.explain(id, language, caller_of(request), purpose))


def view(answer: Answer) -> WhyView:
    sentences = [SentenceView(one.text, one.id or None) for one in answer.sentences if one.text]
    return WhyView(answer.id, answer.language, sentences)


HANDLERS = [explain]
