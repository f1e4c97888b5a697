"""A network between vehicles and gateways: delay, loss, cuts, partitions, halves of messages, the old after the new.

What travels are the bytes of real MQTT connections. As with TCP, bytes of one connection stay in order and none is lost
alone: loss is a connection that dies with what was on its way. A vehicle that comes back through another gateway while its
old bytes still travel makes messages arrive out of order and twice; both ends learn of a death late, or by silence alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from virtual_loop import Dice, VirtualLoop


class Weather:
    """How bad the network is now; `calm` ends all of it."""

    def __init__(self, dice: Dice) -> None:
        self.delay_s = dice.choice((0.005, 0.05, 0.5))
        self.cut = dice.choice((0.0, 0.01, 0.05, 0.15))
        """Chance of each piece of bytes that the connection dies under it."""
        self.split = dice.choice((0.0, 0.2))
        self.late = dice.choice((0.0, 0.02, 0.1))
        """Chance of each piece to be held up for seconds."""
        self.unreachable: dict[int, float] = {}
        """Vehicles in a tunnel, and until when."""

    def calm(self) -> None:
        self.cut = self.late = 0.0
        self.delay_s = 0.02
        self.unreachable.clear()


class Pipe:
    """One direction of a connection; `deliver` gets bytes, or None when the other end is gone."""

    def __init__(self, network: Network, wire: Wire, deliver: Callable[[bytes | None], None]) -> None:
        self._network, self._wire, self._deliver = network, wire, deliver
        self._last_s = 0.0
        self.is_dead = False

    def put(self, data: bytes) -> None:
        weather, dice = self._network.weather, self._network.dice
        pieces = [data]
        if len(data) > 1 and dice.happens(weather.split):
            at = dice.randrange(1, len(data))
            pieces = [data[:at], data[at:]]
        for piece in pieces:
            if self.is_dead:
                return
            if dice.happens(weather.cut):
                self._wire.die()
                return
            self._send(piece)

    def end(self) -> None:
        """A goodbye that travels behind what was written."""
        if not self.is_dead:
            self._send(None)
            self.is_dead = True

    def _send(self, piece: bytes | None) -> None:
        network, now_s = self._network, self._network.loop.time()
        wait_s = network.dice.random() * network.weather.delay_s
        if network.dice.happens(network.weather.late):
            wait_s += network.dice.random() * 15
        tunnel_s = network.weather.unreachable.get(self._wire.vehicle, 0.0)
        self._last_s = max(self._last_s + 1e-6, now_s + wait_s, tunnel_s)  # equal instants have no order in the loop
        network.loop.call_at(self._last_s, self._arrive, piece)

    def _arrive(self, piece: bytes | None) -> None:
        self._network.loop.note(self._wire.vehicle, self._wire.number, len(piece or b""))
        self._deliver(piece)


class Wire:
    """One connection: `up` towards the gateway, `down` towards the vehicle."""

    def __init__(self, network: Network, vehicle: int, number: int) -> None:
        self.network, self.vehicle, self.number = network, vehicle, number
        self.up = Pipe(network, self, self._to_gateway)
        self.down = Pipe(network, self, self._to_vehicle)
        self.gateway_end: Callable[[bytes | None], None] = lambda _data: None
        self.vehicle_end: Callable[[bytes | None], None] = lambda _data: None

    def _to_gateway(self, data: bytes | None) -> None:
        self.gateway_end(data)

    def _to_vehicle(self, data: bytes | None) -> None:
        self.vehicle_end(data)

    def die(self) -> None:
        """Break under the bytes; what left before may still arrive, each end hears of it some time."""
        for pipe, end in ((self.up, self.gateway_end), (self.down, self.vehicle_end)):
            if not pipe.is_dead:
                pipe.is_dead = True
                learns_s = pipe._last_s + self.network.dice.random() * self.network.dice.choice((0.1, 5, 60))
                self.network.loop.call_at(max(learns_s, self.network.loop.time()), end, None)


class VehicleTransport(asyncio.Transport):
    """What the agent's link sees of a wire."""

    def __init__(self, wire: Wire, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._wire, self._protocol = wire, protocol
        self._is_closing = self._is_lost = False
        wire.vehicle_end = self._receive

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self._is_closing

    def write(self, data: Any) -> None:
        if not self._is_closing:
            self._wire.up.put(bytes(data))

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._wire.up.end()
            asyncio.get_running_loop().call_soon(self._lose, None)

    def abort(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._wire.die()
            asyncio.get_running_loop().call_soon(self._lose, None)

    def _receive(self, data: bytes | None) -> None:
        if self._is_closing:
            return
        if data is None:
            self._is_closing = True
            self._wire.up.end()
            self._lose(ConnectionResetError("the network ended it"))
        else:
            self._protocol.data_received(data)

    def _lose(self, error: Exception | None) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._protocol.connection_lost(error)


class Network:
    """Opens wires between vehicles (their number is the port they ask for) and whichever gateway answers."""

    def __init__(self, loop: VirtualLoop, dice: Dice) -> None:
        self.loop, self.dice, self.weather = loop, dice, Weather(dice)
        self.gateways: list[Any] = []
        self._number = 0
        loop.connect = self.connect

    async def connect(self, factory: Callable[[], asyncio.Protocol], _host: str, vehicle: int) -> Any:
        await asyncio.sleep(self.dice.random() * self.weather.delay_s * 2)
        while self.weather.unreachable.get(vehicle, 0.0) > self.loop.time():
            await asyncio.sleep(1.0)  # nobody answers; the agent gives up by itself
        open_now = [gateway for gateway in self.gateways if gateway.is_open]
        if not open_now:
            raise ConnectionRefusedError("no gateway listens")
        self._number += 1
        wire = Wire(self, vehicle, self._number)
        protocol = factory()
        transport = VehicleTransport(wire, protocol)
        self.dice.choice(open_now).welcome(wire)
        protocol.connection_made(transport)
        return transport, protocol
