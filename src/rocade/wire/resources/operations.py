"""What can be asked of the hub in SOAP: each operation is a resource too, so that one schema makes and reads everything.

An answer is `<operation>Response`: the resources it gives, then `NextCursor` where there may be more.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rocade.wire.resources import schema
from rocade.wire.resources.model import LAST_INSTANT_US, Message
from rocade.wire.resources.schema import Resource, resource_of

PAGE_LIMIT = 1_000

_Instant = Annotated[int, Meta(ge=0, le=LAST_INSTANT_US)]
_Number = Annotated[int, Meta(ge=0, le=1 << 53)]
_List = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}\Z", extra={"xml": "PriceListID"})]
_Request = Annotated[
    str,
    Meta(
        max_length=64,
        pattern=r"^[!-~]*\Z",
        description="anything new: makes equal questions differ",
        extra={"xml": "RequestID"},
    ),
]
_Cursor = Annotated[str, Meta(max_length=200, pattern=r"^[!-~]*\Z", extra={"xml": "Cursor"})]
_Limit = Annotated[int, Meta(ge=1, le=PAGE_LIMIT, extra={"xml": "MaximumNumber"})]


class GetPrice(msgspec.Struct, frozen=True, kw_only=True):
    """The price of a part at an instant (absent = now), as known at a number of the list (absent = the newest)."""

    list: _List
    ref: Annotated[str, Meta(min_length=1, max_length=64, extra={"xml": "ItemID"})]
    at_us: Annotated[_Instant | None, Meta(extra={"xml": "PriceDateTime", "kind": "instant"})] = None
    known_seq: Annotated[_Number | None, Meta(extra={"xml": "KnownReleaseNumeric"})] = None
    request: _Request = ""


class GetPriceChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What releases after a number changed, in order."""

    list: _List
    since_seq: Annotated[_Number, Meta(extra={"xml": "SinceReleaseNumeric"})]
    cursor: _Cursor = ""
    limit: _Limit = PAGE_LIMIT
    request: _Request = ""


class GetReceipts(msgspec.Struct, frozen=True, kw_only=True):
    """Receipts of the caller's own messages: after a cursor, or of one message."""

    cursor: _Cursor = ""
    message_id: Annotated[str, Meta(max_length=64, pattern=r"^[!-~]*\Z", extra={"xml": "OriginalBODID"})] = ""
    limit: _Limit = PAGE_LIMIT
    request: _Request = ""


class GetSites(msgspec.Struct, frozen=True, kw_only=True):
    """Points of sale, in order of their ids."""

    country: Annotated[str, Meta(pattern=r"^([A-Z]{2})?\Z", extra={"xml": "CountryID"})] = ""
    brand: Annotated[str, Meta(max_length=32, pattern=r"^[a-z0-9_-]*\Z", extra={"xml": "BrandCode"})] = ""
    cursor: _Cursor = ""
    limit: _Limit = 100
    request: _Request = ""


class Operation(msgspec.Struct, frozen=True):
    """A question and what answers it. `is_many`: any number of `gives`, and a cursor."""

    asks: Resource
    gives: Resource
    is_many: bool

    @property
    def name(self) -> str:
        return self.asks.xml


class Page(msgspec.Struct, frozen=True):
    """Some of what was asked for; `cursor` "" = that was all."""

    rows: list[Any]
    cursor: str = ""


OPERATIONS = {
    one.name: one
    for one in (
        Operation(resource_of("get-price", GetPrice, "GetPrice"), schema.PRICE_LINE, is_many=False),
        Operation(
            resource_of("get-price-changes", GetPriceChanges, "GetPriceChanges"), schema.PRICE_CHANGE, is_many=True
        ),
        Operation(resource_of("send-message", Message, "SendMessage"), schema.RECEIPT, is_many=False),
        Operation(resource_of("get-receipts", GetReceipts, "GetReceipts"), schema.RECEIPT, is_many=True),
        Operation(resource_of("get-sites", GetSites, "GetSites"), schema.SITE, is_many=True),
    )
}
