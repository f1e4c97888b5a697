"""The network of dealers in memory (`SiteTable`), pushed to each process within moments: who is what, and who may do what there.

Flow: load all -> listen; each numbered change names a site, a person, the providers, the exceptions, or everything, and only
that is read anew. A poll covers lost notifications. Answers come from memory at the instant asked: periods begin and end by
themselves. While the database has been away for more than `STALE_S`, roles and delegations are taken for ended, because
nobody knows what was withdrawn; sites and brands stay as they were, because a dealer must be able to work.
`check_*` refuse with the code of what is wrong: the exchange, the price lists and the relay ask them of every message.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Set
from typing import Self

import asyncpg

from rocade.core.identifiers import Identity
from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.fabric.database.following import follow
from rocade.services.dealers import errors, store
from rocade.services.dealers.model import BrandAt, Delegation, NationalException, Role, Site
from rocade.trust.authority.applications import StaffRole
from rocade.trust.authority.gate import Principal, SiteRight

STALE_S = 10.0

type Watcher = Callable[[Set[str]], object]
_log = logging.getLogger(__name__)


class SiteTable:
    """Every process that decides about dealers opens one; `Dealers` writes."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._sites: dict[str, Site] = {}
        self._of_dealer: dict[str, set[str]] = {}
        self._of_group: dict[str, set[str]] = {}
        self._delegations: dict[str, list[Delegation]] = {}
        self._providers: frozenset[str] = frozenset()
        self._roles: dict[str, list[Role]] = {}
        self._exceptions: dict[tuple[str, str, str], NationalException] = {}
        self._moves: dict[str, str] = {}
        self._last_number = 0
        self._read_s = clock.monotonic_s()
        self._watchers: list[Watcher] = []
        self._reading = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, database: Database, clock: Clock) -> Self:
        """Load the table, then follow changes until `close`.

        Raises: what the database raises when it is down; a process must not start with an unknown table.
        """
        opened = cls(database, clock)
        async with database.pool.acquire() as connection:
            await opened._read(connection)
        opened._task = asyncio.create_task(follow(database, store.CHANNEL, opened._hear), name="site-table")
        return opened

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def refresh(self) -> None:
        """Take in now what changed, so that whoever just acted sees it in his next answer."""
        async with self._database.pool.acquire() as connection:
            await self._hear(connection)

    # --- who is what -------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._sites)

    def __contains__(self, site: object) -> bool:
        return site in self._sites

    def __iter__(self) -> Iterator[Site]:
        return iter(list(self._sites.values()))

    def site(self, id: str) -> Site | None:
        return self._sites.get(id)

    def of_dealer(self, dealer: str) -> list[str]:
        """Sites of a company, in order."""
        return sorted(self._of_dealer.get(dealer, ()))

    def of_group(self, group: str) -> list[str]:
        """Sites of a group, in order."""
        return sorted(self._of_group.get(group, ()))

    def of_brand(self, brand: str, at_us: int, country: str = "") -> list[str]:
        """Sites that sell or service a brand at an instant, in order."""
        return sorted(
            site.id
            for site in self._sites.values()
            if (not country or site.country == country) and any(one.brand == brand for one in site.brands_at(at_us))
        )

    def brands_of(self, site: str, at_us: int) -> tuple[BrandAt, ...]:
        """Brands a site sells or services at an instant."""
        found = self._sites.get(site)
        return found.brands_at(at_us) if found else ()

    def has_brand(self, site: str, brand: str, at_us: int) -> bool:
        return any(one.brand == brand for one in self.brands_of(site, at_us))

    def primary_of(self, site: str) -> str:
        """The site itself, or the primary it belongs to. Raises: Refused `dealers.site.unknown`."""
        return self._known(site).primary or site

    def exception(self, country: str, service: str, brand: str) -> NationalException | None:
        """What a country keeps to itself; a rule for the brand beats the rule for all brands."""
        return self._exceptions.get((country, service, brand)) or self._exceptions.get((country, service, ""))

    def move_state(self, site: str) -> str:
        """How far a site is on its way from the old ways: old, shadow, cut-over or rolled-back."""
        return self._moves.get(site, "old")

    # --- who may what ------------------------------------------------------------------------------------------------

    def is_provider(self, partner: str) -> bool:
        return partner in self._providers

    def delegated(self, provider: str, site: str, at_us: int) -> frozenset[str]:
        """Acts a provider was given at a site and may do at this instant."""
        found = self._sites.get(site)
        if found is None or self.is_stale:
            return frozenset()
        scopes = {f"site:{site}", f"dealer:{found.dealer}", f"group:{found.group}"}
        given = [one for one in self._delegations.get(provider, ()) if one.scope in scopes]
        return frozenset(act for one in given if one.from_us <= at_us < one.until_us for act in one.acts)

    def may(self, provider: str, site: str, act: str, at_us: int) -> bool:
        """Whether a provider was given an act at a site."""
        return act in self.delegated(provider, site, at_us)

    def sites_of_provider(self, provider: str, at_us: int) -> list[str]:
        """Sites where a provider may do anything, in order."""
        return sorted(site for site in self._sites if self.delegated(provider, site, at_us))

    def sites_for(self, principal: Principal, at_us: int) -> list[Site]:
        """Sites somebody has to do with: his own machine's, where he has a role, where he is a provider; in order."""
        kind, _, id = principal.recipient.partition(":")
        if principal.kind == "person":
            ids = {one.site for one in self.roles_of(principal.id, at_us)}
        elif kind == "dealer":
            ids = {id}
        else:
            ids = set(self.sites_of_provider(id, at_us)) if kind == "partner" else set()
        return [self._sites[one] for one in sorted(ids & self._sites.keys())]

    def roles(self, person: str, site: str, at_us: int, brand: str = "") -> frozenset[str]:
        """What somebody is at a site: for this brand, or ('') for all brands; a role for one brand is none for all."""
        if site not in self._sites:
            return frozenset()
        return frozenset(
            one.role for one in self.roles_of(person, at_us) if one.site == site and one.brand in {"", brand}
        )

    def roles_of(self, person: str, at_us: int) -> list[Role]:
        """Everything somebody is, anywhere."""
        if self.is_stale:
            return []
        return [one for one in self._roles.get(person, ()) if one.from_us <= at_us < one.until_us]

    def site_right(self, principal: Principal, site: str, brand: str, at_us: int) -> SiteRight:
        """What the gate asks: whose machine, which roles, which delegations. Implements `gate.SiteRights`."""
        if site not in self._sites:
            return SiteRight()
        if principal.kind == "person":
            is_staff = any(one.site == site for one in self.roles_of(principal.id, at_us))
            return SiteRight(is_staff=is_staff, roles=self.roles(principal.id, site, at_us, brand))
        kind, _, id = principal.recipient.partition(":")
        if kind == "dealer":
            return SiteRight(is_self=id == site)
        return SiteRight(delegated=self.delegated(id, site, at_us) if kind == "partner" else frozenset())

    def staff_roles(self, person: str, brand: str, at_us: int) -> list[StaffRole]:
        """What somebody is at open sites that have a brand ('' = any) now. Implements `applications.Staff`."""
        found = []
        for one in self.roles_of(person, at_us):
            site = self._sites.get(one.site)
            if site is None or not site.is_open(at_us) or (brand and one.brand not in {"", brand}):
                continue
            if not brand or any(has.brand == brand for has in site.brands_at(at_us)):
                found.append(StaffRole(site.dealer, site.id, one.brand, one.role))
        return sorted(found)

    # --- checks, each with its own refusal -----------------------------------------------------------------------------

    def check_site(self, id: str, at_us: int) -> Site:
        """Raises: Refused `dealers.site.unknown`, `dealers.site.closed`."""
        found = self._known(id)
        if not found.is_open(at_us):
            raise errors.site_closed()
        return found

    def check_brand(self, site: str, brand: str, at_us: int) -> Site:
        """A site on the route of a brand. Raises: Refused `dealers.brand.foreign`, and as `check_site`."""
        found = self.check_site(site, at_us)
        if not any(one.brand == brand for one in found.brands_at(at_us)):
            raise errors.foreign_brand(brand)
        return found

    def check_acts_for(self, site: str, acted_for: str, at_us: int) -> None:
        """A site acts for itself; a primary also for its secondaries.

        Raises: Refused `dealers.site.secondary` (its primary or a sister was meant), and as `check_site`.
        """
        self.check_site(site, at_us)
        if acted_for != site and self._known(acted_for).primary != site:
            raise errors.acts_as_primary()

    def check_signer(self, signer: Identity, sender: str, at_us: int) -> None:
        """Whether the holder of a key may sign business content in the name of `sender` (an identity URI).

        Raises: Refused `dealers.provider.signs` (a provider's key, whatever it was given), `dealers.signer.foreign` (the key
        of another party), and for a site as `check_site`.
        """
        if signer.kind == "partner" and signer.id in self._providers:
            raise errors.provider_signs()
        if signer.uri != sender:
            raise errors.foreign_signer()
        if signer.kind == "dealer":
            self.check_site(signer.id, at_us)

    def _known(self, id: str) -> Site:
        found = self._sites.get(id)
        if found is None:
            raise errors.site_unknown()
        return found

    # --- following -----------------------------------------------------------------------------------------------------

    @property
    def age_s(self) -> float:
        """Seconds since the database last confirmed this table."""
        return self._clock.monotonic_s() - self._read_s

    @property
    def is_stale(self) -> bool:
        return self.age_s > STALE_S

    def watch(self, callback: Watcher) -> Callable[[], None]:
        """Call `callback` with the ids of sites that changed. Returns what ends the watching; a callback must not block."""
        self._watchers.append(callback)
        return lambda: self._watchers.remove(callback)

    async def _hear(self, connection: asyncpg.Connection) -> None:
        changed = await self._read(connection)
        for watcher in tuple(self._watchers) if changed else ():
            try:
                watcher(changed)
            except Exception:  # a watcher's fault must not keep the others from hearing of a change
                _log.exception("a watcher of the site table failed")

    async def _read(self, connection: asyncpg.Connection) -> Set[str]:
        """Take in what changed, one reader at a time; the sites that are other than they were."""
        async with self._reading:
            low, high = await store.change_bounds(connection)
            if high < self._last_number or low > self._last_number + 1 or not self._last_number:
                whats = {store.EVERYTHING}
            else:
                whats = await store.changes(connection, self._last_number, high)
            changed = await self._take(connection, whats)
            self._last_number = high
            self._read_s = self._clock.monotonic_s()
            return changed

    async def _take(self, connection: asyncpg.Connection, whats: Set[str]) -> Set[str]:
        now_us, is_all = self._clock.now_us(), store.EVERYTHING in whats
        sites = {what[5:] for what in whats if what.startswith("site:")}
        people = {what for what in whats if what.startswith("person:")}
        changed: set[str] = set()
        if is_all or sites:
            changed = self._replace(
                await store.read_sites(connection, None if is_all else sorted(sites)), sites, is_all
            )
            self._moves = await store.read_states(connection)
        if is_all or people:
            roles = await store.read_roles(connection, now_us, people=None if is_all else sorted(people))
            fresh: dict[str, list[Role]] = {} if is_all else {person: [] for person in people}
            for role in roles:
                fresh.setdefault(role.person, []).append(role)
            self._roles = fresh if is_all else self._roles | fresh
        if is_all or "providers" in whats:
            self._providers = frozenset(one.id for one in await store.read_providers(connection))
            given: dict[str, list[Delegation]] = {}
            for one in await store.read_delegations(connection, now_us):
                given.setdefault(one.provider, []).append(one)
            self._delegations = given
        if is_all or "exceptions" in whats:
            found = await store.read_exceptions(connection)
            self._exceptions = {(one.country, one.service, one.brand): one for one in found}
        return changed

    def _replace(self, found: list[Site], asked: Set[str], is_all: bool) -> set[str]:
        """Put in the sites read, take out those that are gone."""
        gone = (self._sites.keys() if is_all else asked) - {site.id for site in found}
        changed = gone | {site.id for site in found if self._sites.get(site.id) != site}
        for id in changed:
            if known := self._sites.pop(id, None):
                self._of_dealer[known.dealer].discard(id)
                self._of_group.get(known.group, set()).discard(id)
        for site in found:
            if site.id in changed:
                self._sites[site.id] = site
                self._of_dealer.setdefault(site.dealer, set()).add(site.id)
                if site.group:
                    self._of_group.setdefault(site.group, set()).add(site.id)
        return set(changed)
