"""DBC files as people write them are read; what cannot be meant is refused."""

from __future__ import annotations

from decimal import Decimal

import pytest

from rocade.core.errors import Refused
from rocade.wire.can import parse

PLAIN = """VERSION "1.2"
NS_ :
	CM_
BU_: ENGINE GATE
BO_ 291 Motor: 8 ENGINE
 SG_ Speed : 7|16@0- (0.25,-40) [-8232|8151.75] "km/h" GATE,DASH
 SG_ 0_COUNTER : 16|4@1+ (1,0) [0|15] "" Vector__XXX
BO_ 2147484672 Long: 8 ENGINE
 SG_ Level : 0|64@1+ (1,0) [0|0] "" GATE
CM_ BO_ 291 "Motor of
BO_ 5 the car";
CM_ SG_ 291 Speed "wheel speed; \\"exact\\"";
CM_ "whole file";
VAL_ 291 0_COUNTER 0 "none" 15 "invalid" ;
VAL_TABLE_ OnOff 1 "on" 0 "off" ;
BO_ 3221225472 VECTOR__INDEPENDENT_SIG_MSG: 0 Vector__XXX
 SG_ Lost : 0|5@0+ (1,0) [0|0] "" Vector__XXX
"""
RING = (
    'BO_ 1 A: 8 X\n SG_ P m1M : 0|8@1+ (1,0) [0|0] "" X\n SG_ Q m1M : 8|8@1+ (1,0) [0|0] "" X\n'
    "SG_MUL_VAL_ 1 P Q 1-1;\nSG_MUL_VAL_ 1 Q P 1-1;\n"
)


def test_a_whole_file_is_read_with_its_texts() -> None:
    dbc = parse(PLAIN)
    motor = dbc.messages[291]
    speed, counter = motor.signals
    assert (dbc.version, dbc.nodes, dbc.comment) == ("1.2", ("ENGINE", "GATE"), "whole file")
    assert motor.comment == "Motor of\nBO_ 5 the car"
    assert 5 not in dbc.messages
    assert (speed.start, speed.length, speed.is_big_endian, speed.is_signed) == (7, 16, True, True)
    assert (speed.factor, speed.offset, speed.min, speed.unit) == (
        Decimal("0.25"),
        Decimal(-40),
        Decimal(-8232),
        "km/h",
    )
    assert (speed.comment, speed.receivers) == ('wheel speed; "exact"', ("GATE", "DASH"))
    assert (counter.name, counter.texts) == ("0_COUNTER", {0: "none", 15: "invalid"})
    assert [signal.name for signal in dbc.independent] == ["Lost"]
    assert set(dbc.messages) == {291, 2147484672}
    assert dbc.tables == {"OnOff": {1: "on", 0: "off"}}


@pytest.mark.parametrize(
    ("factor", "offset", "scale"),
    [("1", "0", (1, 0, 0)), ("0.1", "-40", (1, -400, -1)), ("0.390625", "0", (390625, 0, -6)), ("1E-3", "0.5", (1, 500, -3)), ("20", "0", (20, 0, 0))],
)  # fmt: skip
def test_factor_and_offset_become_exact_integers(factor: str, offset: str, scale: tuple[int, int, int]) -> None:
    dbc = parse(f'BO_ 1 A: 8 X\n SG_ S : 0|8@1+ ({factor},{offset}) [0|0] "" X\n')
    assert dbc.messages[1].signals[0].scale() == scale


def test_nested_multiplexing_is_tied_together() -> None:
    dbc = parse(
        'BO_ 1 A: 8 X\n SG_ Top M : 0|8@1+ (1,0) [0|0] "" X\n SG_ Sub m2M : 8|8@1+ (1,0) [0|0] "" X\n'
        ' SG_ Leaf m1 : 16|8@1+ (1,0) [0|0] "" X\nSG_MUL_VAL_ 1 Leaf Sub 1-3, 7-7;\nSG_MUL_VAL_ 1 Sub Top 2-2;\n'
    )
    leaf = dbc.messages[1].signal("Leaf")
    assert (leaf.switch, leaf.switch_ranges) == ("Sub", ((1, 3), (7, 7)))
    assert dbc.messages[1].signal("Sub").switch == "Top"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hello", "no message"),
        (' SG_ S : 0|8@1+ (1,0) [0|0] "" X\nBO_ 1 A: 8 X\n', "before the first message"),
        ("BO_ 1 A: 8 X\n SG_ S : nonsense\n", "cannot read a signal"),
        ('BO_ 1 A: 8 X\n SG_ S : 0|65@1+ (1,0) [0|0] "" X\n', "65 bits"),
        ('BO_ 1 A: 8 X\n SG_ S : 0|0@1+ (1,0) [0|0] "" X\n', "0 bits"),
        ('BO_ 1 A: 8 X\n SG_ S : 60|8@1+ (1,0) [0|0] "" X\n', "reaches past"),
        ('BO_ 1 A: 8 X\n SG_ S m1 : 0|8@1+ (1,0) [0|0] "" X\n', "by which switch"),
        (
            RING,
            "ring",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_reason(text: str, says: str) -> None:
    with pytest.raises(Refused, match=says) as refused:
        parse(text)
    assert refused.value.code == "can.dbc.malformed"


def test_another_encoding_is_read_too() -> None:
    dbc = parse('BO_ 1 A: 8 X\n SG_ S : 0|8@1+ (1,0) [0|0] "°C" X\n'.encode("cp1252"))
    assert dbc.messages[1].signals[0].unit == "°C"
