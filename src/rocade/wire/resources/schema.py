"""Read the one schema out of the structs: which fields a resource has, under which names, of which form.

Every writer and reader (JSON, XML, CSV) and every description (OpenAPI, XSD, WSDL, AsyncAPI) walks these tables.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import inspect

from rocade.core.errors import Refused
from rocade.wire.resources import model

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Field(msgspec.Struct, frozen=True):
    """One field of a resource. `kind`: text | integer | number | instant | bytes."""

    name: str
    xml: str
    kind: str
    is_list: bool
    is_optional: bool
    """Whether None is a value: absent in XML, an empty cell in CSV."""
    is_required: bool
    choices: tuple[str, ...]
    longest: int | None
    description: str

    @property
    def column(self) -> str:
        """Its name in CSV."""
        return self.name.removesuffix("_us")

    def to_text(self, value: Any) -> str:
        """One value (one item, where it is a list) as XML and CSV write it."""
        return _WRITERS[self.kind](value)

    def of_text(self, text: str) -> Any:
        """Raises: Refused `formats.value`."""
        try:
            return _READERS[self.kind](text)
        except (ValueError, OverflowError, binascii.Error):
            raise Refused("formats.value", f"{self.column}: {_EXPECTED[self.kind]}") from None


class Resource(msgspec.Struct, frozen=True):
    """A kind of thing that is exchanged: `struct` is its class, `xml` its element, `xml_many` the element of a document."""

    name: str
    struct: type[msgspec.Struct]
    xml: str
    fields: tuple[Field, ...]

    @property
    def xml_many(self) -> str:
        return self.xml + "List"

    def make(self, values: dict[str, Any]) -> Any:
        """One resource from its values. Raises: Refused `formats.value`, `formats.field.missing`."""
        try:
            return msgspec.convert(values, self.struct)
        except msgspec.ValidationError as error:
            text = str(error)
            if "missing required field" in text:
                raise Refused("formats.field.missing", text) from None
            raise Refused("formats.value", text.replace("$.", "").replace("`", "")) from None


def _field(one: inspect.Field) -> Field:
    extra: dict[str, str] = {}
    description, kind = "", one.type
    while isinstance(kind, inspect.Metadata):
        extra |= kind.extra or {}
        description = str((kind.extra_json_schema or {}).get("description", description))
        kind = kind.type
    is_optional = isinstance(kind, inspect.UnionType)
    if isinstance(kind, inspect.UnionType):
        kind = next(option for option in kind.types if not isinstance(option, inspect.NoneType))
    is_list = isinstance(kind, inspect.VarTupleType)
    if isinstance(kind, inspect.VarTupleType):
        kind = kind.item_type
        while isinstance(kind, inspect.Metadata):
            kind = kind.type
    choices = tuple(map(str, kind.values)) if isinstance(kind, inspect.LiteralType) else ()
    form = extra.get("kind") or _FORMS[type(kind)]
    longest = getattr(kind, "max_length", None)
    return Field(one.name, extra["xml"], form, is_list, is_optional, one.required, choices, longest, description)


_FORMS: dict[type, str] = {
    inspect.StrType: "text",
    inspect.LiteralType: "text",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.BytesType: "bytes",
}


def resource_of(name: str, struct: type[msgspec.Struct], xml: str) -> Resource:
    described = inspect.type_info(struct)
    assert isinstance(described, inspect.StructType)
    return Resource(name, struct, xml, tuple(map(_field, described.fields)))


def write_instant(at_us: int) -> str:
    """As XML and CSV write it: 2026-11-22T08:00:00.000000Z."""
    return (_EPOCH + at_us * _MICROSECOND).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def _read_instant(text: str) -> int:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None or "T" not in text:
        raise ValueError
    return (instant - _EPOCH) // _MICROSECOND


def _read_integer(text: str) -> int:
    if not text.removeprefix("-").isascii() or not text.removeprefix("-").isdigit():
        raise ValueError
    return int(text)


def _read_number(text: str) -> float:
    if not set(text) <= set("0123456789+-.eE"):
        raise ValueError
    return float(text)


_WRITERS: dict[str, Callable[[Any], str]] = {
    "text": str,
    "integer": str,
    "number": repr,
    "instant": write_instant,
    "bytes": lambda value: base64.b64encode(value).decode(),
}
_READERS: dict[str, Callable[[str], Any]] = {
    "text": str,
    "integer": _read_integer,
    "number": _read_number,
    "instant": _read_instant,
    "bytes": lambda text: base64.b64decode("".join(text.split()), validate=True),
}
_EXPECTED = {
    "text": "a text",
    "integer": "a whole number without blanks or separators",
    "number": "a number with a decimal point, as 48.85",
    "instant": "an instant with its zone, as 2026-11-22T08:00:00Z",
    "bytes": "Base64",
}

SITE = resource_of("site", model.Site, "PointOfSale")
PRICE_LINE = resource_of("price-line", model.PriceLine, "PartsPrice")
PRICE_CHANGE = resource_of("price-change", model.PriceChange, "PartsPriceChange")
MESSAGE = resource_of("message", model.Message, "BusinessMessage")
RECEIPT = resource_of("receipt", model.Receipt, "MessageReceipt")
RESOURCES = {one.name: one for one in (SITE, PRICE_LINE, PRICE_CHANGE, MESSAGE, RECEIPT)}
