"""Price lists followed: the newest signed head of each list is applied, one after the other, and what came of it is said.

Flow: `offer` keeps the newest head of a list (an older one waiting is overtaken: skip-deltas make up for it) -> the store
checks it and asks `fetch` for the blobs it chose -> applied, state root checked inside the transaction -> `tell` says
`applied` with the root, or `refused` with the code. A blob that cannot be had is tried again; a head that is refused stays
refused until the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import msgspec

from rocade.agents.dealer.believing import opened
from rocade.agents.dealer.memory import give_back
from rocade.agents.link import Backoff
from rocade.core.errors import Refused, RocadeError, Unavailable
from rocade.core.ports import Clock, Random
from rocade.trust.identity import tls

log = logging.getLogger(__name__)
MOST_BLOB_BYTES = 64 << 20
_TIMEOUT_S = 30.0


class Lists(Protocol):
    """The part of the price store needed here; `apply` returns when the list is on disk at this head."""

    def apply(self, head: bytes, fetch: Callable[[str], bytes]) -> Any: ...


class Blobs:
    """Fetches content-addressed files over HTTPS, one connection kept; used by the applying thread only."""

    def __init__(
        self,
        host: str,
        port: int,
        context_of: Callable[[], ssl.SSLContext],
        check: Callable[[bytes], object],
    ) -> None:
        self._host, self._port, self._context_of, self._check = host, port, context_of, check
        self._http: http.client.HTTPSConnection | None = None
        self.fetched_bytes = 0

    def fetch(self, name: str) -> bytes:
        """The blob of this SHA-256; whether it is that is checked by whoever uses it.

        Raises: Unavailable `dealer.blob.down`; Refused `dealer.blob.refused`, `dealer.blob.too_large`.
        """
        for attempt in (1, 2):  # a kept connection may have been closed meanwhile
            was_kept = self._http is not None
            try:
                return self._ask(name)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if attempt == 2 or not was_kept:
                    raise Unavailable(
                        "dealer.blob.down", f"price file not fetched: {type(error).__name__}; tried again by itself"
                    ) from error
        raise AssertionError

    def close(self) -> None:
        if self._http:
            self._http.close()
            self._http = None

    def _ask(self, name: str) -> bytes:
        if self._http is None:
            self._http = http.client.HTTPSConnection(
                self._host, self._port, timeout=_TIMEOUT_S, context=self._context_of()
            )
            self._http.connect()
            assert isinstance(self._http.sock, ssl.SSLSocket)
            self._check(tls.peer_leaf(self._http.sock) or b"")
        self._http.request("GET", f"/v1/price-blobs/{name}")
        answer = self._http.getresponse()
        body = answer.read(MOST_BLOB_BYTES + 1)
        if len(body) > MOST_BLOB_BYTES:
            self.close()
            raise Refused("dealer.blob.too_large", f"a price file may have {MOST_BLOB_BYTES} bytes")
        if answer.status >= 500 or answer.status == 429:
            raise Unavailable("dealer.blob.down", f"the hub answers {answer.status} for a price file")
        if answer.status != 200:
            raise Refused("dealer.blob.refused", f"the hub answers {answer.status} for a price file")
        self.fetched_bytes += len(body)
        return body


class _Head(msgspec.Struct):
    list: str
    seq: int


class Following:
    """Of one hub. `tell(tail, body)` speaks to it, `signed(payload)` makes the DSSE envelope of an acknowledgement."""

    def __init__(
        self,
        lists: Lists,
        blobs: Blobs,
        applying: ThreadPoolExecutor,
        said: Callable[[dict[str, object]], None],
        trouble: Callable[[str, str], None],
        clock: Clock,
        random: Random,
    ) -> None:
        self._lists, self._blobs, self._applying = lists, blobs, applying
        self._said, self._trouble, self._clock, self._random = said, trouble, clock, random
        self._waiting: dict[str, tuple[int, bytes]] = {}
        self._more = asyncio.Event()
        self._patience = Backoff(first_s=0.5, most_s=60.0)
        self.is_idle = asyncio.Event()
        self.is_idle.set()

    def offer(self, head: bytes) -> None:
        """Take a head as it came down. Raises: Refused `dealer.head.malformed`."""
        read = read_head(head)
        if self._waiting.get(read.list, (0, b""))[0] <= read.seq:
            self._waiting[read.list] = read.seq, head
        self.is_idle.clear()
        self._more.set()

    def again(self) -> None:
        """Something that was missing may be there now."""
        self._more.set()

    async def run(self) -> None:
        """Apply what is offered, for ever; cancel to stop."""
        attempt = 0
        while True:
            while not self._waiting:
                self.is_idle.set()
                self._more.clear()
                await self._more.wait()
            name, (seq, head) = next(iter(self._waiting.items()))
            try:
                await self._apply(name, seq, head)
            except Unavailable as error:
                self._trouble(error.code, error.message)
                attempt += 1
                self._more.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._more.wait(), 0.1 + self._patience.wait_s(attempt, self._random))
                continue
            attempt = 0
            if self._waiting.get(name) == (seq, head):
                del self._waiting[name]

    async def _apply(self, name: str, seq: int, head: bytes) -> None:
        """Raises: Unavailable (again later)."""
        answer: dict[str, object] = {"list": name, "seq": seq, "state": "applied", "state_root": "", "code": ""}
        try:
            root = await asyncio.get_running_loop().run_in_executor(self._applying, self._apply_now, head)
            answer["state_root"] = root if isinstance(root, str) else getattr(root, "state_root", "")
        except Unavailable:
            raise
        except RocadeError as error:
            log.warning("head %s %d refused: %s", name, seq, error.code)
            self._trouble(error.code, f"{name} {seq}: {error.message}")
            answer |= {"state": "refused", "code": error.code}
        self._said(answer | {"at_us": self._clock.now_us()})

    def _apply_now(self, head: bytes) -> Any:
        try:
            return self._lists.apply(head, self._blobs.fetch)
        finally:
            give_back()


def read_head(envelope: bytes) -> _Head:
    """What a head says of itself; nothing of it is believed before the store checked it.

    Raises: Refused `dealer.head.malformed`.
    """
    try:
        return msgspec.json.decode(opened(envelope), type=_Head)
    except (msgspec.MsgspecError, Refused):
        raise Refused("dealer.head.malformed", "this is no signed head of a price list") from None
