"""The refusals of price lists. Messages never repeat another party's identifier or a price."""

from __future__ import annotations

from rocade.core.errors import Refused, Unavailable


def list_unknown() -> Refused:
    return Refused("prices.list.unknown", "there is no such price list, or it is not yours; see `rocade prices lists`")


def list_exists() -> Refused:
    return Refused("prices.list.exists", "a price list with this id exists; a list keeps brand, country and currency")


def list_malformed(what: str) -> Refused:
    return Refused("prices.list.malformed", what)


def instant(reason: str) -> Refused:
    """`reason`: malformed | offset | zone | twice | never | contradiction."""
    say = {
        "malformed": "an instant is written like 2026-11-25T00:00:00+01:00 or 2026-11-25T00:00[Europe/Paris]",
        "offset": "say which clock is meant: add an offset (+01:00, Z) or a zone ([Europe/Paris])",
        "zone": "no such time zone is known here; write an offset like +01:00 instead",
        "twice": "the clocks show this time twice that night; write the offset of the one you mean",
        "never": "the clocks leap over this time that night; write another, or an offset",
        "contradiction": "the offset is not the one this zone has at that time; leave one of them out",
    }
    return Refused(f"prices.instant.{reason}", say[reason])


def file(reason: str, more: str = "") -> Refused:
    """`reason`: form | encoding | header | too_large | empty | dtd."""
    say = {
        "form": "the file is neither CSV, XML nor JSON as docs/prices.md shows them",
        "encoding": "the file is neither UTF-8, UTF-16 nor Windows-1252",
        "header": "the first line must name the columns ref and price",
        "too_large": "the file is larger than what is taken in at once",
        "empty": "the file holds no line with a reference",
        "dtd": "a document type definition is refused, whatever it says; leave the DOCTYPE out",
    }
    return Refused(f"prices.file.{reason}", f"{say[reason]}{': ' + more if more else ''}")


def draft_unknown() -> Refused:
    return Refused(
        "prices.draft.unknown", "there is no such draft, or it was released or dropped; hand the file in again"
    )


def draft_invalid(problems: int) -> Refused:
    return Refused("prices.draft.invalid", f"{problems} lines of the file are wrong; correct them and hand it in again")


def draft_stale() -> Refused:
    return Refused(
        "prices.draft.conflict", "another release came first; hand the file in again to see what differs now"
    )


def draft_empty() -> Refused:
    return Refused("prices.draft.empty", "the file changes nothing; there is nothing to release")


def unaccepted(names: str) -> Refused:
    return Refused("prices.draft.unaccepted", f"look at the report again, and say that you accept: {names}")


def blob_unknown() -> Refused:
    return Refused("prices.blob.unknown", "there is no price file with this hash")


def not_entitled() -> Refused:
    return Refused("prices.entitlement.missing", "this point of sale does not sell or service the list's brand there")


def no_key() -> Refused:
    return Refused("prices.encryption.missing", "this point of sale has announced no encryption key that is still good")


def bad_keys() -> Refused:
    return Refused("prices.encryption.malformed", "encryption keys are 1 to 4 X25519 keys of 32 bytes with their end")


def price_unknown() -> Refused:
    return Refused("prices.reference.unknown", "the list has no such reference, or had no price for it at that instant")


def disk(reason: str) -> Unavailable:
    return Unavailable("prices.disk", f"price files cannot be written now ({reason}); nothing was released")
