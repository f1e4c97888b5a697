"""The refusals of the dealers' room. Messages name sites and codes, never people."""

from __future__ import annotations

from rocade.core.errors import Refused


def invalid(field: str, reason: str) -> Refused:
    return Refused("dealers.invalid", f"{field}: {reason}", field=field)


def site_unknown() -> Refused:
    return Refused("dealers.site.unknown", "no such point of sale is known here; import it first")


def site_closed() -> Refused:
    return Refused("dealers.site.closed", "this point of sale is not open at this instant; its dates say so")


def dealer_unknown() -> Refused:
    return Refused("dealers.dealer.unknown", "no such dealer is known here; import its points of sale first")


def provider_unknown() -> Refused:
    return Refused("dealers.provider.unknown", "no such service provider is registered here; add it first")


def provider_signs() -> Refused:
    return Refused(
        "dealers.provider.signs",
        "a service provider's key signs no business content; the point of sale signs with its own key",
    )


def foreign_brand(brand: str) -> Refused:
    return Refused(
        "dealers.brand.foreign", f"this point of sale neither sells nor services {brand} at this instant", brand=brand
    )


def acts_as_primary() -> Refused:
    return Refused(
        "dealers.site.secondary", "a secondary point of sale acts for itself alone; its primary does this for it"
    )


def foreign_signer() -> Refused:
    return Refused("dealers.signer.foreign", "the key that signed belongs to another party than the sender")


def delegation_unknown() -> Refused:
    return Refused("dealers.delegation.unknown", "there is no such delegation, or it has ended")


def exception_unknown() -> Refused:
    return Refused("dealers.exception.unknown", "this country keeps no such service to itself")


def role_unknown() -> Refused:
    return Refused("dealers.role.unknown", "there is no such role, or it has ended")


def foreign_person() -> Refused:
    return Refused("dealers.person.foreign", "this person does not belong to the dealer of this point of sale")


def own_role() -> Refused:
    return Refused("dealers.role.self", "nobody gives a role to himself; ask a second person")


def import_refused(lines: int) -> Refused:
    return Refused(
        "dealers.import.refused",
        f"{lines} lines are wrong, nothing was imported; correct them and try again",
        lines=lines,
    )


def import_unreadable(reason: str) -> Refused:
    return Refused("dealers.import.unreadable", f"this is no list of points of sale: {reason}")


def bad_cursor() -> Refused:
    return Refused("dealers.cursor", "the cursor was not made by this list; begin again without one")


def wrong_move(state: str, wanted: str) -> Refused:
    return Refused(
        "dealers.move.order", f"a site that is in state {state} cannot go to {wanted}", state=state, wanted=wanted
    )


def not_installed(what: str) -> Refused:
    return Refused("dealers.order.unknown", f"an agent can be asked to renew or restart, not to {what}", what=what[:32])


def unready_move(reason: str) -> Refused:
    return Refused("dealers.move.unready", f"not yet: {reason}")
