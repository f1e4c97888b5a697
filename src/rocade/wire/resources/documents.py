"""The documents that describe the formats to other people's tools, made from the schema and never by hand.

`json_schemas` are OpenAPI 3.1 components (JSON Schema 2020-12), `asyncapi` the stream (AsyncAPI 3.0), `xsd` the XML, `wsdl` the
five SOAP operations with a port for SOAP 1.1 and one for 1.2, document/literal, one element a message part.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from lxml import etree

from rocade.wire.resources.model import NAMESPACE
from rocade.wire.resources.operations import OPERATIONS
from rocade.wire.resources.schema import RESOURCES, Field, Resource
from rocade.wire.strict_xml import Element

XS = "http://www.w3.org/2001/XMLSchema"
WSDL = "http://schemas.xmlsoap.org/wsdl/"
BINDINGS = {
    "Soap11": "http://schemas.xmlsoap.org/wsdl/soap/",
    "Soap12": "http://schemas.xmlsoap.org/wsdl/soap12/",
}
_HTTP = "http://schemas.xmlsoap.org/soap/http"
_XS_TYPES = {
    "text": "xs:string",
    "integer": "xs:long",
    "number": "xs:double",
    "instant": "xs:dateTime",
    "bytes": "xs:base64Binary",
}


def json_schemas(ref_template: str = "#/components/schemas/{name}") -> dict[str, Any]:
    """The resources as JSON Schemas by name."""
    structs = [resource.struct for resource in RESOURCES.values()]
    _, components = msgspec.json.schema_components(structs, ref_template=ref_template)
    schemas: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(components))
    _speak_ecma(schemas)
    for resource in RESOURCES.values():
        one = schemas[resource.struct.__name__]
        one["required"] = [field.name for field in resource.fields if field.is_required]
    return schemas


def _speak_ecma(value: Any) -> None:
    """Patterns as ECMA writes them, where the end of a text is `$`."""
    if isinstance(value, dict):
        if isinstance(value.get("pattern"), str):
            value["pattern"] = value["pattern"].replace(r"\Z", "$")
        for one in value.values():
            _speak_ecma(one)
    elif isinstance(value, list):
        for one in value:
            _speak_ecma(one)


def openapi(version: str) -> dict[str, Any]:
    """The components alone; the paths stand in the API's own document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Rocade: resources of the dealer exchange", "version": version},
        "paths": {},
        "components": {"schemas": json_schemas()},
    }


def asyncapi(version: str, host: str) -> dict[str, Any]:
    """The stream of a point of sale or partner: server-sent events, or the same by long poll."""
    channels = {
        "messages": ("/v1/exchange/stream", ("message", "receipt")),
        "prices": ("/v1/price-lists/{list}/stream", ("price-change",)),
    }
    components: dict[str, Any] = {
        name: {
            "name": name,
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{resource.struct.__name__}"},
        }
        for name, resource in RESOURCES.items()
    }
    made: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for name, (address, carried) in channels.items():
        made[name] = {
            "address": address,
            "messages": {one: {"$ref": f"#/components/messages/{one}"} for one in carried},
            "bindings": {"http": {}},
        }
        if "{list}" in address:
            made[name]["parameters"] = {"list": {"description": "the price list"}}
        operations[f"receive-{name}"] = {"action": "receive", "channel": {"$ref": f"#/channels/{name}"}}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Rocade: streams of the dealer exchange", "version": version},
        "servers": {
            "hub": {"host": host, "protocol": "https", "security": [{"$ref": "#/components/securitySchemes/mtls"}]}
        },
        "channels": made,
        "operations": operations,
        "components": {
            "messages": components,
            "schemas": json_schemas(),
            "securitySchemes": {"mtls": {"type": "X509"}},
        },
    }


def xsd() -> bytes:
    return _written(_schema())


def wsdl(address: str) -> bytes:
    """`address` is where both ports listen."""
    nsmap = {"wsdl": WSDL, "xs": XS, "r": NAMESPACE, "s11": BINDINGS["Soap11"], "s12": BINDINGS["Soap12"]}
    root = etree.Element(f"{{{WSDL}}}definitions", nsmap=nsmap, name="Exchange", targetNamespace=NAMESPACE)
    _sub(root, "types").append(_schema())
    for operation in OPERATIONS.values():
        for name in (operation.name, operation.name + "Response"):
            _sub(_sub(root, "message", name=name), "part", name="parameters", element=f"r:{name}")
    port_type = _sub(root, "portType", name="Exchange")
    for operation in OPERATIONS.values():
        one = _sub(port_type, "operation", name=operation.name)
        _sub(one, "documentation").text = " ".join((operation.asks.struct.__doc__ or "").split())
        _sub(one, "input", message=f"r:{operation.name}")
        _sub(one, "output", message=f"r:{operation.name}Response")
    for name, soap in BINDINGS.items():
        binding = _sub(root, "binding", name=name, type="r:Exchange")
        etree.SubElement(binding, f"{{{soap}}}binding", style="document", transport=_HTTP)
        for operation in OPERATIONS.values():
            one = _sub(binding, "operation", name=operation.name)
            etree.SubElement(one, f"{{{soap}}}operation", soapAction=f"{NAMESPACE}/{operation.name}", style="document")
            for direction in ("input", "output"):
                etree.SubElement(_sub(one, direction), f"{{{soap}}}body", use="literal")
    service = _sub(root, "service", name="Exchange")
    for name, soap in BINDINGS.items():
        port = _sub(service, "port", name=name, binding=f"r:{name}")
        etree.SubElement(port, f"{{{soap}}}address", location=address)
    return _written(root)


def _sub(parent: Element, tag: str, /, **attributes: str) -> Element:
    return etree.SubElement(parent, f"{{{WSDL}}}{tag}", attributes)


def _xs(parent: Element, tag: str, /, **attributes: str) -> Element:
    return etree.SubElement(parent, f"{{{XS}}}{tag}", attributes)


def _schema() -> Element:
    root = etree.Element(
        f"{{{XS}}}schema", nsmap={"xs": XS, "r": NAMESPACE}, targetNamespace=NAMESPACE, elementFormDefault="qualified"
    )
    for resource in RESOURCES.values():
        sequence = _sequence(_xs(root, "complexType", name=resource.xml), resource)
        for field in resource.fields:
            _element(sequence, field)
        _xs(root, "element", name=resource.xml, type=f"r:{resource.xml}")
        many = _xs(_xs(_xs(root, "element", name=resource.xml_many), "complexType"), "sequence")
        _xs(many, "element", ref=f"r:{resource.xml}", minOccurs="0", maxOccurs="unbounded")
    for operation in OPERATIONS.values():
        sequence = _sequence(_xs(_xs(root, "element", name=operation.name), "complexType"), operation.asks)
        for field in operation.asks.fields:
            _element(sequence, field)
        answer = _xs(_xs(_xs(root, "element", name=operation.name + "Response"), "complexType"), "sequence")
        bounds = {"minOccurs": "0", "maxOccurs": "unbounded"} if operation.is_many else {}
        _xs(answer, "element", ref=f"r:{operation.gives.xml}", **bounds)
        if operation.is_many:
            _xs(answer, "element", name="NextCursor", type="xs:string", minOccurs="0")
    problem = _xs(_xs(_xs(root, "element", name="Problem"), "complexType"), "sequence")
    for name in ("Code", "Detail", "RequestID"):
        _xs(problem, "element", name=name, type="xs:string")
    return root


def _sequence(parent: Element, resource: Resource) -> Element:
    note = _xs(_xs(parent, "annotation"), "documentation")
    note.text = re.sub(r"\s+", " ", resource.struct.__doc__ or "")
    return _xs(parent, "sequence")


def _element(sequence: Element, field: Field) -> None:
    least = {} if field.is_required and not field.is_list else {"minOccurs": "0"}
    most = {"maxOccurs": "unbounded"} if field.is_list else {}
    if not field.choices and field.longest is None:
        _xs(sequence, "element", name=field.xml, type=_XS_TYPES[field.kind], **least, **most)
        return
    element = _xs(sequence, "element", name=field.xml, **least, **most)
    limits = _xs(_xs(element, "simpleType"), "restriction", base=_XS_TYPES[field.kind])
    for choice in field.choices:
        _xs(limits, "enumeration", value=choice)
    if field.longest is not None:
        _xs(limits, "maxLength", value=str(field.longest))


def _written(root: Element) -> bytes:
    content: bytes = etree.tostring(root, encoding="UTF-8", xml_declaration=True, pretty_print=True)
    return content
