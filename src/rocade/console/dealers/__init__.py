"""The operator's pages of the dealer road: the network on a map, one point of sale, price releases, messages; and the card that
a dealer embeds in a web site of his own.

`Network` is what they ask; `handlers(network)` gives those this process can serve.
"""

from __future__ import annotations

from typing import Any

from rocade.console.dealers import card, messages, network, releases, site
from rocade.console.dealers.network import Network

__all__ = ["Network", "handlers"]


def handlers(known: Network) -> list[Any]:
    return [
        *network.HANDLERS,
        *site.HANDLERS,
        *(releases.HANDLERS if known.lists else ()),
        *(messages.HANDLERS if known.messages else ()),
        *(card.HANDLERS if known.showcase else ()),
    ]
