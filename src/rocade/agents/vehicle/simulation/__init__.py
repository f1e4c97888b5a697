"""Simulated vehicles on a town of Rocade's own: plausible, cheap, and the same for the same seed.

`town.build(seed)` draws the town (also as GeoJSON for the map page); `Fleet(models, town, ...)` moves all vehicles at
once with numpy: `traffic` decides speed and way, `energy` what the drive costs, `controls` what is switched; `channels` names it
in VSS terms; `machine.Machine` is one of them as a machine that obeys commands.
"""

from rocade.agents.vehicle.simulation.fleet import Fleet
from rocade.agents.vehicle.simulation.models import MODELS, Model
from rocade.agents.vehicle.simulation.town import Town, build

__all__ = ["MODELS", "Fleet", "Model", "Town", "build"]
