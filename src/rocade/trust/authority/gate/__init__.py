"""One gate for every read and act: what may be done (`acts`), who asks (`Principal`), and the decision (`Gate`).

The flow: whoever serves a request proves the caller (`Principal`), names an act, and calls `Gate.permit`; the gate asks the
compiled consent table what ties him to the vehicle, and Cedar whether that is enough (`policies/*.cedar`). Refused is
everything Cedar does not allow without an error. Source: docs/decisions/0032-gate.md.
"""

from rocade.trust.authority.gate import acts
from rocade.trust.authority.gate.engine import Answer, Engine, Gate
from rocade.trust.authority.gate.model import (
    ANY,
    ANY_CONTROL,
    Act,
    Permit,
    Principal,
    Right,
    Rights,
    SiteRight,
    SiteRights,
)
from rocade.trust.authority.gate.principals import DUTIES, nobody, of_certificate

__all__ = [
    "ANY",
    "ANY_CONTROL",
    "DUTIES",
    "Act",
    "Answer",
    "Engine",
    "Gate",
    "Permit",
    "Principal",
    "Right",
    "Rights",
    "SiteRight",
    "SiteRights",
    "acts",
    "nobody",
    "of_certificate",
]
