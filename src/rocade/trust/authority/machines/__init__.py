"""Machines: OAuth 2 clients that prove themselves by certificate, and the short access tokens bound to it.

`Tokens` issues and checks; `keyring` holds what signs; `Clients` is the register of who may ask for which purposes. Knows no HTTP word.
"""

from rocade.trust.authority.machines.clients import Clients
from rocade.trust.authority.machines.keyring import create_wrapping
from rocade.trust.authority.machines.model import CLIENT_KINDS, TOKEN_LIFE_US, Place, principal_of, thumbprint
from rocade.trust.authority.machines.store import Client
from rocade.trust.authority.machines.tokens import Tokens

__all__ = [
    "CLIENT_KINDS",
    "TOKEN_LIFE_US",
    "Client",
    "Clients",
    "Place",
    "Tokens",
    "create_wrapping",
    "principal_of",
    "thumbprint",
]
