"""What the audit log keeps apart, mended on the region's own machine: proven first, recorded, then done."""

from __future__ import annotations

from pathlib import Path

from rocade.app.configuration import Configuration
from rocade.app.local import Hand, act
from rocade.trust.authority.verification import mend
from rocade.trust.identity.directory import load_root


def mend_heads(configuration: Configuration) -> Path | None:
    """Where the damaged heads stand now; None if they were whole.

    Raises: as `local.act` and `verification.mend`.
    """

    async def work(hand: Hand) -> Path | None:
        root = load_root(configuration.trust / "trust.pem")
        return await mend(hand.database, configuration.trust / "audit", root, hand.audit, hand.clock, hand.actor)

    return act(configuration, work)
