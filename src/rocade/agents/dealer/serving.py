"""What an agent listens on, by its settings: the API on the loopback address, the page on the LAN addresses it was given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rocade.agents.dealer import api, pages
from rocade.agents.dealer.lan_identity import LanIdentity
from rocade.agents.dealer.web import Listener, Shell, bound

if TYPE_CHECKING:
    from rocade.agents.dealer.agent import Dealer

LOOPBACK = "127.0.0.1"


def listeners(dealer: Dealer) -> Iterator[Listener]:
    """The agent's listeners, their sockets bound. Raises: Misconfigured `dealer.web.address`, `dealer.lan.*`."""
    local, lan = dealer.settings.local, dealer.settings.lan
    if local.port:
        made = bound(LOOPBACK, max(0, local.port))
        dealer.ports["local"] = made.getsockname()[1]
        yield Listener(Shell(api.build(dealer), "http", (LOOPBACK, "localhost")), [made])
    if lan.addresses:
        identity = LanIdentity(dealer.place, lan, dealer.clock)
        sockets = [bound(address, max(lan.port, 0)) for address in lan.addresses]
        dealer.ports["lan"] = sockets[0].getsockname()[1]
        dealer.page = identity.url(dealer.ports["lan"])
        yield Listener(
            Shell(pages.build(dealer, identity), "https", identity.hosts), sockets,
            tls=identity.context, networks=dealer.networks(), turned_away=lambda _peer: _turn_away(dealer),
        )  # fmt: skip


def _turn_away(dealer: Dealer) -> None:
    dealer.turned_away += 1
