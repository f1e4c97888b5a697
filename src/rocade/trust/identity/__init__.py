"""Who somebody is, proven: keys, the one strict certificate check, the signed issuer table, TLS settings, EST client.

Imports `core`, `cryptography` and the standard library only, so that programs in cars and at dealers can use it.

Flow: a party makes a key (`keys`), enrols with a claim code (`est_client`), keeps what it got in an identity directory
(`directory`), connects with TLS 1.3 (`tls`), and each side reads the other's identity with `certificates.verify_leaf`
against the region's `issuers.IssuerTable`. Nothing else ever decides who somebody is.
"""

from rocade.trust.identity.certificates import Verified, verify_leaf
from rocade.trust.identity.issuers import Issuer, IssuerTable

__all__ = ["Issuer", "IssuerTable", "Verified", "verify_leaf"]
