"""What the door of charging stations is given and what it hands upward. The door knows OCPP and TLS; the handler knows stations.

Flow of one message: a CALL is read and checked against its schema -> `Asked` collected for one tick -> `Handler.accept(tick)`
returns when all of it is durable -> CALLRESULT or CALLERROR. Nothing is answered before, nothing is dropped without an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

from rocade.core.identifiers import Identity

type Version = Literal["1.6", "2.0.1", "2.1"]
type Way = Literal["plain", "tls", "certificate"]
"""How it came: OCPP's security profiles 1 (password in clear), 2 (password over TLS), 3 (certificates on both sides)."""

SUBPROTOCOLS: dict[str, Version] = {"ocpp2.1": "2.1", "ocpp2.0.1": "2.0.1", "ocpp1.6": "1.6"}
"""By what is written in Sec-WebSocket-Protocol; the newest that both speak is taken."""
PROFILE: dict[Way, int] = {"plain": 1, "tls": 2, "certificate": 3}


class Caller(msgspec.Struct, frozen=True):
    """Who has just connected. `station` is what it calls itself in the address; `identity` is what its certificate proves."""

    station: str
    version: Version
    way: Way
    peer: str
    password: str | None = None
    identity: Identity | None = None


class Asked(msgspec.Struct, gc=False):
    """One CALL of a station, its payload valid by the schema. `context` is what `Handler.admit` returned."""

    context: Any
    version: Version
    action: str
    payload: dict[str, Any]
    arrived_us: int


class Problem(msgspec.Struct, frozen=True):
    """A CALLERROR: `kind` is one of OCPP's error codes, `code` one of ours."""

    kind: str
    code: str
    text: str


type Answer = dict[str, Any] | Problem


class Handler(Protocol):
    """Implemented by `services.charging.stations`."""

    async def admit(self, caller: Caller) -> object:
        """Say who this is; the result travels with every message. Raises: Refused (401 or 403), Unavailable (503)."""
        ...

    def opened(self, context: Any) -> None:
        """The line is up: messages will come, and may be sent."""
        ...

    async def accept(self, asked: Sequence[Asked]) -> Sequence[Answer]:
        """One answer each, when all that is answered well is on disk. At most one message of a station is in a tick.

        Raises: Unavailable: nothing of the tick was stored, or storing it again is harmless; it is handed in again for a
        while, then every station of the tick is told to send again.
        """
        ...

    async def leave(self, context: Any) -> None:
        """The line is gone and every message of it has its answer."""
        ...


class Verified(Protocol):
    """What the certificate check proves (`rocade.trust.identity.certificates.Verified`)."""

    @property
    def identity(self) -> Identity: ...
    @property
    def serial(self) -> Any: ...


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one door. Every buffer it has is bounded by one of them."""

    tick_min_ms: float = 2.0
    tick_max_ms: float = 20.0
    hold_s: float = 10.0
    """How long a tick waits for the database before its stations are told to send again."""
    max_message_bytes: int = 256 << 10
    max_waiting: int = 4
    """Messages a station may send before the first is answered; beyond, it is not read."""
    max_waiting_bytes: int = 64 << 20
    """Unanswered messages of all stations; beyond, messages are answered with an error at once."""
    max_unsent_bytes: int = 1 << 20
    messages_per_s: float = 20.0
    burst_s: float = 30.0
    max_refused: int = 200
    """Messages over the rate, one after the other, before the line is closed."""
    max_connections: int = 10_000
    max_opening: int = 512
    """Connections that have not proven who they are."""
    max_opening_per_peer: int = 64
    opening_s: float = 15.0
    ping_s: float = 45.0
    silent_s: float = 150.0
    """A line that brings nothing, not even a pong, for so long is dropped."""
    call_s: float = 30.0
    max_calls: int = 32
    """Our calls that wait for one station."""
