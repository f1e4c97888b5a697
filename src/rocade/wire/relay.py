"""Many TCP connections over one line: frames, streams with their own credit, and the order in which they leave.

    byte 0      type: OPEN 1, ACCEPT 2, REFUSE 3, DATA 4, CREDIT 5, END 6, RESET 7, PING 8, PONG 9
    bytes 1-4   stream, big endian; odd ones are opened by the agent, even ones by the hub, 0 is the line itself
    bytes 5-6   length of the payload, big endian
    payload     OPEN: JSON `Opening`; ACCEPT: JSON `Terms`; REFUSE, RESET: a code; CREDIT: 4 bytes, how many more may come

A stream is asked for (OPEN), then accepted or refused. Each side may send as many bytes as it was given credit for, so that a
reader that is slow holds up its own stream and no other. What leaves next is chosen by class (`CLASSES`: voice first, bulk
last) and in turns within a class; a frame carries at most 16 KiB, so that a voice frame waits for one frame of bulk, not for a
file. No sockets here: `feed` takes bytes and gives events, `frames` gives bytes. Source: docs/decisions/0046-interconnection.md.
"""

from __future__ import annotations

import struct
from collections import deque

import msgspec

from rocade.core.errors import Refused

CLASSES = ("voice", "card", "business", "bulk")
"""Priority classes, the first served first: telephones, card terminals, what people wait for, the rest."""
MOST_DATA_BYTES = 16 << 10
WINDOW_BYTES = 256 << 10
MOST_STREAMS = 256
OPEN, ACCEPT, REFUSE, DATA, CREDIT, END, RESET, PING, PONG = range(1, 10)
_HEAD = struct.Struct(">BIH")
_CREDIT = struct.Struct(">I")


class Opening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one side asks for: a named service, by which device at the site; the hub adds whose stream it is, and its class."""

    service: str
    device: str = ""
    caller: str = ""
    priority: str = "business"


class Terms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was agreed for a stream. `priority`: one of `CLASSES`."""

    priority: str = "business"


class Event(msgspec.Struct, frozen=True, gc=False):
    """`kind` is the frame's type. `data` of DATA; `code` of REFUSE and RESET; `opening` of OPEN; `terms` of ACCEPT."""

    kind: int
    stream: int
    data: bytes = b""
    code: str = ""
    opening: Opening | None = None
    terms: Terms | None = None


class _Stream:
    """One stream: what waits to leave, the credit both sides hold, and which halves are over."""

    __slots__ = (
        "credit",
        "end_sent",
        "ends",
        "heard_end",
        "is_open",
        "owed",
        "priority",
        "waiting",
        "waiting_bytes",
        "window",
    )

    def __init__(self) -> None:
        self.is_open = self.ends = self.end_sent = self.heard_end = False
        self.priority = CLASSES.index("business")
        self.credit = WINDOW_BYTES
        self.window = WINDOW_BYTES
        self.owed = 0
        self.waiting: deque[bytes] = deque()
        self.waiting_bytes = 0


class Multiplexer:
    """Both ends of a line hold one; `is_hub` says which."""

    def __init__(self, *, is_hub: bool) -> None:
        self._is_hub = is_hub
        self._next = 2 if is_hub else 1
        self._streams: dict[int, _Stream] = {}
        self._control: deque[bytes] = deque()
        self._turns: tuple[deque[int], ...] = tuple(deque() for _ in CLASSES)
        self._buffer = bytearray()

    def __len__(self) -> int:
        return len(self._streams)

    # --- what the owner of this end does -------------------------------------------------------------------------

    def open(self, opening: Opening) -> int:
        """Ask for a stream; its number. Raises: Refused `relay.streams`."""
        if len(self._streams) >= MOST_STREAMS:
            raise Refused("relay.streams", f"a line carries {MOST_STREAMS} connections at once; close one first")
        number, self._next = self._next, self._next + 2
        self._streams[number] = _Stream()
        self._say(OPEN, number, msgspec.json.encode(opening))
        return number

    def accept(self, number: int, terms: Terms) -> None:
        stream = self._streams[number]
        stream.is_open, stream.priority = True, _class_of(terms)
        self._say(ACCEPT, number, msgspec.json.encode(terms))

    def refuse(self, number: int, code: str) -> None:
        if self._streams.pop(number, None):
            self._say(REFUSE, number, code.encode()[:200])

    def send(self, number: int, data: bytes) -> None:
        """Queue bytes of an open stream; the caller holds back while `unsent(number)` is large."""
        stream = self._streams.get(number)
        if stream is None or stream.ends or not data:
            return
        view = memoryview(data)
        for at in range(0, len(data), MOST_DATA_BYTES):
            stream.waiting.append(bytes(view[at : at + MOST_DATA_BYTES]))
        stream.waiting_bytes += len(data)
        self._take_turn(number, stream)

    def unsent(self, number: int) -> int:
        """Bytes of a stream that wait for credit or for their turn."""
        stream = self._streams.get(number)
        return stream.waiting_bytes if stream else 0

    def took(self, number: int, count: int) -> None:
        """The owner has passed on `count` received bytes: the other side may send as many more."""
        stream = self._streams.get(number)
        if stream is None or stream.heard_end:
            return
        stream.owed += count
        if stream.owed >= WINDOW_BYTES // 4:
            stream.window += stream.owed
            self._say(CREDIT, number, _CREDIT.pack(stream.owed))
            stream.owed = 0

    def end(self, number: int) -> None:
        """Nothing more will be sent on this stream; what waits still leaves."""
        stream = self._streams.get(number)
        if stream and not stream.ends:
            stream.ends = True
            self._take_turn(number, stream)

    def reset(self, number: int, code: str) -> None:
        """Give the stream up at once, in both directions."""
        if self._streams.pop(number, None):
            self._say(RESET, number, code.encode()[:200])

    def ping(self) -> None:
        self._say(PING, 0, b"")

    # --- what leaves ----------------------------------------------------------------------------------------------

    def frames(self, most_bytes: int) -> bytes:
        """The next frames to write, about `most_bytes` of them, by class; b"" when nothing may leave."""
        out = bytearray()
        while self._control and len(out) < most_bytes:
            out += self._control.popleft()
        for turn in self._turns:
            while turn and len(out) < most_bytes:
                number = turn.popleft()
                stream = self._streams.get(number)
                if stream is None:
                    continue
                if stream.waiting and stream.credit > 0:
                    out += self._piece(number, stream)
                if stream.waiting and stream.credit > 0:
                    turn.append(number)
                elif stream.ends and not stream.waiting and not stream.end_sent:
                    stream.end_sent = True
                    out += _HEAD.pack(END, number, 0)
                    self._settle(number, stream)
        return bytes(out)

    def _piece(self, number: int, stream: _Stream) -> bytes:
        data = stream.waiting.popleft()
        if len(data) > stream.credit:
            stream.waiting.appendleft(data[stream.credit :])
            data = data[: stream.credit]
        stream.credit -= len(data)
        stream.waiting_bytes -= len(data)
        return _HEAD.pack(DATA, number, len(data)) + data

    def _take_turn(self, number: int, stream: _Stream) -> None:
        turn = self._turns[stream.priority]
        if number not in turn and stream.is_open:
            turn.append(number)

    def _say(self, kind: int, number: int, payload: bytes) -> None:
        self._control.append(_HEAD.pack(kind, number, len(payload)) + payload)

    def _settle(self, number: int, stream: _Stream) -> None:
        if stream.end_sent and stream.heard_end:
            del self._streams[number]

    # --- what arrives ---------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> list[Event]:
        """Events of the frames that are complete. Raises: Refused `relay.frame`, `relay.credit`, `relay.stream`."""
        self._buffer += data
        events: list[Event] = []
        at = 0
        while len(self._buffer) - at >= _HEAD.size:
            kind, number, length = _HEAD.unpack_from(self._buffer, at)
            if length > MOST_DATA_BYTES or not OPEN <= kind <= PONG:
                raise Refused("relay.frame", "this is no frame of a relay line")
            if len(self._buffer) - at - _HEAD.size < length:
                break
            payload = bytes(self._buffer[at + _HEAD.size : at + _HEAD.size + length])
            at += _HEAD.size + length
            if (event := self._hear(kind, number, payload)) is not None:
                events.append(event)
        del self._buffer[:at]
        return events

    def _hear(self, kind: int, number: int, payload: bytes) -> Event | None:
        if kind in (PING, PONG):
            if kind == PING:
                self._say(PONG, 0, b"")
            return None
        if kind == OPEN:
            return self._asked(number, payload)
        stream = self._streams.get(number)
        if stream is None:
            return None  # of a stream that ended here a moment ago
        if kind == DATA:
            stream.window -= len(payload)
            if stream.window < 0 or not stream.is_open or stream.heard_end:
                raise Refused("relay.credit", "more was sent on a stream than it was given credit for")
            return Event(DATA, number, payload)
        if kind == CREDIT:
            if len(payload) != _CREDIT.size:
                raise Refused("relay.frame", "this is no frame of a relay line")
            stream.credit = min(stream.credit + _CREDIT.unpack(payload)[0], 4 * WINDOW_BYTES)
            if stream.waiting:
                self._take_turn(number, stream)
            return Event(CREDIT, number)
        if kind == ACCEPT:
            terms = _read(payload, Terms)
            stream.is_open, stream.priority = True, _class_of(terms)
            return Event(ACCEPT, number, terms=terms)
        if kind == END:
            stream.heard_end = True
            self._settle(number, stream)
            return Event(END, number)
        del self._streams[number]
        return Event(kind, number, code=payload.decode("ascii", "replace"))

    def _asked(self, number: int, payload: bytes) -> Event | None:
        is_theirs = number > 0 and number % 2 == (1 if self._is_hub else 0)
        if not is_theirs or number in self._streams:
            raise Refused("relay.stream", "a stream's number is its opener's and is used once")
        opening = _read(payload, Opening)
        self._streams[number] = _Stream()
        if len(self._streams) > MOST_STREAMS:
            self.refuse(number, "relay.streams")
            return None
        return Event(OPEN, number, opening=opening)


def _read[T](payload: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(payload, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Refused("relay.frame", "this is no frame of a relay line") from None


def _class_of(terms: Terms) -> int:
    if terms.priority not in CLASSES:
        raise Refused("relay.class", f"a priority class is one of {', '.join(CLASSES)}")
    return CLASSES.index(terms.priority)
