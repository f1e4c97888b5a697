"""Named services, the rules that open them, and the one decision everything asks.

What no rule opens is closed. A rule opens one service to some sites (one, those of a dealer, a group, a brand, a country, or
all) within dates and quotas; of several that fit, the most particular one counts, and among equals the newest. `decide` is pure:
the relay and the simulation ask the same function, so what is foretold is what happens.
"""

from __future__ import annotations

import re

import msgspec

from rocade.core.errors import Refused
from rocade.wire.relay import CLASSES

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
HUB = "hub"
SCOPES = ("site", "dealer", "group", "brand", "country", "all")
"""From the most particular to the least; a rule says `site:FR-00123-1`, `brand:renault`, or `all`."""
FOREVER_US = (1 << 63) - 1
DAY_US = 86_400_000_000
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?\Z")


class NamedService(msgspec.Struct, frozen=True, kw_only=True):
    """A service with a name. `at`: `hub`, or the site whose agent reaches it. `host`, `port`: its address seen from there."""

    name: str
    at: str = HUB
    host: str
    port: int
    priority: str = "business"
    about: str = ""

    def check(self) -> None:
        """Raises: Refused `interconnection.service.*`."""
        if not NAME.match(self.name):
            raise Refused("interconnection.service.name", "a name is lower-case letters, digits and dashes, 63 at most")
        if not _WORD.match(self.at):
            raise Refused("interconnection.service.at", "a service is at `hub` or at a site, by the site's id")
        if not _HOST.match(self.host) or not 1 <= self.port <= 65535:
            raise Refused("interconnection.service.address", "an address is a host name or IP address and a port")
        if self.priority not in CLASSES:
            raise Refused("interconnection.service.class", f"a priority class is one of {', '.join(CLASSES)}")
        if len(self.about) > 200:
            raise Refused("interconnection.service.about", "describe the service in at most 200 characters")


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Opens `service` to the sites of `caller`. A quota of 0 means none.

    Units: `connections` at once per site; `per_minute` openings per site; `rate_bytes_s` per connection and direction;
    `day_bytes` per site and UTC day, both directions.
    """

    number: int = 0
    service: str
    caller: str
    device: str = ""
    """The device's name at the site, as its agent knows it; '' = any."""
    connections: int = 0
    per_minute: int = 0
    rate_bytes_s: int = 0
    day_bytes: int = 0
    from_us: int = 0
    until_us: int = FOREVER_US

    def check(self) -> None:
        """Raises: Refused `interconnection.rule.*`."""
        scope, _, word = self.caller.partition(":")
        if scope not in SCOPES or (scope == "all") != (not word) or (word and not _WORD.match(word)):
            raise Refused(
                "interconnection.rule.caller", f"a caller is all, or one of {', '.join(SCOPES[:-1])} as site:ID"
            )
        if not NAME.match(self.service):
            raise Refused("interconnection.rule.service", "name the service the rule opens")
        if self.device and not _WORD.match(self.device):
            raise Refused("interconnection.rule.device", "a device's name is letters, digits, dot, dash, underscore")
        quotas = (self.connections, self.per_minute, self.rate_bytes_s, self.day_bytes)
        if any(not 0 <= quota < 1 << 53 for quota in quotas):
            raise Refused("interconnection.rule.quota", "a quota is a whole number, 0 for none")
        if not 0 <= self.from_us < self.until_us:
            raise Refused("interconnection.rule.period", "a rule begins before it ends")


class SiteFacts(msgspec.Struct, frozen=True):
    """What rules ask of a site. `is_open`: within its opening dates."""

    site: str
    dealer: str = ""
    group: str = ""
    country: str = ""
    brands: frozenset[str] = frozenset()
    is_open: bool = True

    def is_meant_by(self, caller: str) -> bool:
        scope, _, word = caller.partition(":")
        match scope:
            case "all":
                return True
            case "brand":
                return word in self.brands
            case _:
                return bool(word) and word == getattr(self, scope)


class Decision(msgspec.Struct, frozen=True):
    """Open under `rule`, or refused with `code`."""

    code: str = ""
    rule: Rule | None = None

    @property
    def is_open(self) -> bool:
        return not self.code


class Policy(msgspec.Struct, frozen=True):
    """All services and rules of one moment. `number` grows with each change."""

    number: int
    services: dict[str, NamedService]
    rules: dict[str, tuple[Rule, ...]]
    """Those of each service, the one that counts first."""


def compile_policy(number: int, services: list[NamedService], rules: list[Rule]) -> Policy:
    by_service: dict[str, list[Rule]] = {}
    for rule in rules:
        by_service.setdefault(rule.service, []).append(rule)
    ordered = {name: tuple(sorted(those, key=_particular)) for name, those in by_service.items()}
    return Policy(number, {service.name: service for service in services}, ordered)


def _particular(rule: Rule) -> tuple[int, bool, int]:
    return SCOPES.index(rule.caller.partition(":")[0]), not rule.device, -rule.number


def decide(policy: Policy, caller: SiteFacts | None, service: str, device: str, at_us: int) -> Decision:
    """Whether this device of this site may reach this service now. The relay adds quotas, which only a running line has."""
    if caller is None:
        return Decision("relay.site_unknown")
    if not caller.is_open:
        return Decision("relay.site_closed")
    if service not in policy.services:
        return Decision("relay.service_unknown")
    if policy.services[service].at == caller.site:
        return Decision("relay.own_service")
    for rule in policy.rules.get(service, ()):
        if rule.from_us <= at_us < rule.until_us and rule.device in ("", device) and caller.is_meant_by(rule.caller):
            return Decision(rule=rule)
    return Decision("relay.denied")


class Opening(msgspec.Struct, frozen=True):
    """One stream that was opened or refused. `closed_us` None = still open; `code`: why refused, or what broke it."""

    id: int
    at_us: int
    site: str
    device: str
    service: str
    rule: int
    is_refused: bool
    code: str
    closed_us: int | None
    up_bytes: int
    down_bytes: int


class Device(msgspec.Struct, frozen=True):
    """A device that used a line: as its site's agent named it."""

    site: str
    name: str
    first_us: int
    last_us: int
    openings: int


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line to the Internet (or an old private network) a site pays for. `monthly_minor`: price of a month in minor units."""

    site: str
    name: str
    supplier: str = ""
    capacity_kbit_s: int
    monthly_minor: int
    currency: str = "EUR"
    is_private: bool = False
    """One of the old private networks that the relay replaces."""

    def check(self) -> None:
        """Raises: Refused `interconnection.line.*`."""
        if not _WORD.match(self.site) or not NAME.match(self.name):
            raise Refused(
                "interconnection.line.name", "a line has its site's id and a name of lower-case letters and digits"
            )
        if not 1 <= self.capacity_kbit_s <= 10**9 or not 0 <= self.monthly_minor <= 10**12:
            raise Refused(
                "interconnection.line.size", "a line has a capacity in kbit/s and a monthly price in minor units"
            )
        if not re.fullmatch(r"[A-Z]{3}", self.currency):
            raise Refused("interconnection.line.currency", "a currency is three letters of ISO 4217, such as EUR")
        if len(self.supplier) > 80:
            raise Refused("interconnection.line.supplier", "name the supplier in at most 80 characters")
