"""The command line's way to a running region: the HTTP API over mutual TLS with the operator's certificate.

Commands talk to the API, never to the engines, so that one gate sees every read. Problem documents (RFC 9457) come back
as the errors they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rocade.app import operator
from rocade.app.configuration import Configuration
from rocade.core.errors import Refused, Unavailable
from rocade.trust.identity.tls import client_context

if TYPE_CHECKING:
    import httpx


class ApiClient:
    """Blocking client; use as a context manager. `address` overrides the port of this machine, `identity` the operator's.

    Raises: Misconfigured `app.operator.ended`.
    """

    def __init__(
        self, configuration: Configuration, address: str | None = None, *, identity: Path | None = None
    ) -> None:
        import httpx

        if identity is None:
            operator.keep(configuration)
        self._client = httpx.Client(
            base_url=address or f"https://localhost:{configuration.http.api_port}",
            verify=client_context(identity or configuration.operator),
            timeout=httpx.Timeout(60, connect=5),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, **parameters: Any) -> Any:
        return self._call("GET", path, parameters)

    def post(self, path: str, **parameters: Any) -> Any:
        return self._call("POST", path, parameters)

    def put(self, path: str, **parameters: Any) -> Any:
        return self._call("PUT", path, parameters)

    def delete(self, path: str, **parameters: Any) -> Any:
        return self._call("DELETE", path, parameters)

    def form(self, path: str, fields: dict[str, str]) -> Any:
        """Post a form, as OAuth wants it."""
        with _reachable():
            response = self._client.post(path, data=fields)
        _raise_problem(response)
        return response.json()

    def _call(self, method: str, path: str, parameters: dict[str, Any]) -> Any:
        with _reachable():
            response = self._client.request(method, path, params=_given(parameters))
        _raise_problem(response)
        return response.json() if response.content else None

    def send(self, path: str, *, json: Any = None, file: Path | None = None, **parameters: Any) -> Any:
        """Post a body: a document, or a file as it lies on disk. What is done with a long file may take minutes."""
        content = file.open("rb") if file else None
        try:
            with _reachable():
                response = self._client.post(path, params=_given(parameters), json=json, content=content, timeout=900)
        finally:
            if content:
                content.close()
        _raise_problem(response)
        return response.json() if response.content else None

    def put_body(self, path: str, content: bytes, **parameters: Any) -> Any:
        """Put these bytes."""
        with _reachable():
            response = self._client.put(path, params=_given(parameters), content=content)
        _raise_problem(response)
        return response.json()

    def stream(self, path: str, **parameters: Any) -> Iterator[bytes]:
        """Yield the body as it comes, for exports."""
        with _reachable(), self._client.stream("GET", path, params=_given(parameters)) as response:
            if response.is_error:
                response.read()
                _raise_problem(response)
            yield from response.iter_bytes()

    def pages(self, path: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Follow cursors to the end; yields the items."""
        cursor: str | None = None
        while True:
            page = self.get(path, cursor=cursor, **parameters)
            yield from page["items"]
            cursor = page.get("next")
            if not cursor:
                return


class _reachable:  # noqa: N801 - reads as the phrase `with _reachable()`
    """Turn connection errors into one that says what to start."""

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        import httpx

        if isinstance(error, httpx.TimeoutException):
            raise Unavailable("app.api.slow", "the API did not answer in time; try again") from error
        if isinstance(error, httpx.ConnectError):
            raise Unavailable(
                "app.api.unreachable", f"the API does not answer ({error}); is `rocade serve` running?"
            ) from error
        if isinstance(error, httpx.TransportError):
            raise Unavailable(
                "app.api.broken", f"the API ended the connection ({error or 'no reason given'})"
            ) from error


def _given(parameters: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in parameters.items() if value is not None}


def _raise_problem(response: httpx.Response) -> None:
    """Raises: Refused or Unavailable with the server's own code; fact `why`: what `rocade why` is to be asked, if it is more."""
    if not response.is_error:
        return
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    family = Unavailable if response.status_code >= 500 else Refused
    said = problem.get("detail") or problem.get("error_description") or f"HTTP {response.status_code}"
    code, why = problem.get("code", "app.api.failed"), str(problem.get("why", "")).rpartition("/")[2]
    raise family(code, said, **({"why": why} if why not in {"", code} else {}))
