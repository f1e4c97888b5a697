"""What the door is given and what it hands upward. The door knows MQTT and TLS; whoever implements these knows vehicles.

Flow of one publish: PUBLISH read -> `Publish` collected for one tick -> `Intake.accept(tick)` returns when all of it is
durable -> PUBACK. Nothing is acknowledged before, nothing is dropped without an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from rocade.core.errors import Refused
from rocade.core.identifiers import Identity


class Client(msgspec.Struct, frozen=True):
    """Who has just connected. `identity` comes from the verified certificate, `client_id` is free text of the client."""

    identity: Identity
    client_id: str
    protocol: int
    peer: str


class Publish(msgspec.Struct, gc=False):
    """One message upward. `context` is what `Intake.admit` returned; `tail` is the end of its topic, one of its kind's."""

    context: Any
    tail: str
    body: bytes
    arrived_us: int
    protocol: int


type Verdict = Refused | None
"""None = durable. Refused = PUBACK with a reason chosen by the code (MQTT 5), or the connection is closed (3.1.1)."""


class Intake(Protocol):
    async def admit(self, client: Client) -> object:
        """Say who this is; the result travels with every publish. Raises: Refused, Unavailable (CONNACK with reason)."""
        ...

    async def accept(self, publishes: Sequence[Publish]) -> Sequence[Verdict]:
        """Return one verdict for each publish when all accepted ones are on disk.

        Raises: Unavailable: nothing of the tick was stored, or storing it again is harmless; the door stops reading
        and calls again with the same tick.
        """
        ...

    async def leave(self, context: object) -> None:
        """The connection is gone and every publish of it has its verdict."""
        ...


class Verified(Protocol):
    """What the certificate check proves (`rocade.trust.identity.certificates.Verified`)."""

    @property
    def identity(self) -> Identity: ...
    @property
    def serial(self) -> Any: ...
    @property
    def not_after_us(self) -> int: ...
    @property
    def reference(self) -> str:
        """How logs and the audit log name this party."""
        ...


class Sessions(Protocol):
    """One live connection a vehicle, across gateways: newest wins. Claims are numbers that only grow.

    When another gateway claims a vehicle that is connected here, `Door.taken_over(vehicle_id, claim)` is to be called.
    """

    async def claim(self, vehicle_id: str, /) -> int:
        """This gateway now has the vehicle; whoever had it before is told. Raises: Unavailable."""
        ...

    async def release(self, vehicle_id: str, claim: int, /) -> None:
        """The connection of this claim is gone; no effect if a later claim was made."""
        ...


class OneGateway:
    """The default: a single gateway settles takeovers by itself."""

    async def claim(self, _vehicle_id: str, /) -> int:
        return 0

    async def release(self, _vehicle_id: str, _claim: int, /) -> None:
        pass


VEHICLE_TAILS: Mapping[str, frozenset[str]] = {"vehicle": frozenset(("batch", "json", "command"))}
"""What a kind of party may publish: the road's own; another line hands its table to the door."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one gateway process. Every buffer it has is bounded by one of them."""

    tick_min_ms: float = 2.0
    tick_max_ms: float = 20.0
    max_packet_bytes: int = (1 << 20) + 1024
    receive_maximum: int = 64
    """Unacknowledged publishes of one client: MQTT 5 is disconnected above it, 3.1.1 is not read."""
    max_unacknowledged_bytes: int = 64 << 20
    """Bodies waiting for their verdict; above it no socket is read."""
    max_partial_bytes: int = 64 << 20
    """Unfinished packets of all connections; the one that would exceed it is closed as `mqtt.busy`."""
    max_connections: int = 100_000
    max_handshakes: int = 256
    """Few, so that those who are let in are through soon; the others wait in the kernel."""
    handshake_timeout_s: float = 10.0
    handshake_patience_s: float = 5.0
    """When all places are taken, a peer silent for longer gives its place away."""
    connect_timeout_s: float = 10.0
    max_admissions: int = 32
    """`Intake.admit` and `Sessions.claim` calls at once: the only database work a reconnecting fleet causes."""
    max_keep_alive_s: int = 1200
    """Longest silence allowed, whatever the client asks for (MQTT 5 is told by Server Keep Alive)."""
    packet_timeout_s: float = 60.0
    max_unsent_bytes: int = 256 << 10
    max_subscriptions: int = 8
    max_down_in_flight: int = 16
    """Messages on their way down to one party that it has not acknowledged."""
    max_client_id_bytes: int = 256
    backlog: int = 4096
    reuse_port: bool = False
