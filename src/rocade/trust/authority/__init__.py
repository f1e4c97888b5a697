"""The region's authority: who gets a certificate, who loses it, and the record of both.

`region` holds root, intermediates and the signing of leaves (no database); `authority` the acts and their rules;
`deny` the pushed set of revoked serials; `audit` the tamper-evident log and `verification` its proof. Knows no HTTP word.
"""

from rocade.trust.authority.audit import AuditLog
from rocade.trust.authority.authority import Authority
from rocade.trust.authority.deny import DenySet
from rocade.trust.authority.region import Region, create_region, issue_directory, renew_server, roll
from rocade.trust.authority.store import SigningKey, read_revoked_parties, read_signing_keys
from rocade.trust.authority.verification import verify

__all__ = [
    "AuditLog",
    "Authority",
    "DenySet",
    "Region",
    "SigningKey",
    "create_region",
    "issue_directory",
    "read_revoked_parties",
    "read_signing_keys",
    "renew_server",
    "roll",
    "verify",
]
