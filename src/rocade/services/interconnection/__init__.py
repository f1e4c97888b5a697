"""Who may reach which service of which site, over the lines agents have dialled out; what it carried, and what it costs.

`Interconnection` (services, rules, openings, simulation), `Relaying` (the relay door's switch), `report` (bytes and money).
"""

from rocade.services.interconnection.model import Decision, Line, NamedService, Rule, SiteFacts, decide
from rocade.services.interconnection.relaying import Relaying
from rocade.services.interconnection.service import Interconnection

__all__ = ["Decision", "Interconnection", "Line", "NamedService", "Relaying", "Rule", "SiteFacts", "decide"]
