"""Exchange: signed messages between points of sale, services, national systems and other hubs; two receipts for each.

`Exchange` takes, decides, sends, replays and searches; `ExchangeIntake` stands behind the dealers' MQTT door and lets other services
take what is said on the line (`intake.on(tail, handler)`); `Line` is the way down (`line.send(site, tail, body)`); `RouteTable` and `Router`
are the routing. How it fits together: docs/exchange.md.
"""

from rocade.services.exchange.downstream import Downstream
from rocade.services.exchange.evidence import Evidence
from rocade.services.exchange.intake import ExchangeIntake, Quota
from rocade.services.exchange.keyring import KeyBook
from rocade.services.exchange.ledger import Entry
from rocade.services.exchange.line import Line
from rocade.services.exchange.model import (
    SIGNER,
    TAILS,
    Change,
    Judgement,
    Routes,
    Rule,
    Standing,
    Turned,
    Upward,
    Verdict,
)
from rocade.services.exchange.presence import Presence, read_presence
from rocade.services.exchange.questions import Question, Questions
from rocade.services.exchange.recording import Recorder
from rocade.services.exchange.revocations import Revocations
from rocade.services.exchange.routing import Router, RouteTable, read_rules
from rocade.services.exchange.service import Exchange
from rocade.services.exchange.signing import Signer
from rocade.services.exchange.store import Wanted

__all__ = [
    "SIGNER",
    "TAILS",
    "Change",
    "Downstream",
    "Entry",
    "Evidence",
    "Exchange",
    "ExchangeIntake",
    "Judgement",
    "KeyBook",
    "Line",
    "Presence",
    "Question",
    "Questions",
    "Quota",
    "Recorder",
    "Revocations",
    "RouteTable",
    "Router",
    "Routes",
    "Rule",
    "Signer",
    "Standing",
    "Turned",
    "Upward",
    "Verdict",
    "Wanted",
    "read_presence",
    "read_rules",
]
