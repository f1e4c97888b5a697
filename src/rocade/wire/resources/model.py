"""The resources that points of sale and their systems exchange, written once: every format is made from these structs.

A field says its type, its limits and, in `extra`, its name in XML (the public field names of the STAR standard where there
is one) and what a number means (`kind`: instant). Prices are whole minor units of their currency; instants are
microseconds since 1970 UTC in JSON and `2026-11-22T08:00:00.000000Z` in XML and CSV. Texts hold no control characters but
tab and line feed: those would not survive XML.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

NAMESPACE = "urn:rocade:exchange:1"
LAST_INSTANT_US = 253_402_300_799_999_999
"""The end of the year 9999, the last that XML's dateTime can write here."""
_PLAIN = r"^[^\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f￾￿]*\Z"
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}\Z"
_BRAND = r"^[a-z0-9][a-z0-9_-]{0,31}\Z"


def _xml(name: str, kind: str = "") -> dict[str, str]:
    return {"xml": name, "kind": kind}


_Instant = Annotated[int, Meta(ge=0, le=LAST_INSTANT_US)]
_Minor = Annotated[int, Meta(ge=0, le=1 << 53)]
_Latitude = Annotated[float, Meta(ge=-90, le=90)]
_Longitude = Annotated[float, Meta(ge=-180, le=180)]
type Brand = Annotated[str, Meta(pattern=_BRAND)]


class Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A point of sale."""

    id: Annotated[str, Meta(pattern=_NAME, description="the point of sale", extra=_xml("PartyID"))]
    dealer: Annotated[str, Meta(pattern=_NAME, description="the company it belongs to", extra=_xml("DealerPartyID"))]
    group: Annotated[str, Meta(max_length=64, pattern=_PLAIN, extra=_xml("GroupPartyID"))] = ""
    name: Annotated[str, Meta(max_length=120, pattern=_PLAIN, extra=_xml("CompanyName"))]
    country: Annotated[str, Meta(pattern=r"^[A-Z]{2}\Z", description="ISO 3166-1", extra=_xml("CountryID"))]
    primary: Annotated[
        str,
        Meta(
            max_length=64,
            pattern=_PLAIN,
            description="the primary site; empty = it is one",
            extra=_xml("PrimaryPartyID"),
        ),
    ] = ""
    address: Annotated[str, Meta(max_length=120, pattern=_PLAIN, extra=_xml("LineOne"))] = ""
    city: Annotated[str, Meta(max_length=80, pattern=_PLAIN, extra=_xml("CityName"))] = ""
    latitude: Annotated[_Latitude | None, Meta(description="degrees, WGS-84", extra=_xml("LatitudeMeasure"))] = None
    longitude: Annotated[_Longitude | None, Meta(description="degrees, WGS-84", extra=_xml("LongitudeMeasure"))] = None
    timezone: Annotated[str, Meta(max_length=64, pattern=_PLAIN, extra=_xml("TimeZone"))] = ""
    opening_hours: Annotated[str, Meta(max_length=500, pattern=_PLAIN, extra=_xml("HoursOfOperation"))] = ""
    phone: Annotated[str, Meta(max_length=40, pattern=_PLAIN, extra=_xml("CompleteNumber"))] = ""
    opened_us: Annotated[_Instant, Meta(extra=_xml("OpeningDateTime", "instant"))]
    closed_us: Annotated[
        _Instant | None,
        Meta(description="absent = open", extra=_xml("ClosingDateTime", "instant")),
    ] = None
    sells: Annotated[tuple[Brand, ...], Meta(description="brands sold", extra=_xml("SalesBrandCode"))] = ()
    services: Annotated[tuple[Brand, ...], Meta(description="brands serviced", extra=_xml("ServiceBrandCode"))] = ()


class PriceLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The price of one part at one instant, as known at one number of its list."""

    list: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}\Z", extra=_xml("PriceListID"))]
    ref: Annotated[
        str, Meta(min_length=1, max_length=64, pattern=_PLAIN, description="part number", extra=_xml("ItemID"))
    ]
    label: Annotated[str, Meta(max_length=200, pattern=_PLAIN, extra=_xml("ItemDescription"))] = ""
    family: Annotated[str, Meta(max_length=64, pattern=_PLAIN, extra=_xml("PartClass"))] = ""
    superseded_by: Annotated[str, Meta(max_length=64, pattern=_PLAIN, extra=_xml("SupersededByItemID"))] = ""
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z", description="ISO 4217", extra=_xml("CurrencyID"))]
    price_minor: Annotated[
        _Minor | None,
        Meta(description="minor units; absent = withdrawn", extra=_xml("UnitPriceMinorAmount")),
    ] = None
    valid_from_us: Annotated[_Instant, Meta(extra=_xml("EffectiveDateTime", "instant"))]
    seq: Annotated[int, Meta(ge=1, le=1 << 53, description="release that said so", extra=_xml("ReleaseNumeric"))]
    at_us: Annotated[_Instant, Meta(description="the instant asked for", extra=_xml("PriceDateTime", "instant"))]
    known_seq: Annotated[
        int, Meta(ge=1, le=1 << 53, description="number the list was at", extra=_xml("KnownReleaseNumeric"))
    ]


class PriceChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One entry of a price list: from an instant on, this price, said by this release."""

    list: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}\Z", extra=_xml("PriceListID"))]
    seq: Annotated[int, Meta(ge=1, le=1 << 53, extra=_xml("ReleaseNumeric"))]
    ref: Annotated[str, Meta(min_length=1, max_length=64, pattern=_PLAIN, extra=_xml("ItemID"))]
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z", extra=_xml("CurrencyID"))]
    price_minor: Annotated[
        _Minor | None,
        Meta(description="minor units; absent = withdrawn", extra=_xml("UnitPriceMinorAmount")),
    ] = None
    valid_from_us: Annotated[_Instant, Meta(extra=_xml("EffectiveDateTime", "instant"))]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A business message. Its body travels as it is; here it is in Base64."""

    id: Annotated[str, Meta(pattern=_NAME, description="unique for its sender", extra=_xml("BODID"))]
    sender: Annotated[str, Meta(max_length=264, pattern=_PLAIN, extra=_xml("SenderLogicalID"))] = ""
    brand: Annotated[str, Meta(max_length=32, pattern=_PLAIN, extra=_xml("BrandCode"))] = ""
    country: Annotated[str, Meta(pattern=r"^([A-Z]{2})?\Z", extra=_xml("CountryID"))] = ""
    service: Annotated[str, Meta(max_length=32, pattern=_PLAIN, extra=_xml("ServiceID"))] = ""
    site: Annotated[str, Meta(max_length=64, pattern=_PLAIN, extra=_xml("DestinationPartyID"))] = ""
    stream: Annotated[str, Meta(pattern=_NAME, extra=_xml("StreamID"))] = "main"
    sequence: Annotated[
        int, Meta(ge=0, le=1 << 53, description="0 = the hub counts", extra=_xml("SequenceNumeric"))
    ] = 0
    content_class: Annotated[Literal["technical", "customer", "fiscal"], Meta(extra=_xml("ContentClassCode"))]
    content_type: Annotated[str, Meta(min_length=1, max_length=127, pattern=r"^[!-~ ]+\Z", extra=_xml("MimeCode"))]
    created_us: Annotated[_Instant, Meta(extra=_xml("CreationDateTime", "instant"))]
    answers: Annotated[str, Meta(max_length=64, pattern=_PLAIN, extra=_xml("ReferenceID"))] = ""
    body: Annotated[bytes, Meta(max_length=512 << 10, extra=_xml("Content"))]


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the hub says about one message: that it is kept (received), or what became of it (decided)."""

    message_id: Annotated[str, Meta(pattern=_NAME, extra=_xml("OriginalBODID"))]
    message_sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", extra=_xml("ContentDigest"))]
    sender: Annotated[str, Meta(max_length=264, pattern=_PLAIN, extra=_xml("SenderLogicalID"))]
    kind: Annotated[Literal["received", "decided"], Meta(extra=_xml("ReceiptCode"))]
    at_us: Annotated[_Instant, Meta(extra=_xml("ReceiptDateTime", "instant"))]
    hub: Annotated[str, Meta(max_length=264, pattern=_PLAIN, extra=_xml("HubLogicalID"))]
    outcome: Annotated[Literal["", "accepted", "refused"], Meta(extra=_xml("ResponseCode"))] = ""
    code: Annotated[str, Meta(max_length=100, pattern=_PLAIN, extra=_xml("ReasonCode"))] = ""
    reason: Annotated[str, Meta(max_length=500, pattern=_PLAIN, extra=_xml("ReasonDescription"))] = ""
