"""What commands can explain: `command:<id>`, the way of one from the order to its proof, and why it ended where it did."""

from __future__ import annotations

from rocade.core.data_classes import bit
from rocade.core.errors import Refused
from rocade.core.why import About, Chain, Fact
from rocade.services.vehicles.commands.model import Standing
from rocade.services.vehicles.commands.service import Commands
from rocade.trust.authority.gate.acts import READ_COMMANDS
from rocade.wire.commands import ACTS


class Explained:
    """`command:<id>`; told to who gave it, and to who may read commands of its class of this vehicle."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def explain(self, rest: str) -> Chain | None:
        try:
            one = await self._commands.standing(rest)
        except Refused:
            return None
        about = About((READ_COMMANDS.name,), one.ref, bit(ACTS[one.act].control), parties=frozenset({one.by}))
        return Chain(f"command:{rest}", tuple(_facts(one)), about)


def _facts(one: Standing) -> list[Fact]:
    facts = [Fact(f"command.{moment.state}", {"at_us": moment.at_us, "act": one.act}) for moment in one.life]
    if one.is_open:
        facts.append(Fact("command.deadline", {"by_us": one.expires_us, "sends": one.sends}))
    if one.doubt:
        facts.append(Fact("command.doubted"))
    if one.newer:
        facts.append(Fact("command.newer", {"command": one.newer}, f"command:{one.newer}"))
    if one.code:
        facts.append(Fact("command.code", {"code": one.code}, one.code))
    return facts
