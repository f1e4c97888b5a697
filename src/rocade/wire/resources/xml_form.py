"""Resources as XML with the field names of the STAR standard, one element a resource, read by the strictest rules.

Elements stand in the order of the schema; an absent optional value is an absent element; a list is its element repeated.
Anything else in the document (attributes, other elements, other namespaces, text between elements) is refused, not skipped.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lxml import etree

from rocade.core.errors import Refused
from rocade.wire.resources.model import NAMESPACE
from rocade.wire.resources.schema import Resource
from rocade.wire.strict_xml import FILE, Element, parse


def to_xml(rows: Iterable[Any], resource: Resource) -> bytes:
    """A whole document."""
    root = etree.Element(f"{{{NAMESPACE}}}{resource.xml_many}", nsmap={None: NAMESPACE})
    for row in rows:
        append(root, row, resource)
    content: bytes = etree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return content


def append(parent: Element, row: Any, resource: Resource) -> Element:
    """One resource as the last child of `parent`."""
    element = etree.SubElement(parent, f"{{{NAMESPACE}}}{resource.xml}")
    for field in resource.fields:
        value = getattr(row, field.name)
        for one in value if field.is_list else () if value is None else (value,):
            etree.SubElement(element, f"{{{NAMESPACE}}}{field.xml}").text = field.to_text(one)
    return element


def from_xml(content: bytes, resource: Resource) -> list[Any]:
    """Raises: Refused `xml.*`, `formats.xml`, `formats.value`, `formats.field.missing`."""
    root = parse(content, limits=FILE)
    if root.tag != f"{{{NAMESPACE}}}{resource.xml_many}" or root.attrib:
        raise Refused("formats.xml", f"the document's element must be {resource.xml_many} of {NAMESPACE}")
    if _stray(root.text) or any(_stray(child.tail) for child in root):
        raise Refused("formats.xml", "there is text between the elements")
    return [read(child, resource) for child in root]


def read(element: Element, resource: Resource) -> Any:
    """One resource from its element. Raises: as `from_xml`."""
    line = element.sourceline or 0
    if element.tag != f"{{{NAMESPACE}}}{resource.xml}":
        raise Refused("formats.xml", f"line {line}: {resource.xml} was expected")
    values: dict[str, Any] = {field.name: [] for field in resource.fields if field.is_list}
    waiting = list(resource.fields)
    if element.attrib or _stray(element.text):
        raise Refused("formats.xml", f"line {line}: attributes and loose text have no place here")
    for child in element:
        while waiting and child.tag != f"{{{NAMESPACE}}}{waiting[0].xml}":
            waiting.pop(0)
        if not waiting or len(child) or child.attrib or _stray(child.tail):
            raise Refused(
                "formats.xml", f"line {child.sourceline or 0}: an element is unknown, twice, or not in its place"
            )
        field = waiting[0]
        value = field.of_text(child.text or "")
        if field.is_list:
            values[field.name].append(value)
        else:
            values[field.name] = value
            waiting.pop(0)
    return resource.make(values)


def _stray(text: str | None) -> bool:
    return bool(text and text.strip())
