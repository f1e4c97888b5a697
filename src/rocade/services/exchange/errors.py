"""The refusals of the exchange. `reason` is the MQTT 5 reason a line is told: what passes by itself is sent again."""

from __future__ import annotations

from rocade.core.errors import Refused

_NOT_AUTHORIZED, _QUOTA_EXCEEDED = 0x87, 0x97
"""MQTT 5.0, section 2.4."""


def flood() -> Refused:
    return Refused(
        "exchange.quota", "more than this party may send within a while; go on later", reason=_QUOTA_EXCEEDED
    )


def not_ready() -> Refused:
    return Refused("exchange.tail", "nothing here takes what is said under this topic", reason=_NOT_AUTHORIZED)


def key_unknown() -> Refused:
    return Refused(
        "exchange.key.unknown", "this key was never certified here for the sender; sign with a certified one",
        reason=_NOT_AUTHORIZED,
    )  # fmt: skip


def key_revoked() -> Refused:
    return Refused(
        "exchange.key.revoked",
        "the key that signed was revoked before this arrived; sign again with a key that is in force",
        reason=_NOT_AUTHORIZED,
    )


def key_ended() -> Refused:
    return Refused(
        "exchange.key.ended",
        "the key that signed had ended when the message was made, or too long ago; sign again with a newer one",
        reason=_NOT_AUTHORIZED,
    )


def key_early() -> Refused:
    return Refused(
        "exchange.key.early", "the key that signed is not in force yet; check the clock", reason=_NOT_AUTHORIZED
    )


def unreadable() -> Refused:
    return Refused("exchange.message.malformed", "what was sent could not be opened; it is kept as evidence")


def foreign_sender() -> Refused:
    return Refused(
        "exchange.sender.foreign",
        "the message names another sender than the party on this line",
        reason=_NOT_AUTHORIZED,
    )


def sender_role() -> Refused:
    return Refused(
        "exchange.sender.role",
        "this party sends no business messages here: no rule of the routing table names it as a system",
        reason=_NOT_AUTHORIZED,
    )


def gap(expected: int, most: int) -> Refused:
    return Refused(
        "exchange.sequence.gap",
        f"number {expected} of this stream is missing and {most} later ones wait for it already; send it first",
        expected=expected, reason=_QUOTA_EXCEEDED,
    )  # fmt: skip


def missing(stream: str, number: int, waiting: int) -> Refused:
    return Refused(
        "exchange.sequence.missing",
        f"number {number} of stream {stream} has not come and {waiting} messages wait for it; send it, or have it skipped",
        stream=stream, expected=number,
    )  # fmt: skip


def number_used(expected: int) -> Refused:
    return Refused(
        "exchange.sequence.used",
        f"another message had this number of the stream; the next one is {expected}", expected=expected,
    )  # fmt: skip


def conflict() -> Refused:
    return Refused(
        "exchange.message.conflict",
        "another message with this identifier was recorded before; both are kept, the first one counts",
    )


def no_route() -> Refused:
    return Refused("exchange.route.none", "no rule says where a message with this address goes; nothing is guessed")


def confined() -> Refused:
    return Refused("exchange.route.confined", "messages of this service and country stay with their national system")


def no_hop() -> Refused:
    return Refused("exchange.route.hop", "what another hub handed on is not handed on again")


def no_site() -> Refused:
    return Refused("exchange.route.site", "the rule sends to a point of sale and the address names none that is open")


def secondary() -> Refused:
    return Refused(
        "exchange.route.primary", "only the primary point of sale sends this; a secondary does not act for it"
    )


def bad_rules(why: str) -> Refused:
    return Refused("exchange.route.invalid", f"this routing table cannot stand: {why}")


def stale_rules(version: int) -> Refused:
    return Refused(
        "exchange.route.stale", f"the table is at version {version} by now; simulate against it and try again",
        version=version,
    )  # fmt: skip


def hub_size(most: int) -> Refused:
    return Refused(
        "exchange.hub.size", f"wrapped for another hub it would have more than {most} bytes; send it in parts"
    )


def not_recipient() -> Refused:
    return Refused("exchange.decision.foreign", "only its recipient decides about a message", reason=_NOT_AUTHORIZED)


def decided() -> Refused:
    return Refused("exchange.decision.final", "this message was decided otherwise before; a decision is final")


def unknown_message() -> Refused:
    return Refused("exchange.message.unknown", "there is no such message")


def gone() -> Refused:
    return Refused("exchange.message.gone", "its class's time of keeping is over; receipts and digest are what is left")


def bad_question() -> Refused:
    return Refused(
        "exchange.ask", "ask for heads, epochs, revocations, signers, replay or receipts, as docs/exchange.md says"
    )


def bad_cursor() -> Refused:
    return Refused("exchange.cursor", "a cursor is a number that a list or a delivery gave")
