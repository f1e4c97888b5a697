"""A region's own keys at work on its own disk: roll intermediates (said first, recorded, then done), issue an operator anew.

The rules of a roll stand in `trust.authority.region.roll`, those of issuing in `trust.authority.Authority`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rocade.app.configuration import Configuration
from rocade.app.local import Hand, act
from rocade.core.errors import Misconfigured, RocadeError
from rocade.trust.authority import region
from rocade.trust.identity.directory import load_identity, load_issuers

FIRST_OPERATOR = "first"
"""The operator that `init` makes."""


def plan(configuration: Configuration, kinds: Sequence[str], *, withdraw: bool) -> Iterator[str]:
    """What `roll` would do, a line each.

    Raises: Misconfigured `app.roll.root` without the root's key.
    """
    if not (configuration.trust / "root" / "key.pem").exists():
        raise Misconfigured(
            "app.roll.root", f"the root's key is not at {configuration.trust / 'root'}; bring it back for the roll"
        )
    table = load_issuers(configuration.trust)
    for kind in sorted(set(kinds)):
        old = [issuer for issuer in table if (issuer.kind, issuer.purpose) == (kind, "operational")]
        yield f"{kind}: a new intermediate key issues from now on"
        days = region.LEAF_LIFE_US[kind] // region.DAY_US
        for issuer in old:
            since = datetime.fromtimestamp(issuer.not_before_us / 1e6, UTC).date()
            fate = (
                "withdrawn: every certificate it issued is refused at once"
                if withdraw
                else f"stays in the issuer table; its last certificate ends within {days} days"
            )
            yield f"  {issuer.key_id.hex()[:16]} (since {since}) {fate}"
        if withdraw and kind == "operator":
            yield "  this command's own operator certificate too: a new one is issued in the same act"
        if withdraw and kind in {"vehicle", "dealer", "partner", "station"}:
            yield "  each of them needs a new claim code: rocade enroll --claim-only"


def roll(configuration: Configuration, kinds: Sequence[str], *, withdraw: bool) -> int:
    """Do it; the version of the new issuer table.

    Raises: as `local.act` and `trust.authority.region.roll`.
    """

    async def work(hand: Hand) -> int:
        for kind in sorted(set(kinds)):
            await hand.record("trust.roll", f"issuer:{kind}", withdrawn=int(withdraw))
        table = region.roll(configuration.trust, set(kinds), hand.clock, hand.random, withdraw=withdraw)
        if withdraw and "operator" in kinds:
            await _issue_operator(hand)
        if "service" in kinds:
            region.renew_server(hand.authority.region, configuration.server, hand.clock)
        return table.version

    return act(configuration, work)


def renew_operator(configuration: Configuration) -> str:
    """Issue a new key and certificate for the operator of this region's command line; its identity.

    Raises: as `local.act`; Misconfigured `trust.region.missing`.
    """
    return act(configuration, _issue_operator)


async def _issue_operator(hand: Hand) -> str:
    directory = hand.configuration.operator
    try:
        name = load_identity(directory).id
    except RocadeError:
        name = FIRST_OPERATOR
    identity = hand.authority.region.identity("operator", name)
    (await hand.authority.provision([identity], hand.actor))[0].write(directory)
    return identity.uri
