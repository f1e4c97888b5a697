"""Settings of one dealer agent: `DIR/dealer.toml`, read strictly; unknown keys are refused.

DIR also holds `hubs/<name>/` (an identity directory a hub: key, certificate, trust), `agent.sqlite3` and the price lists.
Every setting is described in docs/dealer-agent.md (a test compares).
"""

from __future__ import annotations

import ipaddress
import tomllib
from pathlib import Path

import msgspec

from rocade.agents.dealer.relay import Entrance, Offer
from rocade.core.errors import Misconfigured

FILE = "dealer.toml"


class Hub(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One hub; several brands may share one, or each have their own."""

    name: str
    host: str
    line_port: int = 8884
    """The permanent line: MQTT 5 over mutual TLS."""
    api_port: int = 8443
    """Price blobs, over HTTPS."""
    est_port: int = 8085
    """Enrolment and renewal."""
    relay_port: int = 0
    """The line that carries services between sites; 0 = none."""


class Local(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The API for the dealer's own software (DMS): plain HTTP, and therefore on this machine only."""

    port: int = 8750
    """0 = no API."""


class Lan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The page for staff, over HTTPS."""

    addresses: tuple[str, ...] = ()
    """Addresses of this machine to listen on; none = no page. Never all addresses at once: name them."""
    port: int = 8743
    networks: tuple[str, ...] = ()
    """Who may connect, as networks (`192.168.10.0/24`); everybody else is cut off before TLS."""
    name: str = ""
    """Name under which staff open the page; it must stand in the certificate. Passkeys need one."""
    certificate: str = ""
    """PEM file with the chain, relative to DIR; empty = a certificate of the agent's own, shown with its fingerprint."""
    key: str = ""


class Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two agents of one site. One of the two listens, the other connects to it; either may be active."""

    listen: str = ""
    """`address:port` where the other agent reaches this one."""
    connect: str = ""
    """`host:port` of the other agent."""
    takeover_s: float = 5.0
    """Silence of the active agent after which the standby takes the line."""
    accept_alone: bool = True
    """Whether a message is taken while neither the other agent nor its hub can be reached: it then lies on one disk until
    one of them is back. False refuses it (`dealer.pair.alone`) and leaves it to the dealer's own program."""


class Keeping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the agent keeps on its disk."""

    outbox_mb: int = 2048
    """Messages that wait; above it new ones are refused, none is dropped."""
    least_free_mb: int = 512
    """Free disk below which new messages are refused, so that prices and receipts still find room."""
    days: int = 400
    """Delivered messages and receipts."""


class Update(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a newer version gets in, after consent and never before."""

    command: tuple[str, ...] = ()
    """Program and arguments; it finds ROCADE_OFFER_VERSION and ROCADE_OFFER_SHA256 in its environment."""


class Folder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A folder where an old program drops messages as files; see docs/formats.md."""

    directory: str
    """Relative to DIR, or absolute."""
    hub: str = ""
    """Where its messages go; may be left out where there is one hub."""
    encoding: str = "utf-8"
    """How CSV without a byte order mark is written: utf-8, cp1252, iso-8859-15."""


class Settings(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    rename={"hubs": "hub", "entrances": "entrance", "offers": "offer", "folders": "folder"},
):
    hubs: tuple[Hub, ...] = ()
    entrances: tuple[Entrance, ...] = ()
    """Local ports that lead to services elsewhere, over the relay."""
    offers: tuple[Offer, ...] = ()
    """Services of this site that others may be connected to."""
    folders: tuple[Folder, ...] = ()
    local: Local = Local()
    lan: Lan = Lan()
    pair: Pair | None = None
    keeping: Keeping = Keeping()
    update: Update = Update()

    def hub(self, name: str) -> Hub:
        """Raises: Misconfigured `dealer.hub.unknown`."""
        for hub in self.hubs:
            if hub.name == name:
                return hub
        raise Misconfigured("dealer.hub.unknown", f"no hub {name} in {FILE}; `rocade dealer init` adds one")


def load(place: Path) -> Settings:
    """Read and check DIR/dealer.toml.

    Raises: Misconfigured `dealer.settings`.
    """
    try:
        read = msgspec.convert(tomllib.loads((place / FILE).read_text("utf-8")), Settings)
    except FileNotFoundError:
        raise _wrong(f"there is no {FILE} in {place}; `rocade dealer init` makes one") from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise _wrong(f"{FILE}: {error}") from None
    _check(read)
    return read


def _check(read: Settings) -> None:
    names = [hub.name for hub in read.hubs]
    if len({*names}) < len(names) or not all(name.replace("-", "").isalnum() for name in names):
        raise _wrong("each hub needs a name of its own, of letters, digits and dashes")
    lan = read.lan
    for text in lan.addresses:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise _wrong(f"lan.addresses: {text} is no address") from None
        if address.is_unspecified:
            raise _wrong(f"lan.addresses: {text} means every network of this machine, guests' too; name the address")
    try:
        allowed = [ipaddress.ip_network(text) for text in lan.networks]
    except ValueError as error:
        raise _wrong(f"lan.networks: {error}") from None
    if any(network.prefixlen == 0 for network in allowed):
        raise _wrong("lan.networks: a network of prefix 0 is everybody; name the staff's network")
    if lan.addresses and not allowed:
        raise _wrong("lan.networks: say which networks the staff's tablets are in")
    if bool(lan.certificate) != bool(lan.key):
        raise _wrong("lan.certificate and lan.key belong together")
    relayed = {hub.name for hub in read.hubs if hub.relay_port}
    if not {entrance.hub for entrance in read.entrances} | {offer.hub for offer in read.offers} <= relayed:
        raise _wrong("entrance and offer: each names a hub that has a relay_port")
    if read.pair and bool(read.pair.listen) == bool(read.pair.connect):
        raise _wrong("pair: one agent has `listen`, the other `connect`")


def add_hub(place: Path, hub: Hub) -> None:
    """Write a hub into DIR/dealer.toml, which is made if it is not there."""
    file = place / FILE
    text = file.read_text("utf-8") if file.exists() else "# Settings of this dealer agent: docs/dealer-agent.md\n"
    lines = [f"{name} = {_toml(value)}" for name, value in msgspec.to_builtins(hub).items()]
    file.write_text(f"{text}\n[[hub]]\n" + "\n".join(lines) + "\n", "utf-8")


def _toml(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _wrong(text: str) -> Misconfigured:
    return Misconfigured("dealer.settings", text)
