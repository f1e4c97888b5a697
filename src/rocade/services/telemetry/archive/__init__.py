"""The raw batch archive: what vehicles sent, as it was sealed at the intake, kept as objects longer than the log keeps it.

`Archive` knows the objects and which of them must be there, `Archiver` moves what is new from the log into them, `sweep` removes
what is too old, looks through what nobody noted and misses what is gone. Decision: docs/decisions/0055-sealed-road.md.
"""

from rocade.services.telemetry.archive.archiver import GROUP, Archiver, put_away
from rocade.services.telemetry.archive.objects import Archive, Checked, absent, day_in
from rocade.services.telemetry.archive.sweeping import sweep, sweep_once

__all__ = ["GROUP", "Archive", "Archiver", "Checked", "absent", "day_in", "put_away", "sweep", "sweep_once"]
