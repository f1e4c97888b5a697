"""The trade's formats from one schema: JSON, XML with STAR-like names, CSV, and the documents that describe them.

    rows = from_csv(content, PRICE_CHANGE).rows
    to_json(rows), xml_form.to_xml(rows, PRICE_CHANGE)

`model` holds the resources as structs, `schema` the table read out of them, `json_form`, `xml_form` and `csv_form` write and
read, `documents` makes OpenAPI 3.1 components, XSD, WSDL and AsyncAPI. Every resource survives JSON -> XML -> CSV -> JSON.
`xml_form` and `documents` are imported by their own names: they need lxml, which an agent does without.
"""

from rocade.wire.resources.csv_form import Fault, Reading, from_csv, to_csv
from rocade.wire.resources.json_form import from_json, to_json
from rocade.wire.resources.model import NAMESPACE, Message, PriceChange, PriceLine, Receipt, Site
from rocade.wire.resources.schema import MESSAGE, PRICE_CHANGE, PRICE_LINE, RECEIPT, RESOURCES, SITE, Field, Resource

__all__ = [
    "MESSAGE",
    "NAMESPACE",
    "PRICE_CHANGE",
    "PRICE_LINE",
    "RECEIPT",
    "RESOURCES",
    "SITE",
    "Fault",
    "Field",
    "Message",
    "PriceChange",
    "PriceLine",
    "Reading",
    "Receipt",
    "Resource",
    "Site",
    "from_csv",
    "from_json",
    "to_csv",
    "to_json",
]
