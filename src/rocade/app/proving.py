"""Proofs of the audit log in the API process: signed heads and hashes for everybody, entries for who may read them."""

from __future__ import annotations

from rocade.app import wiring
from rocade.console.application import Module
from rocade.doors.http import proofs as proofs_api
from rocade.trust.authority.cosigning import Cosigning
from rocade.trust.authority.proving import Proofs
from rocade.trust.identity.directory import load_root


def module(parts: wiring.Common) -> Module:
    directory = parts.configuration.trust / "audit"
    proofs = Proofs(parts.database, directory, load_root(parts.configuration.trust / "trust.pem"))
    cosigning = Cosigning(parts.database, directory, proofs, parts.audit, parts.clock)
    return Module(proofs_api.HANDLERS, {"proofs": proofs, "cosigning": cosigning})
