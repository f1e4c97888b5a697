"""Making a vehicle do something: what an owner's grants open, and what nothing but his own touch does."""

from __future__ import annotations

import pytest
from tests.trust.authority.gate.test_roles import ROLES

from rocade.core.data_classes import ALL, mask
from rocade.core.errors import Refused
from rocade.trust.authority.gate import Act, Engine, Gate, Principal, Right, acts

CAR = 1


class Tied:
    """Rights of one caller to one owned vehicle."""

    def __init__(self, relation: str, classes: int, *, is_owned: bool = True) -> None:
        self._right = Right(relation, classes, "grant-1", is_owned=is_owned)

    def right(self, principal: Principal, ref: int, purpose: str, at_us: int) -> Right:
        return self._right


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


def asked(engine: Engine, rights: Tied, who: str, act: Act, *, touched: bool = False, purpose: str = "own") -> str:
    try:
        Gate("eu", rights, engine).permit(  # type: ignore[arg-type]  # asked for one vehicle only
            ROLES[who], act, ref=CAR, purpose=purpose, at_us=0, touched=touched
        )
    except Refused as refusal:
        return refusal.code
    return "yes"


CHARGING, ACCESS = mask(["control.charging"]), mask(["control.access", "control.location"])
CASES = [
    # relation, classes, who, act, purpose, untouched, touched
    ("driver", CHARGING, "driver", acts.COMMAND_CHARGING, "own", "yes", "yes"),
    ("driver", CHARGING, "driver", acts.COMMAND_COMFORT, "own", "gate.denied", "gate.denied"),
    ("driver", CHARGING, "driver", acts.READ_COMMANDS, "own", "yes", "yes"),
    ("driver", CHARGING, "driver", acts.READ_TWIN, "own", "gate.denied", "gate.denied"),
    ("driver", ALL, "driver", acts.COMMAND_CHARGING, "own", "gate.denied", "gate.denied"),
    ("driver", ALL, "driver", acts.READ_COMMANDS, "own", "gate.denied", "gate.denied"),
    ("driver", ACCESS, "driver", acts.LOCK, "own", "yes", "yes"),
    ("driver", ACCESS, "driver", acts.UNLOCK, "own", "gate.touch", "yes"),
    ("driver", ACCESS, "driver", acts.LOCATE, "own", "gate.touch", "yes"),
    ("owner", ALL, "owner", acts.UNLOCK, "own", "gate.touch", "yes"),
    ("owner", ALL, "owner by link", acts.UNLOCK, "own", "gate.denied", "gate.denied"),
    ("owner", ALL, "owner by link", acts.COMMAND_CHARGING, "own", "yes", "yes"),
    ("former", ALL, "former owner", acts.COMMAND_CHARGING, "own", "gate.denied", "gate.denied"),
    ("none", CHARGING, "with token", acts.COMMAND_CHARGING, "insurance", "yes", "yes"),
    ("none", CHARGING, "with token", acts.COMMAND_CHARGING, "charging", "gate.denied", "gate.denied"),
    ("none", CHARGING, "certificate alone", acts.COMMAND_CHARGING, "insurance", "gate.denied", "gate.denied"),
    ("none", ACCESS, "with token", acts.UNLOCK, "insurance", "gate.denied", "gate.denied"),
    ("none", 0, "stranger", acts.COMMAND_CHARGING, "own", "gate.denied", "gate.denied"),
    ("none", 0, "support", acts.COMMAND_CHARGING, "support", "gate.denied", "gate.denied"),
    ("none", CHARGING, "support", acts.COMMAND_CHARGING, "support", "yes", "yes"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[2]}, {case[3].name}")
def test_control_is_given_by_name_and_what_opens_or_locates_takes_a_touch(
    engine: Engine, case: tuple[str, int, str, Act, str, str, str]
) -> None:
    relation, classes, who, act, purpose, untouched, touched = case
    rights = Tied(relation, classes)
    assert asked(engine, rights, who, act, purpose=purpose) == untouched
    assert asked(engine, rights, who, act, purpose=purpose, touched=True) == touched


def test_a_vehicle_nobody_owns_obeys_support_and_only_while_it_is_known_that_nobody_does(engine: Engine) -> None:
    for who, classes, said in (
        ("support", ALL, "yes"),
        ("security", ALL, "gate.denied"),
        ("support", 0, "gate.denied"),
    ):
        rights = Tied("none", classes, is_owned=False)
        assert asked(engine, rights, who, acts.COMMAND_CHARGING, purpose="support") == said
    rights = Tied("none", ALL, is_owned=False)
    assert asked(engine, rights, "support", acts.UNLOCK, purpose="support") == "gate.touch"
