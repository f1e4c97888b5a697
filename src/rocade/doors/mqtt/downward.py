"""What one party has subscribed, and the messages on their way down to it.

It may subscribe below `rocade/v1/<own id>/down/` only. A message is delivered when the vehicle has acknowledged it; the
door keeps nothing for a vehicle that is away, its caller sends again what is still wanted.
"""

from __future__ import annotations

import asyncio

from rocade.wire import mqtt as wire
from rocade.wire.mqtt import Reason


class Downward:
    __slots__ = ("_filters", "_in_flight", "_last_id", "_most", "_prefix")

    def __init__(self, prefix: str, receive_maximum: int, most: int) -> None:
        self._prefix = prefix
        self._most = min(receive_maximum, most)
        self._filters: tuple[wire.Subscription, ...] = ()
        self._in_flight: dict[int, asyncio.Future[bool]] = {}
        self._last_id = 0

    def grant(self, wanted: wire.Subscription, properties: wire.Properties, most_filters: int) -> tuple[int, str]:
        """The SUBACK reason for one filter, and the code of its refusal or ''."""
        if wanted.filter.startswith("$share/"):
            return Reason.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED, "mqtt.shared_subscription"
        if properties.subscription_identifiers:
            return Reason.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED, "mqtt.subscription_identifier"
        if not wanted.filter.startswith(self._prefix):
            return Reason.NOT_AUTHORIZED, "mqtt.topic"
        others = tuple(one for one in self._filters if one.filter != wanted.filter)
        if len(others) >= most_filters:
            return Reason.QUOTA_EXCEEDED, "mqtt.subscriptions"
        granted = wire.Subscription(wanted.filter, min(wanted.qos, 1))
        self._filters = (*others, granted)
        return granted.qos, ""

    def remove(self, filters: tuple[str, ...]) -> tuple[int, ...]:
        """The UNSUBACK reasons."""
        held = {one.filter for one in self._filters}
        self._filters = tuple(one for one in self._filters if one.filter not in filters)
        return tuple(0 if one in held else Reason.NO_SUBSCRIPTION_EXISTED for one in filters)

    def publish(self, tail: str, body: bytes, done: asyncio.Future[bool]) -> wire.Publish | None:
        """The message to send, `done` to be set by its PUBACK; None if it is not subscribed or too much is in flight.

        A vehicle that subscribed with QoS 0 acknowledges nothing: sent is delivered.
        """
        topic = f"{self._prefix}{tail}"
        qos = max((one.qos for one in self._filters if wire.matches(one.filter, topic)), default=None)
        if qos is None or len(self._in_flight) >= self._most:
            return None
        if not qos:
            done.set_result(True)
            return wire.Publish(topic, body)
        self._last_id = self._last_id % 0xFFFF + 1
        while self._last_id in self._in_flight:
            self._last_id = self._last_id % 0xFFFF + 1
        self._in_flight[self._last_id] = done
        return wire.Publish(topic, body, 1, self._last_id)

    def settle(self, packet: wire.Puback) -> bool:
        """Take a PUBACK; whether it acknowledges something."""
        done = self._in_flight.pop(packet.packet_id, None)
        if done is None:
            return False
        if not done.done():
            done.set_result(packet.reason < 0x80)
        return packet.reason < 0x80

    def end(self) -> None:
        """The connection is gone: nothing more will be acknowledged."""
        for done in self._in_flight.values():
            if not done.done():
                done.set_result(False)
        self._in_flight.clear()
