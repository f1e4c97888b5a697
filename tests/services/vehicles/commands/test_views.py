"""Who sees which command, and who is told by whom it was given."""

from __future__ import annotations

import msgspec
import pytest

from rocade.core.data_classes import ALL, CONTROL_CLASSES, mask
from rocade.core.errors import Refused
from rocade.services.vehicles.commands import Moment, Standing
from rocade.services.vehicles.commands.api import act_of, may_see, view
from rocade.services.vehicles.commands.errors import ENDS
from rocade.trust.authority.gate import Permit, Principal, Right, acts
from rocade.wire.commands import ACTS

ANA = "person:01"
STANDING = Standing(
    "0" * 32, 7, "charge.limit", {"percent": 80}, "charging.limit", 3, ANA, "own", "superseded", "command.superseded", 0, 9, 5,
    (Moment("created", 1), Moment("superseded", 5)), newer="1" * 32,
)  # fmt: skip


def permit(relation: str, classes: int, who: str = "person:02", *, is_owned: bool = True) -> Permit:
    principal = Principal("person", who, who, "passkey", "eu")
    return Permit(principal, acts.READ_COMMANDS, "own", Right(relation, classes, "", is_owned=is_owned))


CASES = [
    (permit("owner", ALL), True, True),
    (permit("driver", mask(["control.charging"])), True, False),
    (permit("driver", mask(["control.access", "energy"])), False, False),
    (permit("driver", mask(["control.access"]), ANA), True, True),  # his own
    (permit("none", mask(["control.charging"])), True, False),
    (permit("none", ALL, is_owned=False), True, True),  # the fleet's desk
]


@pytest.mark.parametrize(("who", "sees", "is_told"), CASES)
def test_everybody_sees_commands_of_his_classes_and_the_owner_who_gave_them(
    who: Permit, sees: bool, is_told: bool
) -> None:
    assert may_see(who, STANDING) is sees
    shown = view(who, STANDING)
    assert (shown.by == ANA) is is_told
    assert shown.detail == ENDS["command.superseded"]
    assert [one.state for one in shown.life] == ["created", "superseded"]
    assert isinstance(msgspec.to_builtins(shown)["ref"], str)


def test_every_act_has_an_act_of_the_gate_with_its_class_and_its_touch() -> None:
    for act in ACTS.values():
        asked = act_of(act.name)
        assert (asked.by, asked.needs_touch) == ("command", act.needs_touch), act.name
        assert asked.classes == (act.control,), act.name
        assert act.control in CONTROL_CLASSES
    with pytest.raises(Refused, match=r"^command\.act\.unknown"):
        act_of("doors.open")
