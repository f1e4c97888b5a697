"""What is known of the network of dealers, and the rules that need nothing but that.

group > dealer (the company) > point of sale ("site"), primary or secondary. A site sells and services brands, each for a
period. A service provider is a company that runs the agents of several dealers: what it may do there is written as
delegations and can only be one of `PROVIDER_ACTS`. People of a dealer have roles, per site and brand. All dates are
instants; a day begins at midnight of the site's own time zone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from rocade.services.dealers import errors, opening

FOREVER_US = (1 << 63) - 1
FIRST_US, LAST_US = -2_209_075_200_000_000, 7_258_118_400_000_000
"""A day before 1900, and 2200: what stands outside is a mistake."""
PROVIDER_ACTS = ("install", "renew", "restart", "health")
"""What can be delegated: the running of an agent. Signing and reading business content cannot be written here at all."""
ROLES = ("manager", "sales", "after-sales", "parts", "accounts")
MOVE_STATES = ("old", "shadow", "cut-over", "rolled-back")
MOVES = {
    "old": {"shadow"},
    "shadow": {"cut-over", "old"},
    "cut-over": {"rolled-back"},
    "rolled-back": {"shadow", "old"},
}
"""Where a site in a state may go: nobody cuts over who has not run both ways side by side."""
EXCEPTION_SERVICES = re.compile(r"[a-z][a-z0-9.-]{0,31}\Z")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_COUNTRY = re.compile(r"[A-Z]{2}\Z")
_BRAND = re.compile(r"[a-z0-9][a-z0-9-]{0,31}\Z")
_PHONE = re.compile(r"(?:\+?[0-9][0-9 ().-]{3,30})?\Z")
_PERSON = re.compile(r"person:[0-9a-f]{1,16}\Z")
_SCOPE = re.compile(r"(site|dealer|group):([A-Za-z0-9][A-Za-z0-9._-]{0,63})\Z")


class BrandAt(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """A brand at a site for a period."""

    brand: str
    sells: bool
    services: bool
    from_us: int
    until_us: int = FOREVER_US

    def holds(self, at_us: int) -> bool:
        return self.from_us <= at_us < self.until_us


class Site(msgspec.Struct, frozen=True, gc=False):
    """A point of sale. `primary` is the site it is secondary to, '' = it is primary itself; `group` that of its dealer."""

    id: str
    dealer: str
    group: str
    name: str
    country: str
    primary: str
    address: str
    city: str
    latitude: float | None
    longitude: float | None
    timezone: str
    opening_hours: str
    phone: str
    opened_us: int
    closed_us: int
    brands: tuple[BrandAt, ...] = ()

    @property
    def is_primary(self) -> bool:
        return not self.primary

    def is_open(self, at_us: int) -> bool:
        """Whether the point of sale exists at an instant (not whether its door is open: `opening`)."""
        return self.opened_us <= at_us < self.closed_us

    def brands_at(self, at_us: int) -> tuple[BrandAt, ...]:
        """The brands it has at an instant; none before it opens and after it closes."""
        return tuple(one for one in self.brands if one.holds(at_us)) if self.is_open(at_us) else ()


class Dealer(msgspec.Struct, frozen=True):
    """A company; `group` '' = its own master."""

    id: str
    name: str
    group: str
    country: str


class Group(msgspec.Struct, frozen=True):
    id: str
    name: str


class Provider(msgspec.Struct, frozen=True):
    """A service provider: a party of kind partner that runs agents of dealers."""

    id: str
    name: str
    added_us: int


class Delegation(msgspec.Struct, frozen=True):
    """What a provider may do at `scope` (site:<id>, dealer:<id> or group:<id>)."""

    id: str
    provider: str
    scope: str
    acts: tuple[str, ...]
    given_by: str
    from_us: int
    until_us: int = FOREVER_US


class Role(msgspec.Struct, frozen=True):
    """What somebody is at a site, for one brand or ('') for all."""

    id: str
    person: str
    site: str
    brand: str
    role: str
    given_by: str
    from_us: int
    until_us: int = FOREVER_US


class NationalException(msgspec.Struct, frozen=True):
    """Messages of a service (brand '' = all brands) that a country keeps to itself.

    `to`: the party they go to (`partner:<id>`: a national system); `may_cross` False = they never leave the region.
    """

    country: str
    service: str
    brand: str
    to: str
    may_cross: bool
    note: str


class SitesPage(msgspec.Struct, frozen=True):
    sites: list[Site]
    cursor: str | None


class Order(msgspec.Struct, frozen=True):
    """Something an agent was asked to do; `sent_us` 0 = it has not gone down its line yet."""

    number: int
    site: str
    what: str
    by: str
    at_us: int
    sent_us: int


class Move(msgspec.Struct, frozen=True):
    """One step of moving a site over from the old ways."""

    number: int
    site: str
    state: str
    at_us: int
    by: str
    note: str


class Example(msgspec.Struct, frozen=True, array_like=True):
    """A reference whose price differs; '' = that side has none."""

    ref: str
    old: str
    new: str


class Compared(msgspec.Struct, frozen=True):
    """Both sides of a list: how many references were compared and how many differ."""

    compared: int
    same: int
    differing: int
    only_old: int
    only_new: int
    examples: list[Example]

    @property
    def is_same(self) -> bool:
        return not (self.differing or self.only_old or self.only_new)


class Shadow(msgspec.Struct, frozen=True):
    """A report of one shadow run of a site, as the hub keeps it."""

    number: int
    site: str
    list: str
    seq: int
    at_us: int
    compared: Compared


class Progress(msgspec.Struct, frozen=True):
    """How far a group (or '' = companies of no group) is: sites in each state."""

    group: str
    sites: int
    states: dict[str, int]


def check_id(id: str, field: str) -> None:
    """Raises: Refused `dealers.invalid`."""
    if not _ID.match(id):
        raise errors.invalid(field, "1 to 64 letters, digits, dots, underscores or hyphens")


def check_text(text: str, field: str, limit: int = 120, *, is_needed: bool = False) -> None:
    """Raises: Refused `dealers.invalid`."""
    if len(text) > limit or not (text.isprintable() or not text) or (is_needed and not text.strip()):
        raise errors.invalid(field, f"{'1' if is_needed else '0'} to {limit} printable characters")


def check_brand_name(brand: str, *, is_needed: bool = True) -> None:
    """Raises: Refused `dealers.invalid`."""
    if (brand or is_needed) and not _BRAND.match(brand):
        raise errors.invalid("brand", "1 to 32 small letters, digits or hyphens")


def check_country(country: str) -> None:
    """Raises: Refused `dealers.invalid`."""
    if not _COUNTRY.match(country):
        raise errors.invalid("country", "two capital letters (ISO 3166-1), as in FR")


def check_site(site: Site) -> None:
    """The rules of one site alone. Raises: Refused `dealers.invalid`."""
    check_id(site.id, "site")
    check_id(site.dealer, "dealer")
    if site.primary:
        check_id(site.primary, "primary")
    if site.primary == site.id:
        raise errors.invalid("primary", "a site is not secondary to itself")
    check_country(site.country)
    check_text(site.name, "name", is_needed=True)
    check_text(site.address, "address")
    check_text(site.city, "city", 80)
    if not _PHONE.match(site.phone):
        raise errors.invalid("phone", "digits, blanks, dots, hyphens and brackets")
    if (site.latitude is None) != (site.longitude is None):
        raise errors.invalid("latitude", "give latitude and longitude, or neither")
    if site.latitude is not None and site.longitude is not None:
        if not -90 <= site.latitude <= 90:
            raise errors.invalid("latitude", "degrees between -90 and 90")
        if not -180 <= site.longitude <= 180:
            raise errors.invalid("longitude", "degrees between -180 and 180")
    opening.zone(site.timezone)
    opening.parse(site.opening_hours)
    if site.opened_us >= site.closed_us:
        raise errors.invalid("closed", "a site closes after it opened")
    _check_instant(site.opened_us, "opened")
    _check_instant(site.closed_us, "closed")
    check_brands(site.brands)


def _check_instant(at_us: int, field: str) -> None:
    """Dates that somebody will want to read. Raises: Refused `dealers.invalid`."""
    if at_us != FOREVER_US and not FIRST_US <= at_us < LAST_US:
        raise errors.invalid(field, "a date lies between 1900 and 2199")


def check_brands(brands: Iterable[BrandAt]) -> None:
    """Raises: Refused `dealers.invalid`."""
    last: dict[str, BrandAt] = {}
    for one in sorted(brands, key=lambda one: (one.brand, one.from_us)):
        check_brand_name(one.brand)
        if not (one.sells or one.services):
            raise errors.invalid("brands", f"{one.brand}: say sells, services or both")
        if one.from_us >= one.until_us:
            raise errors.invalid("brands", f"{one.brand}: a period ends after it began")
        _check_instant(one.from_us, "brands")
        _check_instant(one.until_us, "brands")
        if one.brand in last and last[one.brand].until_us > one.from_us:
            raise errors.invalid("brands", f"{one.brand}: two periods overlap")
        last[one.brand] = one


def check_delegation(scope: str, acts: Iterable[str]) -> None:
    """Raises: Refused `dealers.invalid`."""
    if not _SCOPE.match(scope):
        raise errors.invalid("scope", "a delegation is for site:<id>, dealer:<id> or group:<id>")
    named = list(acts)
    if not named or set(named) - set(PROVIDER_ACTS):
        raise errors.invalid("acts", f"a provider may be given {', '.join(PROVIDER_ACTS)} and nothing else")


def check_role(person: str, brand: str, role: str) -> None:
    """Raises: Refused `dealers.invalid`."""
    if not _PERSON.match(person):
        raise errors.invalid("person", "a person is named person:<hexadecimal digits>")
    if role not in ROLES:
        raise errors.invalid("role", f"roles are {', '.join(ROLES)}")
    check_brand_name(brand, is_needed=False)


def check_exception(one: NationalException) -> None:
    """Raises: Refused `dealers.invalid`."""
    check_country(one.country)
    if not EXCEPTION_SERVICES.match(one.service):
        raise errors.invalid("service", "1 to 32 small letters, digits, dots or hyphens")
    check_brand_name(one.brand, is_needed=False)
    kind, _, id = one.to.partition(":")
    if kind != "partner" or not _ID.match(id):
        raise errors.invalid("to", "a national system is named partner:<id>")
    check_text(one.note, "note", 200)
