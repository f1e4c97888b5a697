"""Joining a hub with a one-time code: the root first, then a key made here, then a certificate for it.

What is kept before each step makes the next one repeatable: if the answer gets lost, the same command goes on with the same
key, and the hub knows its party again although the code is used (`est_client`). An identity in force is never overwritten.
Refuses: `dealer.hub.joined`, `dealer.hub.kind`, and what enrolment refuses.
"""

from __future__ import annotations

from pathlib import Path

from rocade.agents.dealer import settings as configured
from rocade.agents.dealer.keyring import Keyring
from rocade.agents.dealer.settings import FILE, Hub
from rocade.core.errors import Refused
from rocade.core.identifiers import Identity
from rocade.core.ports import Clock, SystemClock
from rocade.trust.identity import est_client
from rocade.trust.identity.directory import load_leaf
from rocade.trust.identity.issuers import to_us


def join(
    place: Path, hub: Hub, code: str, root_pem: bytes, root_sha256: str = "", clock: Clock | None = None
) -> Identity:
    """Enrol this point of sale at a hub and remember the hub. Raises: Refused as above; Unavailable `est.down`."""
    clock = clock or SystemClock()
    directory = place / "hubs" / hub.name
    if (directory / "certificate.pem").exists() and to_us(load_leaf(directory).not_valid_after_utc) > clock.now_us():
        raise Refused(
            "dealer.hub.joined", f"hub {hub.name} was joined already; it renews by itself, or choose another --name"
        )
    server = est_client.Server(hub.host, hub.est_port, clock)
    root_pem = root_pem or est_client.fetch_root(server, root_sha256)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    verified = est_client.enrol(server, directory, code, root_pem)
    if verified.identity.kind != "dealer":
        raise Refused("dealer.hub.kind", f"this code is for a {verified.identity.kind}, not for a point of sale")
    Keyring(directory, clock)
    known = configured.load(place).hubs if (place / FILE).exists() else ()
    if hub.name not in {one.name for one in known}:
        configured.add_hub(place, hub)
    return verified.identity
