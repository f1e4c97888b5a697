"""Who a certificate makes of somebody."""

from __future__ import annotations

from rocade.core.identifiers import Identity
from rocade.trust.authority.gate.principals import of_certificate

VIN = "VF3ABCDEFGG123456"


def test_a_vehicle_acts_under_its_certificates_serial_number() -> None:
    principal = of_certificate(Identity("rocade.test", "eu", "vehicle", VIN), 0xABC1)
    assert (principal.kind, principal.id) == ("vehicle", "certificate:abc1")
    assert VIN not in str(principal), "what the audit log and looks hold of it"


def test_everybody_else_acts_under_his_uri() -> None:
    principal = of_certificate(Identity("rocade.test", "eu", "partner", "acme"), 0xABC1)
    assert (principal.id, principal.recipient) == ("spiffe://rocade.test/eu/partner/acme", "partner:acme")
