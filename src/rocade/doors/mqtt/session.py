"""The MQTT rules of one connection: who it is, what it may publish and subscribe, what it is answered.

Flow: CONNECT -> `Intake.admit`, `Sessions.claim` -> CONNACK -> PUBLISH into the group commit, SUBSCRIBE to its own
topics, messages downward. Identity is the certificate's; user name and password are ignored, a will is accepted and
never delivered (nobody could receive it), sessions are not kept (session present is always 0).

Refuses: another topic than `rocade/v1/<own id>/up/<a tail its kind of party may use>`, filters outside `rocade/v1/<own id>/down/`, QoS 2,
retained messages and topic aliases (MQTT 5), shared subscriptions, more unacknowledged publishes than announced.
"""

from __future__ import annotations

import asyncio
import logging
import struct

from rocade.core.errors import Refused, Unavailable
from rocade.doors.mqtt.contract import Client, Publish, Verdict, Verified
from rocade.doors.mqtt.downward import Downward
from rocade.doors.mqtt.house import House, party_key
from rocade.doors.mqtt.link import Link
from rocade.wire import mqtt as wire
from rocade.wire.mqtt import Reason

_log = logging.getLogger(__name__)
_PUBACK = struct.Struct(">I").pack
_CONNECT_CODES_311 = {0x84: 1, 0x85: 2, 0x88: 3, 0x89: 3, 0x86: 4}
_NOT_CONNECTED = Downward("", 0, 0)
_NO_TAILS: frozenset[str] = frozenset()
_WAITING, _ADMITTING, _OPEN, _CLOSED = range(4)


class Session:
    __slots__ = (
        "_claim", "_context", "_decoder", "_down", "_early", "_heard_us", "_house", "_is_admitted", "_outstanding",
        "_packet_us", "_silence_us", "_state", "_tails", "_up", "link", "may_explain", "number", "party", "verified",
    )  # fmt: skip

    def __init__(self, house: House, link: Link, verified: Verified, number: int, now_us: int) -> None:
        self.link = link
        self.verified = verified
        self.number = number
        self.may_explain = True
        self._house = house
        self._decoder = wire.Decoder(None, house.settings.max_packet_bytes)
        self._state = _WAITING
        self._heard_us = self._packet_us = now_us
        self._silence_us = 0
        identity = verified.identity
        self.party = party_key(identity)
        self._tails = house.tails.get(identity.kind, _NO_TAILS)
        self._up = f"rocade/v1/{identity.id}/up/"
        self._outstanding = 0
        self._is_admitted = False
        self._context: object = None
        self._claim = 0
        self._early: list[wire.Packet] | None = None
        self._down = _NOT_CONNECTED

    @property
    def is_closed(self) -> bool:
        return self._state == _CLOSED

    # --- what arrives ---

    def received(self, data: bytes, now_us: int) -> None:
        """Handle what one read returned."""
        self._heard_us = now_us
        decoder, meter = self._decoder, self._house.meter
        held = decoder.held_bytes
        try:
            packets = decoder.feed(data)
        except Refused as error:
            meter.partial_bytes -= held
            self._early = None
            self._break(_reason_of(error), error.code)
            return
        meter.partial_bytes += decoder.held_bytes - held
        if packets:
            self._packet_us = now_us
            self._handle(packets, now_us)
        if decoder.held_bytes and meter.partial_bytes > self._house.settings.max_partial_bytes:
            self._break(Reason.SERVER_BUSY, "mqtt.busy")

    def _handle(self, packets: list[wire.Packet], now_us: int) -> None:
        for index, packet in enumerate(packets):
            if self._state == _OPEN:
                if type(packet) is wire.Publish:
                    self._publish(packet, now_us)
                else:
                    self._control(packet)
            elif self._state == _WAITING and type(packet) is wire.Connect:
                self._connect(packet)
                self._early = packets[index + 1 :]
                return
            else:
                return

    def _publish(self, packet: wire.Publish, now_us: int) -> None:
        tail = packet.topic.removeprefix(self._up)
        if tail not in self._tails or len(tail) == len(packet.topic):
            self._refuse_topic(packet)
            return
        protocol = self._decoder.protocol or 0
        if packet.qos == 2:
            self._break(Reason.QOS_NOT_SUPPORTED, "mqtt.qos")
            return
        if protocol == 5 and (packet.retain or packet.properties.topic_alias is not None):
            retain = packet.retain
            self._break(
                Reason.RETAIN_NOT_SUPPORTED if retain else Reason.TOPIC_ALIAS_INVALID,
                "mqtt.retain" if retain else "mqtt.topic_alias",
            )
            return
        house = self._house
        meter = house.meter
        meter.publishes += 1
        meter.published_bytes += len(packet.payload)
        self._outstanding += 1
        if packet.qos:
            if self._outstanding > house.settings.receive_maximum:
                if protocol == 5:
                    self._outstanding -= 1
                    self._break(Reason.RECEIVE_MAXIMUM_EXCEEDED, "mqtt.receive_maximum")
                    return
                self.link.hold()
        else:
            meter.publishes_qos0 += 1
        house.add(self, packet.packet_id, Publish(self._context, tail, packet.payload, now_us, protocol))

    def _refuse_topic(self, packet: wire.Publish) -> None:
        if packet.qos == 1 and self._decoder.protocol == 5 and packet.topic:
            self._note("mqtt.publish", "mqtt.topic")
            self.link.write(self._negative_puback(packet.packet_id, Reason.NOT_AUTHORIZED, "mqtt.topic"))
        elif not packet.topic:
            self._break(Reason.TOPIC_ALIAS_INVALID, "mqtt.topic_alias")
        else:
            self._break(Reason.NOT_AUTHORIZED, "mqtt.topic", "mqtt.publish")

    def _control(self, packet: wire.Packet) -> None:
        match packet:
            case wire.Pingreq():
                self.link.write(b"\xd0\0")
            case wire.Puback():
                self._house.meter.down_acknowledged += self._down.settle(packet)
            case wire.Subscribe():
                self._subscribe(packet)
            case wire.Unsubscribe():
                self._unsubscribe(packet)
            case wire.Disconnect():
                self.close()
            case _:
                self._break(Reason.PROTOCOL_ERROR, "mqtt.protocol")
        if self.link.unsent_bytes > self._house.settings.max_unsent_bytes:
            self._break(Reason.QUOTA_EXCEEDED, "mqtt.slow_reader")

    # --- connecting ---

    def _connect(self, packet: wire.Connect) -> None:
        settings, five = self._house.settings, packet.protocol == 5
        properties, will = packet.properties, packet.will
        self.may_explain = properties.request_problem_information != 0
        most = settings.max_down_in_flight
        prefix = f"rocade/v1/{self.verified.identity.id}/down/"
        self._down = Downward(prefix, properties.receive_maximum or most, most)
        client_id_bytes = len(packet.client_id.encode())
        if properties.authentication_method is not None:
            self._refuse_connect(Reason.BAD_AUTHENTICATION_METHOD, "mqtt.authentication_method")
        elif client_id_bytes > settings.max_client_id_bytes or not (client_id_bytes or five or packet.clean_start):
            self._refuse_connect(Reason.CLIENT_ID_NOT_VALID, "mqtt.client_id")
        elif will and will.retain and five:
            self._refuse_connect(Reason.RETAIN_NOT_SUPPORTED, "mqtt.retain")
        elif will and will.qos == 2 and five:
            self._refuse_connect(Reason.QOS_NOT_SUPPORTED, "mqtt.qos")
        else:
            self._state = _ADMITTING
            self.link.hold()
            self._house.spawn(self._admit(packet))

    async def _admit(self, packet: wire.Connect) -> None:
        house = self._house
        client_id = packet.client_id or f"auto-{house.clock.now_us():x}-{self.number}"
        client = Client(self.verified.identity, client_id, packet.protocol, self.link.peer)
        try:
            async with house.admissions:
                if self.is_closed:
                    return
                self._context = await house.intake.admit(client)
                self._is_admitted = True
                self._claim = await house.sessions.claim(self.party)
        except Refused as error:
            self._refuse_connect(_reason_of(error), error.code)
        except Unavailable as error:
            self._refuse_connect(Reason.SERVER_UNAVAILABLE, error.code)
        except Exception:
            _log.exception("admission failed")
            self._refuse_connect(Reason.UNSPECIFIED, "mqtt.admission_failed")
        else:
            self._open(packet, client)
            return
        if self._is_admitted and self.is_closed:
            self._leave()

    def _open(self, packet: wire.Connect, client: Client) -> None:
        house = self._house
        older = house.parties.get(self.party)
        if older and older.number > self.number:
            self.close()
        if self.is_closed:
            house.spawn(house.sessions.release(self.party, self._claim))
            if self._is_admitted:
                self._leave()
            return
        house.parties[self.party] = self
        if older:
            older.close(Reason.SESSION_TAKEN_OVER)
        most_s = house.settings.max_keep_alive_s
        keep_alive_s = min(packet.keep_alive_s or most_s, most_s)
        self._silence_us = keep_alive_s * 1_500_000
        self._heard_us = self._packet_us = house.clock.now_us()
        self._state = _OPEN
        house.meter.connects += 1
        self.link.write(self._connack(packet, client, keep_alive_s))
        self.link.release()
        early, self._early = self._early, None
        if early:
            self._handle(early, self._heard_us)

    def _connack(self, packet: wire.Connect, client: Client, keep_alive_s: int) -> bytes:
        if packet.protocol != 5:
            return wire.encode(wire.Connack(), 4)
        settings = self._house.settings
        properties = wire.Properties(
            session_expiry_interval_s=0 if packet.properties.session_expiry_interval_s else None,
            receive_maximum=settings.receive_maximum,
            maximum_qos=1,
            retain_available=0,
            maximum_packet_size_bytes=settings.max_packet_bytes,
            assigned_client_id=None if packet.client_id else client.client_id,
            subscription_identifiers_available=0,
            shared_subscription_available=0,
            server_keep_alive_s=keep_alive_s if keep_alive_s != packet.keep_alive_s else None,
        )
        return wire.encode(wire.Connack(properties=properties), 5)

    def _refuse_connect(self, reason: int, code: str) -> None:
        """Answer CONNECT with a refusal and close."""
        if self.is_closed:
            return
        self._note("mqtt.connect", code)
        if self._decoder.protocol == 5:
            reason = reason if reason in wire.CONNACK_REASONS else Reason.PROTOCOL_ERROR
            connack = wire.Connack(reason=reason, properties=wire.Properties(reason_string=code))
        else:
            connack = wire.Connack(reason=_CONNECT_CODES_311.get(reason, 5))
        self.link.write(wire.encode(connack, self._decoder.protocol or 4))
        self.close()

    # --- subscriptions and messages downward ---

    def _subscribe(self, packet: wire.Subscribe) -> None:
        protocol, reasons, is_granted = self._decoder.protocol or 4, [], False
        for wanted in packet.subscriptions:
            reason, code = self._down.grant(wanted, packet.properties, self._house.settings.max_subscriptions)
            if code:
                self._note("mqtt.subscribe", code)
            is_granted |= not code
            reasons.append(reason if protocol == 5 else min(reason, 0x80))
        self.link.write(wire.encode(wire.Suback(packet.packet_id, tuple(reasons)), protocol))
        if is_granted:
            self._house.subscribed(self._context)

    def _unsubscribe(self, packet: wire.Unsubscribe) -> None:
        protocol, reasons = self._decoder.protocol or 4, self._down.remove(packet.filters)
        self.link.write(wire.encode(wire.Unsuback(packet.packet_id, reasons if protocol == 5 else ()), protocol))

    def send(self, tail: str, body: bytes) -> asyncio.Future[bool]:
        """Publish downward; the future is True when the vehicle has acknowledged, False when it cannot or is gone."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        message = self._down.publish(tail, body, done) if self._state == _OPEN and not self.link.unsent_bytes else None
        if message is None:
            done.set_result(False)
        else:
            self.link.write(wire.encode(message, self._decoder.protocol or 4))
            self._house.meter.down_sent += 1
        return done

    # --- verdicts ---

    def settle(self, reply: bytearray, packet_id: int, verdict: Verdict) -> None:
        """Take the verdict on one publish; its PUBACK is added to `reply`."""
        self._outstanding -= 1
        if verdict is None:
            if packet_id:
                reply += _PUBACK(0x40020000 | packet_id)
                self._house.meter.acknowledged += 1
        elif self._state == _OPEN:
            self._note("mqtt.publish", verdict.code)
            if self._decoder.protocol == 5 and packet_id:
                reply += self._negative_puback(packet_id, _reason_of(verdict), verdict.code)
            elif self._decoder.protocol != 5:
                self.link.write(reply)
                reply.clear()
                self.close(_reason_of(verdict))

    def answer(self, reply: bytearray) -> None:
        """Send the PUBACKs of one tick."""
        if self._state == _OPEN:
            if reply:
                self.link.write(reply)
                if self.link.unsent_bytes > self._house.settings.max_unsent_bytes:
                    self._break(Reason.QUOTA_EXCEEDED, "mqtt.slow_reader")
                    return
            if not self.link.is_read and self._outstanding <= self._house.settings.receive_maximum // 2:
                self._heard_us = self._packet_us = self._house.clock.now_us()
                self.link.release()
        elif self._is_admitted and not self._outstanding:
            self._leave()

    def _negative_puback(self, packet_id: int, reason: int, code: str) -> bytes:
        reason = reason if reason in wire.PUBACK_REASONS else Reason.IMPLEMENTATION_SPECIFIC
        properties = wire.Properties(reason_string=code) if self.may_explain else wire.NO_PROPERTIES
        return wire.encode(wire.Puback(packet_id, reason, properties), 5)

    # --- the end ---

    def check(self, now_us: int, quiet_since_us: int) -> None:
        """Close what is overdue: keep-alive, unfinished CONNECT or packet, expired certificate."""
        settings = self._house.settings
        heard_us, packet_us = max(self._heard_us, quiet_since_us), max(self._packet_us, quiet_since_us)
        if now_us >= self.verified.not_after_us:
            self._break(Reason.NOT_AUTHORIZED, "trust.certificate.expired")
        elif self._state == _WAITING and now_us - self._packet_us > settings.connect_timeout_s * 1e6:
            self._break(Reason.KEEP_ALIVE_TIMEOUT, "mqtt.connect_timeout")
        elif not self.link.is_read:
            pass  # it is we who do not listen
        elif self._state == _OPEN and now_us - heard_us > self._silence_us:
            self._break(Reason.KEEP_ALIVE_TIMEOUT, "mqtt.keep_alive")
        elif self._decoder.held_bytes and now_us - packet_us > settings.packet_timeout_s * 1e6:
            self._break(Reason.KEEP_ALIVE_TIMEOUT, "mqtt.packet_timeout")

    def expel(self, reason: int, code: str) -> None:
        """Close and audit: revoked certificate, administrative act."""
        self._break(reason, code)

    def _break(self, reason: int, code: str, action: str = "mqtt.connection") -> None:
        if not self.is_closed:
            self._note(action, code)
            self.close(reason, code)

    def close(self, reason: int = Reason.SUCCESS, code: str = "") -> None:
        """End the connection; an MQTT 5 client is told why."""
        if self.is_closed:
            return
        was_open, self._state = self._state == _OPEN, _CLOSED
        if was_open and reason and self._decoder.protocol == 5:
            reason = reason if reason in wire.DISCONNECT_REASONS else Reason.IMPLEMENTATION_SPECIFIC
            properties = wire.Properties(reason_string=code) if code else wire.NO_PROPERTIES
            self.link.write(wire.encode(wire.Disconnect(reason, properties), 5))
        house = self._house
        house.meter.partial_bytes -= self._decoder.held_bytes
        house.part(self)
        if house.parties.get(self.party) is self:
            del house.parties[self.party]
            house.spawn(house.sessions.release(self.party, self._claim))
        self._down.end()
        if self._is_admitted and not self._outstanding:
            self._leave()

    def lost_to(self, claim: int) -> bool:
        """Whether another gateway's claim is newer than ours."""
        return claim > self._claim

    def _leave(self) -> None:
        self._is_admitted = False
        self._house.spawn(self._house.intake.leave(self._context))

    def _note(self, action: str, code: str) -> None:
        self._house.refusals.note(action, code, self.verified.reference, "door:mqtt", peer=self.link.peer)


def _reason_of(error: Refused) -> int:
    """MQTT 5 reason for a refusal: the one it names, else by the family of its code."""
    reason = error.facts.get("reason")
    if isinstance(reason, int):
        return reason
    match error.code.partition(".")[0]:
        case "batch":
            return Reason.PAYLOAD_FORMAT_INVALID
        case "quota":
            return Reason.QUOTA_EXCEEDED
        case "auth" | "trust":
            return Reason.NOT_AUTHORIZED
        case _:
            return Reason.IMPLEMENTATION_SPECIFIC
