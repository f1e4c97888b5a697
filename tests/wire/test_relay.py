"""The multiplexer of relay lines, both ends in memory."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocade.core.errors import Refused
from rocade.wire import relay
from rocade.wire.relay import Multiplexer, Opening, Terms

OPENING = Opening("till", "terminal-1")


def pair(priority: str = "business") -> tuple[Multiplexer, Multiplexer, int]:
    """Agent and hub with one stream open between them."""
    agent, hub = Multiplexer(is_hub=False), Multiplexer(is_hub=True)
    return agent, hub, opened(agent, hub, priority)


def opened(agent: Multiplexer, hub: Multiplexer, priority: str) -> int:
    number = agent.open(OPENING)
    (asked,) = hub.feed(agent.frames(1 << 20))
    assert (asked.kind, asked.stream, asked.opening) == (relay.OPEN, number, OPENING)
    hub.accept(number, Terms(priority))
    (answer,) = agent.feed(hub.frames(1 << 20))
    assert (answer.kind, answer.terms) == (relay.ACCEPT, Terms(priority))
    return number


def test_bytes_arrive_whole_and_in_order_whatever_pieces_the_line_breaks_into() -> None:
    agent, hub, number = pair()
    sent = bytes(range(256)) * 700
    agent.send(number, sent)
    agent.end(number)
    got, kinds = b"", []
    while data := agent.frames(9_999):
        for at in range(0, len(data), 777):
            for event in hub.feed(data[at : at + 777]):
                got += event.data
                kinds.append(event.kind)
                hub.took(number, len(event.data))
        agent.feed(hub.frames(1 << 20))
    assert got == sent
    assert kinds[-1] == relay.END


def test_a_reader_that_is_slow_holds_up_its_own_stream_and_no_other() -> None:
    agent, hub, slow = pair()
    quick = opened(agent, hub, "business")
    agent.send(slow, bytes(2 * relay.WINDOW_BYTES))
    agent.send(quick, b"quick")
    events = hub.feed(agent.frames(1 << 22))
    assert sum(len(event.data) for event in events if event.stream == slow) == relay.WINDOW_BYTES
    assert [event.data for event in events if event.stream == quick] == [b"quick"]
    assert agent.unsent(slow) == relay.WINDOW_BYTES
    hub.took(slow, relay.WINDOW_BYTES)
    agent.feed(hub.frames(1 << 20))
    assert sum(len(event.data) for event in hub.feed(agent.frames(1 << 22))) == relay.WINDOW_BYTES


def test_voice_leaves_before_a_file_that_was_queued_first() -> None:
    agent, hub, _ = pair()
    numbers = {name: opened(agent, hub, name) for name in reversed(relay.CLASSES)}
    for name in reversed(relay.CLASSES):
        agent.send(numbers[name], name.encode() * 10_000)
    order = [event.stream for event in hub.feed(agent.frames(1 << 22))]
    assert list(dict.fromkeys(order)) == [numbers[name] for name in relay.CLASSES]


def test_streams_of_one_class_take_turns() -> None:
    agent, hub, one = pair("bulk")
    other = opened(agent, hub, "bulk")
    for number in (one, other):
        agent.send(number, bytes(3 * relay.MOST_DATA_BYTES))
    assert [event.stream for event in hub.feed(agent.frames(1 << 22))] == [one, other] * 3


def test_a_refused_stream_is_over_on_both_ends() -> None:
    agent, hub = Multiplexer(is_hub=False), Multiplexer(is_hub=True)
    number = agent.open(OPENING)
    hub.feed(agent.frames(1 << 20))
    hub.refuse(number, "relay.denied")
    (event,) = agent.feed(hub.frames(1 << 20))
    assert (event.kind, event.code) == (relay.REFUSE, "relay.denied")
    assert (len(agent), len(hub)) == (0, 0)


def frame(kind: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">BIH", kind, stream, len(payload)) + payload


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(99, 1), "relay.frame"),
        (frame(0, 1), "relay.frame"),
        (struct.pack(">BIH", relay.DATA, 1, 65535), "relay.frame"),
        (frame(relay.OPEN, 3, b"{"), "relay.frame"),
        (frame(relay.OPEN, 3, b'{"service":"a","more":1}'), "relay.frame"),
        (frame(relay.OPEN, 2, b'{"service":"a"}'), "relay.stream"),
        (frame(relay.OPEN, 1, b'{"service":"a"}'), "relay.stream"),
        (frame(relay.CREDIT, 1, b"12345"), "relay.frame"),
        (frame(relay.DATA, 1, bytes(16384)) * 17, "relay.credit"),
    ],
)
def test_what_breaks_the_rules_ends_the_line(data: bytes, code: str) -> None:
    _, hub, _ = pair()
    with pytest.raises(Refused) as refusal:
        hub.feed(data)
    assert refusal.value.code == code


def test_an_unknown_class_is_refused() -> None:
    _, hub, number = pair()
    with pytest.raises(Refused, match=r"relay\.class"):
        hub.accept(number, Terms("urgent"))


def test_a_line_carries_a_bounded_number_of_streams() -> None:
    agent, hub, _ = pair()
    for _ in range(relay.MOST_STREAMS - 1):
        agent.open(OPENING)
    with pytest.raises(Refused, match=r"relay\.streams"):
        agent.open(OPENING)
    hub.feed(agent.frames(1 << 20))
    assert hub.feed(frame(relay.OPEN, 99_999, b'{"service":"a"}')) == []
    assert hub.frames(1 << 20).endswith(frame(relay.REFUSE, 99_999, b"relay.streams"))


@given(st.binary(max_size=200))
def test_any_bytes_give_events_or_a_refusal(data: bytes) -> None:
    _, hub, _ = pair()
    with contextlib.suppress(Refused):
        hub.feed(data)
