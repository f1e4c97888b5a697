"""Why a stream is not opened, or was ended from here: the codes of `decide`, the quotas and the site's own word."""

from __future__ import annotations

from rocade.core.errors import Refused

_ALL = (
    Refused("relay.denied", "no rule opens this service to this site; ask the security duty for one"),
    Refused("relay.site_unknown", "this site is not in the network of dealers; import it first"),
    Refused("relay.site_closed", "this site is outside its opening dates"),
    Refused("relay.service_unknown", "there is no service of this name"),
    Refused("relay.own_service", "this service is at the site itself; connect to its address there"),
    Refused("relay.quota.connections", "as many connections as the rule allows at once are open; close one"),
    Refused("relay.quota.openings", "the rule allows no more openings this minute; wait"),
    Refused(
        "relay.quota.day", "this service has carried what its rule allows for today; it opens again at midnight UTC"
    ),
    Refused("relay.killed", "the relay stopped while this connection was open; connect again"),
)
_BY_CODE = {one.code: one for one in _ALL}


def refused(code: str) -> Refused:
    """A fresh error of this code."""
    return Refused(code, _BY_CODE[code].message)
