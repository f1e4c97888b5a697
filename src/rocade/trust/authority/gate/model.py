"""The words of the gate: who asks (`Principal`), what for (`Act`), what ties him to the vehicle (`Right`), the answer.

Words of ISO 20078: the *resource owner* is the vehicle's owner, the *accessing party* a recipient under consent, the
*offering party* this region, the *identity and authorisation provider* this package.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

ANY = ("*",)
"""`Act.classes` of a read that shows only the classes the caller was granted, and needs at least one."""
ANY_CONTROL = ("control",)
"""The same of acts of control."""


class Principal(msgspec.Struct, frozen=True):
    """Who asks, as proven by `means`; never what he claims.

    Shape: `kind` person | operator | partner | dealer | service (certificate kinds for machines) | nobody; `id` is what the
    audit log gets (`person:<hex>`, an identity URI, `peer:<address>`); `recipient` is how a consent names him: `operator` for
    the region itself, `partner:<id>`, `dealer:<id>`, `person:<hex>`; `duties` are those of an operator (support, security,
    release); `purposes` those his token was given for, empty = none.
    """

    kind: str
    id: str
    recipient: str
    means: str
    """passkey | link (a one-time link; no act that needs a touch) | certificate | token | none"""
    region: str = ""
    duties: frozenset[str] = frozenset()
    purposes: frozenset[str] = frozenset()

    @property
    def is_person(self) -> bool:
        return self.kind == "person"


class Act(msgspec.Struct, frozen=True):
    """Something one may do. Routes name theirs (`opt=does(READ_TWIN)`); the Cedar schema is made from the table in `acts`.

    `of`: nothing (open to everybody) | region | vehicle (path parameter `ref`) | account (one's own) | site (a dealer's
    point of sale: path parameter `site`, and `brand` where the path names one); `classes`: data classes the caller needs on
    the vehicle, ANY = at least one; of a site the roles one of which he needs, or the delegation a provider needs;
    `needs_touch`: a fresh passkey touch bound to this act; `by`: the group of acts the policies speak of (`acts.GROUPS`).
    """

    name: str
    of: str = "region"
    classes: tuple[str, ...] = ()
    needs_touch: bool = False
    by: str = ""


class Right(msgspec.Struct, frozen=True):
    """What ties a principal to a vehicle for one purpose at one instant; the compiled consent table answers with it.

    `relation`: owner | former (owner of an ended time) | driver | none; `classes`: mask of `core.data_classes` he may see;
    `grant`: the consent or invitation it rests on, '' where it rests on none; `is_owned`: whether this reference's time
    belongs to anybody, also to an owner who has left: what was his does not become the fleet's. Of one that nobody owns,
    `classes` are those the region's operators may see (none while the table does not know what is true).
    """

    relation: str = "none"
    classes: int = 0
    grant: str = ""
    is_owned: bool = False


class Rights(Protocol):
    """The compiled consent table as the gate sees it (`services.consent` implements it)."""

    def right(self, principal: Principal, ref: int, purpose: str, at_us: int) -> Right:
        """What ties him to one vehicle."""
        ...

    def mask(self, ref: int, recipient: str, purpose: str, at_us: int) -> int:
        """Classes this recipient may see of one vehicle: the per-record path."""
        ...

    def refs(self, principal: Principal, purpose: str, at_us: int) -> list[int]:
        """The owned vehicles he may see anything of (own, former, as a driver, under consent), in order of reference."""
        ...

    def hidden(self, recipient: str, purpose: str, classes: int, at_us: int) -> list[int]:
        """The owned vehicles of which this recipient may not see all of `classes`; everybody else's are open to him."""
        ...


class SiteRight(msgspec.Struct, frozen=True):
    """What ties a principal to a dealer's point of sale at one instant; the table of sites answers with it.

    `is_self`: it is that site's own machine; `is_staff`: he has any role there; `roles`: those he has for the brand that was
    asked about, or where none was named those he has for all brands; `delegated`: what he may do there as a provider.
    """

    is_self: bool = False
    is_staff: bool = False
    roles: frozenset[str] = frozenset()
    delegated: frozenset[str] = frozenset()


class SiteRights(Protocol):
    """The table of points of sale as the gate sees it (`services.dealers` implements it)."""

    def site_right(self, principal: Principal, site: str, brand: str, at_us: int) -> SiteRight:
        """What ties him to one point of sale, for one brand or ('') for all of them."""
        ...


class Permit(msgspec.Struct, frozen=True):
    """An allowed request: who, what, for which purpose, and how much of the vehicle he may see."""

    principal: Principal
    act: Act
    purpose: str
    right: Right
    policies: tuple[str, ...] = ()
    """Ids of the Cedar policies that allowed it."""
    at_site: SiteRight = SiteRight()
    """What he is at the point of sale the act is on."""
