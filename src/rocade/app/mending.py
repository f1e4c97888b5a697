"""What the disk damaged, mended on the region's own machine: what the audit log keeps apart (proven first, recorded, then done), and
the database's commit log (done first, since no record can be written before; then recorded).
"""

from __future__ import annotations

from pathlib import Path

from rocade.app.configuration import Configuration
from rocade.app.local import Hand, act
from rocade.core.errors import Misconfigured
from rocade.fabric.database import EmbeddedPostgres
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


def mend_commit_log(configuration: Configuration, *, accept: bool) -> list[str]:
    """What was damaged and is turned back, or taken as it is.

    Raises: Misconfigured `app.database.external`; as `EmbeddedPostgres.mend` and `local.act`.
    """
    if configuration.database_url:
        raise Misconfigured(
            "app.database.external", "this region's database is not Rocade's own; its commit log is not kept"
        )
    damages = [str(damage) for damage in EmbeddedPostgres(configuration.root / "postgres").mend(accept=accept)]

    async def record(hand: Hand) -> None:
        await hand.record(
            "database.commit_log", "database", how="accepted" if accept else "mended", found="; ".join(damages)
        )

    if damages or accept:
        act(configuration, record)
    return damages
