"""The gate's acts these pages ask for, by what the pages call them."""

from __future__ import annotations

from rocade.trust.authority.gate import Act
from rocade.trust.authority.gate import acts as gate

READ = gate.READ_CHARGING
CHANGE = gate.SET_CHARGING
READ_COMMANDS = gate.READ_COMMANDS
READ_BATTERY = gate.READ_BATTERY
READ_DEPOTS = gate.READ_DEPOTS
READ_STATIONS = gate.READ_STATIONS
READ_REPORT = gate.READ_CHARGE_REPORT
_COMMANDS = {
    "climate": gate.COMMAND_COMFORT,
    "doors.lock": gate.LOCK,
    "doors.unlock": gate.UNLOCK,
    "attention": gate.LOCATE,
    "location": gate.LOCATE,
}


def of_command(act: str) -> Act:
    """What ordering this act asks of the gate: its class of control, and a touch where it needs one."""
    return _COMMANDS.get(act) or _COMMANDS.get(act.partition(".")[0], gate.COMMAND_CHARGING)
