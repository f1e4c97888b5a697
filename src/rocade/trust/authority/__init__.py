"""The region's authority: who gets a certificate, who loses it, and the record of both.

`region` holds root, intermediates and the signing of leaves (no database); `authority` the acts and their rules;
`deny` the pushed set of revoked serials; `audit` the tamper-evident log. Knows no HTTP word.
"""

from rocade.trust.authority.region import Region, create_region, issue_directory

__all__ = ["Region", "create_region", "issue_directory"]
