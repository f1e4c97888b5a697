"""DBC reader that takes the files people really have.

Flow: quoted text is set aside first, so that no comment can look like a statement; then each kind of statement is found
by its own pattern, and multiplexing is tied together. Sections that only a tool needs (NS_, BS_, BU_, attributes) may
be missing; names may start with a digit; `VECTOR__INDEPENDENT_SIG_MSG` holds signals that belong to no frame.
Refuses (`can.dbc.malformed`): no message at all, a signal outside any message, a multiplexed signal without its switch,
a signal of 0 or more than 64 bits, one that reaches past its message.
Source: the "DBC file format" description by Vector; SG_MUL_VAL_ = extended multiplexing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation

from rocade.core.errors import Refused

INDEPENDENT = "VECTOR__INDEPENDENT_SIG_MSG"


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal: where its raw integer lies in the payload and what it means.

    Units: value = raw * factor + offset, in `unit`. `start` is DBC's: least significant bit for little-endian, most
    significant bit (byte * 8 + bit, bit 7 = top) for big-endian.
    """

    name: str
    start: int
    length: int
    is_big_endian: bool = False
    is_signed: bool = False
    float_bits: int = 0
    """32 or 64 when the raw bits are an IEEE float (SIG_VALTYPE_), else 0."""
    factor: Decimal = Decimal(1)
    offset: Decimal = Decimal(0)
    min: Decimal | None = None
    max: Decimal | None = None
    unit: str = ""
    comment: str = ""
    receivers: tuple[str, ...] = ()
    texts: dict[int, str] = field(default_factory=dict)
    """Raw value -> text (VAL_)."""
    is_switch: bool = False
    switch: str = ""
    """Name of the multiplexer that decides whether this signal is present, or ''."""
    switch_ranges: tuple[tuple[int, int], ...] = ()

    @property
    def first_bit(self) -> int:
        """Position of the first bit in payload order (big-endian: counted from the top bit of byte 0)."""
        return (self.start // 8) * 8 + 7 - self.start % 8 if self.is_big_endian else self.start

    @property
    def end_byte(self) -> int:
        """Bytes a payload must have for this signal to be there."""
        return (self.first_bit + self.length + 7) // 8

    def scale(self) -> tuple[int, int, int]:
        """(a, b, exponent) with value = (raw * a + b) * 10**exponent, exactly; exponent <= 0."""
        exponent = min(_exponent(self.factor), _exponent(self.offset), 0)
        ten = Decimal(10) ** -exponent
        return int(self.factor * ten), int(self.offset * ten), exponent


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `id` carries bit 31 for a 29-bit identifier."""

    id: int
    name: str
    length: int
    sender: str
    signals: tuple[Signal, ...]
    comment: str = ""

    def signal(self, name: str) -> Signal:
        for signal in self.signals:
            if signal.name == name:
                return signal
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Dbc:
    """A dictionary: messages by id, and signals that no frame carries."""

    messages: dict[int, Message]
    independent: tuple[Signal, ...] = ()
    version: str = ""
    nodes: tuple[str, ...] = ()
    comment: str = ""
    tables: dict[str, dict[int, str]] = field(default_factory=dict)

    @property
    def signal_count(self) -> int:
        return sum(len(message.signals) for message in self.messages.values())


_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_MESSAGE = re.compile(r"^[ \t]*BO_ +(\d+) +(\S+?) *: *(\d+) *(\S*)", re.MULTILINE)
_SIGNAL = re.compile(
    rf"^[ \t]*SG_ +(\S+?)(?: +(M|m\d+M?))? *: *(\d+)\|(\d+)@([01])([+-]) *\( *({_NUMBER}) *, *({_NUMBER}) *\)"
    rf" *(?:\[ *({_NUMBER})? *\| *({_NUMBER})? *\])? *(?:<(\d+)>)? *(.*)$",
    re.MULTILINE,
)
_ANY_SIGNAL = re.compile(r"^[ \t]*SG_ .*$", re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*CM_ +(?:BO_ +(\d+) +|SG_ +(\d+) +(\S+) +|((?:BU_|EV_) +\S+) +)?<(\d+)> *;", re.MULTILINE)
_VALUES = re.compile(r"^[ \t]*VAL_ +(\d+) +(\S+)((?: +-?\d+ +<\d+>)*) *;", re.MULTILINE)
_TABLE = re.compile(r"^[ \t]*VAL_TABLE_ +(\S+)((?: +-?\d+ +<\d+>)*) *;", re.MULTILINE)
_PAIR = re.compile(r"(-?\d+) +<(\d+)>")
_FLOAT = re.compile(r"^[ \t]*SIG_VALTYPE_ +(\d+) +(\S+?) *:? *([0-3]) *;", re.MULTILINE)
_MULTIPLEX = re.compile(r"^[ \t]*SG_MUL_VAL_ +(\d+) +(\S+) +(\S+) +([\d\-, ]+?) *;", re.MULTILINE)
_VERSION = re.compile(r"^[ \t]*VERSION +<(\d+)>", re.MULTILINE)
_NODES = re.compile(r"^[ \t]*BU_ *:(.*)$", re.MULTILINE)


def parse(source: bytes | str) -> Dbc:
    """Read a DBC file (UTF-8, else Windows-1252).

    Raises: Refused `can.dbc.malformed`.
    """
    text, quoted = _set_text_aside(_as_text(source))
    heads = list(_MESSAGE.finditer(text))
    if not heads:
        raise Refused("can.dbc.malformed", "no message (BO_) found: is this a DBC file?")
    stray = _ANY_SIGNAL.search(text, 0, heads[0].start())
    if stray:
        raise Refused("can.dbc.malformed", f"a signal stands before the first message: {stray[0].strip()[:80]}")
    comments, signal_comments = _comments(text, quoted)
    values = {(int(m[1]), m[2]): _pairs(m[3], quoted) for m in _VALUES.finditer(text)}
    floats = {(int(m[1]), m[2]): {"1": 32, "2": 64}.get(m[3], 0) for m in _FLOAT.finditer(text)}
    switches = {(int(m[1]), m[2]): (m[3], _ranges(m[4])) for m in _MULTIPLEX.finditer(text)}

    messages: dict[int, Message] = {}
    independent: tuple[Signal, ...] = ()
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        number = int(head[1])
        block = text[head.end() : following.start() if following else len(text)]
        signals = []
        marks = {}
        for signal, mark in _signals(block, quoted, head[2]):
            key = (number, signal.name)
            marks[signal.name] = mark
            signals.append(
                replace(
                    signal,
                    comment=signal_comments.get(key, ""),
                    texts=values.get(key, {}),
                    float_bits=floats.get(key, 0),
                )
            )
        if head[2] == INDEPENDENT:
            independent = tuple(signals)
            continue
        length = int(head[3])
        signals = [_tied(signal, marks, switches.get((number, signal.name)), head[2]) for signal in signals]
        _check_room(signals, length, head[2])
        messages[number] = Message(number, head[2], length, head[4], tuple(signals), comments.get(number, ""))

    version, nodes = _VERSION.search(text), _NODES.search(text)
    tables = {m[1]: _pairs(m[2], quoted) for m in _TABLE.finditer(text)}
    return Dbc(
        messages,
        independent,
        quoted[int(version[1])] if version else "",
        tuple(nodes[1].split()) if nodes else (),
        comments.get(-1, ""),
        tables,
    )


def _as_text(source: bytes | str) -> str:
    if isinstance(source, str):
        return source
    try:
        return source.decode("utf-8-sig")
    except UnicodeDecodeError:
        return source.decode("cp1252", errors="replace")


def _set_text_aside(text: str) -> tuple[str, list[str]]:
    """Replace each quoted text by its number in angle brackets; after this a line is a line."""
    quoted: list[str] = []

    def take(match: re.Match[str]) -> str:
        quoted.append(match[1].replace('\\"', '"').replace("\\\\", "\\"))
        return f" <{len(quoted) - 1}> "

    return _TEXT.sub(take, text.replace("\r\n", "\n")), quoted


def _pairs(text: str, quoted: list[str]) -> dict[int, str]:
    return {int(m[1]): quoted[int(m[2])] for m in _PAIR.finditer(text)}


def _ranges(text: str) -> tuple[tuple[int, int], ...]:
    """`1-1, 4-7` -> ((1, 1), (4, 7))."""
    found = re.findall(r"(\d+) *- *(\d+)", text)
    return tuple((int(low), int(high)) for low, high in found)


def _comments(text: str, quoted: list[str]) -> tuple[dict[int, str], dict[tuple[int, str], str]]:
    """Comments of messages (the file's own under -1) and of signals."""
    messages: dict[int, str] = {}
    signals: dict[tuple[int, str], str] = {}
    for m in _COMMENT.finditer(text):
        comment = quoted[int(m[5])]
        if m[2]:
            signals[int(m[2]), m[3]] = comment
        elif not m[4]:
            messages[int(m[1]) if m[1] else -1] = comment
    return messages, signals


def _signals(block: str, quoted: list[str], message: str) -> list[tuple[Signal, str]]:
    """Signals of one message block with their multiplexing mark (`M`, `m4`, `m4M` or '')."""
    found = []
    for line in _ANY_SIGNAL.findall(block):
        m = _SIGNAL.match(line)
        if not m:
            raise Refused("can.dbc.malformed", f"cannot read a signal of {message}: {line.strip()[:120]}")
        length = int(m[4])
        if not 0 < length <= 64:
            raise Refused("can.dbc.malformed", f"signal {m[1]} of {message} has {length} bits; 1 to 64 are possible")
        signal = Signal(
            name=m[1],
            start=int(m[3]),
            length=length,
            is_big_endian=m[5] == "0",
            is_signed=m[6] == "-",
            factor=_decimal(m[7]),
            offset=_decimal(m[8]),
            min=_decimal(m[9]) if m[9] else None,
            max=_decimal(m[10]) if m[10] else None,
            unit=quoted[int(m[11])] if m[11] else "",
            receivers=tuple(name for name in re.split(r"[,\s]+", m[12]) if name),
            is_switch=bool(m[2]) and m[2].endswith("M"),
        )
        found.append((signal, m[2] or ""))
    return found


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise Refused("can.dbc.malformed", f"not a number: {text[:40]}") from error


def _exponent(number: Decimal) -> int:
    exponent = number.normalize().as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def _tied(
    signal: Signal, marks: dict[str, str], extended: tuple[str, tuple[tuple[int, int], ...]] | None, message: str
) -> Signal:
    """The signal with its multiplexer: by SG_MUL_VAL_ where given, else the one plain `M` of the message."""
    mark = marks[signal.name]
    if not mark.startswith("m"):
        return signal
    value = int(mark.strip("mM"))
    if extended:
        switch, ranges = extended[0], extended[1] or ((value, value),)
    else:
        plain = [name for name, other in marks.items() if other == "M"]
        switch, ranges = (plain[0] if len(plain) == 1 else ""), ((value, value),)
    if not marks.get(switch, "").endswith("M") or switch == signal.name:
        raise Refused("can.dbc.malformed", f"signal {signal.name} of {message} is multiplexed, but by which switch?")
    return replace(signal, switch=switch, switch_ranges=ranges)


def _check_room(signals: list[Signal], length: int, message: str) -> None:
    for signal in signals:
        if signal.end_byte > max(length, 8):
            raise Refused("can.dbc.malformed", f"signal {signal.name} reaches past the {length} bytes of {message}")
        seen = {signal.name}
        switch = signal.switch
        while switch:
            if switch in seen:
                raise Refused("can.dbc.malformed", f"multiplexers of {message} form a ring at {switch}")
            seen.add(switch)
            switch = next(s.switch for s in signals if s.name == switch)
