"""Who asks, from what proved it: a verified certificate, or nothing. Sessions and tokens make their own principals."""

from __future__ import annotations

from rocade.core.identifiers import Identity
from rocade.trust.authority.gate.model import Principal
from rocade.trust.identity.certificates import reference

DUTIES = frozenset({"support", "security", "release"})


def of_certificate(identity: Identity, serial: int = 0) -> Principal:
    """The party of a verified client certificate. A vehicle acts under its certificate's serial number: its URI holds its VIN.

    An operator's certificate is a machine on the region's own premises (the command line): it holds every duty.
    """
    if identity.kind == "operator":
        return Principal("operator", identity.uri, "operator", "certificate", identity.region, DUTIES)
    if identity.kind == "vehicle":
        return Principal("vehicle", reference(identity, serial), "", "certificate", identity.region)
    return Principal(identity.kind, identity.uri, f"{identity.kind}:{identity.id}", "certificate", identity.region)


def nobody(peer: str) -> Principal:
    """Somebody who proved nothing; `peer` is `peer:<address>`."""
    return Principal("nobody", peer, "", "none")
