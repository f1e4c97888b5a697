"""The refusals of sharing. Messages never name another party, a vehicle or a secret."""

from __future__ import annotations

from rocade.core.errors import Refused


def party() -> Refused:
    return Refused("sharing.party", "a third party is named partner:<id> or dealer:<id>, as its certificate has it")


def way(known: str) -> Refused:
    return Refused("sharing.way", f"data go by one or several of these ways: {known}")


def way_missing(way: str) -> Refused:
    return Refused("sharing.way.missing", f"this contract does not provide for {way}; the owner may make one that does")


def data_class() -> Refused:
    return Refused("sharing.class", "name at least one class of data; a right to control a vehicle is not shared so")


def signals(reason: str) -> Refused:
    return Refused("sharing.signals", reason)


def unknown() -> Refused:
    return Refused("sharing.contract.unknown", "there is no such contract with you")


def ended(why: str) -> Refused:
    return Refused(
        "sharing.contract.ended", f"this contract has ended ({why}); nothing more is given under it", why=why
    )


def not_accepted() -> Refused:
    return Refused("sharing.contract.offered", "take the contract up first; nothing flows before")


def accepted() -> Refused:
    return Refused("sharing.contract.accepted", "this contract was taken up already")


def widens() -> Refused:
    return Refused("sharing.contract.widens", "a contract can only be made smaller; make a new one for more")


def many(limit: int) -> Refused:
    return Refused("sharing.many", f"a vehicle may have {limit} contracts at once; end one first")


def expired() -> Refused:
    """Why records of a feed are gone: noted and told, raised to nobody."""
    return Refused("sharing.expired", "records were kept as long as promised and not taken; the history has them still")


def webhooks_off() -> Refused:
    return Refused(
        "sharing.webhook.off", "this region sends no webhooks for feeds; its operator turns them on (sharing.processes)"
    )


def webhook_missing() -> Refused:
    return Refused("sharing.webhook.missing", "this contract has no webhook yet; set its address first")


def cursor() -> Refused:
    return Refused("sharing.cursor", "the cursor was not made by this stream; begin again without one")
