"""Where an access token may stand."""

from __future__ import annotations

import pytest

from rocade.core.errors import Refused
from rocade.doors.http.bearer import bearer_of


def asked(*headers: bytes, query: bytes = b"") -> dict[str, object]:
    return {"headers": [(b"host", b"x"), *((b"authorization", one) for one in headers)], "query_string": query}


@pytest.mark.parametrize(
    ("headers", "token"),
    [((), ""), ((b"Bearer abc",), "abc"), ((b"bearer  abc ",), "abc"), ((b"Basic abc",), ""), ((b"Bearer",), "")],
)
def test_a_token_stands_in_the_header(headers: tuple[bytes, ...], token: str) -> None:
    assert bearer_of(asked(*headers)) == token


@pytest.mark.parametrize(
    ("headers", "query", "code"),
    [
        ((), b"access_token=abc", "access.token.query"),
        ((b"Bearer abc",), b"limit=5&access_token=abc", "access.token.query"),
        ((b"Bearer abc", b"Bearer abd"), b"", "access.token.many"),
    ],
)
def test_refused_is_a_token_anywhere_else_or_twice(headers: tuple[bytes, ...], query: bytes, code: str) -> None:
    with pytest.raises(Refused) as refused:
        bearer_of(asked(*headers, query=query))
    assert refused.value.code == code
