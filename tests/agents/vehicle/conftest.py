"""A platform to talk to: a real socket and the real codec, with a script for what it answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.chance import Seeded

from rocade.agents.link import Backoff
from rocade.agents.vehicle.agent import Agent
from rocade.agents.vehicle.journal import ROOMY, Journal, Limits
from rocade.core import catalogue
from rocade.core.ports import SystemClock
from rocade.wire.batch import check_many
from rocade.wire.mqtt import (
    Connack,
    Connect,
    Decoder,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Properties,
    Puback,
    Publish,
    Suback,
    Subscribe,
    encode,
)

VEHICLE = "VF1AAAAA000000001"


class Platform:
    """Takes connections, keeps bodies, answers as told. `answer(sequence, times_seen)`: reason, None = silence, -1 = cut."""

    def __init__(self) -> None:
        self.port = 0
        self.bodies: list[bytes] = []
        self.seen: dict[int, int] = {}
        self.acknowledged: set[int] = set()
        self.connects: list[Connect] = []
        self.window_seen = 0
        self.answer: Callable[[int, int], int | None] = lambda _sequence, _times: 0
        self.connack = Connack(properties=Properties(receive_maximum=5))
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server
        self._server.close()
        self.cut()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def say(self, packet: Packet) -> None:
        """Send something down every open connection."""
        for writer in self._writers:
            writer.write(encode(packet))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = Decoder(None)
        self._writers.append(writer)
        try:
            while data := await reader.read(65536):
                packets = decoder.feed(data)
                self.window_seen = max(self.window_seen, sum(isinstance(packet, Publish) for packet in packets))
                for packet in packets:
                    self._take(packet, writer)
        except ConnectionError:
            return
        finally:
            writer.close()

    def _take(self, packet: Packet, writer: asyncio.StreamWriter) -> None:
        match packet:
            case Connect():
                self.connects.append(packet)
                writer.write(encode(self.connack))
            case Subscribe():
                assert packet.subscriptions[0].filter == f"rocade/v1/{VEHICLE}/down/#"
                writer.write(encode(Suback(packet_id=packet.packet_id, reasons=(1,))))
            case Pingreq():
                writer.write(encode(Pingresp()))
            case Publish():
                assert packet.topic == f"rocade/v1/{VEHICLE}/up/batch"
                self._publish(packet, writer)
            case Disconnect() | Puback():
                pass
            case _:
                raise AssertionError(packet)

    def _publish(self, packet: Publish, writer: asyncio.StreamWriter) -> None:
        checked = check_many([packet.payload])
        assert checked.reasons == [None]
        sequence = int(checked.sequence[0])
        self.seen[sequence] = self.seen.get(sequence, 0) + 1
        reason = self.answer(sequence, self.seen[sequence])
        if reason == -1:
            writer.transport.abort()
        elif reason is not None:
            if reason == 0:
                self.bodies.append(packet.payload)
                self.acknowledged.add(sequence)
            writer.write(encode(Puback(packet_id=packet.packet_id, reason=reason)))


@pytest.fixture
async def platform() -> AsyncIterator[Platform]:
    one = Platform()
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
def make_journal(tmp_path: Path) -> Callable[..., Journal]:
    def make(name: str = "journal.sqlite3", limits: Limits = ROOMY) -> Journal:
        return Journal(tmp_path / name, SystemClock(), Seeded(), limits)

    return make


@pytest.fixture
def make_agent(platform: Platform) -> Callable[..., Agent]:
    def make(journal: Journal, **more: float) -> Agent:
        return Agent(
            VEHICLE, "127.0.0.1", platform.port, journal, lambda: None, SystemClock(), Seeded(),
            window=20, backoff=Backoff(first_s=0.02, most_s=0.2), **more,
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def standard() -> catalogue.Catalogue:
    return catalogue.standard()
