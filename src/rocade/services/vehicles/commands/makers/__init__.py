"""Vehicles that hear no agent of ours: their maker's back end takes commands and says, in its own dialect, what became of them.

`MakerLine` stands where a gateway's door stands: `Deliverer(database, its vehicles, MakerLine(...), ...)`. It speaks a `Form` (the
shape of messages: `psa`) with meanings from `brands/*.toml` (`[commands.dialect]`), over a `Transport`. An accepted command is not
a done one: only the code that says so becomes `applied`, and telemetry still has to prove it.
Source: docs/decisions/0048-vehicle-commands.md.
"""

from rocade.services.vehicles.commands.makers.line import FORMS, Form, MakerLine, Transport
from rocade.services.vehicles.commands.makers.psa import Psa

__all__ = ["FORMS", "Form", "MakerLine", "Psa", "Transport"]
