"""docs/formats.md: its tables are those of the code, its programs run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from lxml import etree
from soap_stand import Stand

from rocade.doors.webhooks.posting import TIMEOUT_S
from rocade.services.exchange.webhooks.service import EVENTS, RETRY_S
from rocade.wire.resources import RESOURCES, documents
from rocade.wire.resources.operations import OPERATIONS
from rocade.wire.resources.xml_form import to_xml

PAGE = (Path(__file__).resolve().parents[3] / "docs/formats.md").read_text("utf-8")


@pytest.mark.parametrize("name", RESOURCES)
def test_every_field_of_a_resource_stands_there(name: str) -> None:
    resource = RESOURCES[name]
    (row,) = re.findall(rf"^\| {name}, `{resource.xml}` \| (.+) \|$", PAGE, re.MULTILINE)
    assert row == ", ".join(f"{field.name} = {field.xml}" for field in resource.fields)


def test_what_it_says_of_webhooks_and_operations_is_so() -> None:
    units = {"s": 1, "min": 60, "h": 3600}
    said = re.search(r"tried again after ([^,]+(?:, [^,]+)* and \d+ \w+), then", PAGE.replace("\n", " "))
    assert said
    assert [int(n) * units[u] for n, u in re.findall(r"(\d+) (s|min|h)\b", said[1])] == list(RETRY_S)
    assert f"within {TIMEOUT_S:.0f} seconds" in PAGE
    assert all(f'"{event}"' in PAGE for event in EVENTS)
    assert all(name in PAGE for name in OPERATIONS)


def test_its_programs_run(stand: Stand) -> None:
    """Both blocks one after the other, as somebody would paste them."""
    program = "\n".join(re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL))
    environment = {**os.environ, "HUB": stand.address, "SITE": str(stand.site)}
    environment = {name: value for name, value in environment.items() if "proxy" not in name.lower()}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1999", "1999"]


@pytest.mark.parametrize("name", RESOURCES)
def test_what_we_write_is_valid_by_our_own_schema(name: str) -> None:
    resource = RESOURCES[name]
    values = {
        field.name: field.choices[-1]
        if field.choices
        else WRITTEN.get(field.name, {"instant": 1, "integer": 1}.get(field.kind, "a1"))
        for field in resource.fields
        if not field.is_list
    }
    schema = etree.XMLSchema(etree.fromstring(documents.xsd()))
    for whole in (values, {name: values[name] for name in values if _is_required(resource, name)}):
        schema.assertValid(etree.fromstring(to_xml([msgspec.convert(whole, resource.struct)], resource)))
    assert not schema.validate(etree.fromstring(to_xml([], resource).replace(b"List", b"Lost")))


WRITTEN = {
    "country": "FR", "currency": "EUR", "latitude": 1.5, "longitude": -2.5, "message_sha256": "0" * 64, "body": "aGVsbG8=",
}  # fmt: skip


def _is_required(resource: object, name: str) -> bool:
    return next(field for field in resource.fields if field.name == name).is_required  # type: ignore[attr-defined]


def test_the_json_schemas_are_what_the_structs_are() -> None:
    schemas = documents.json_schemas()
    for resource in RESOURCES.values():
        one = schemas[resource.struct.__name__]
        assert set(one["properties"]) == {field.name for field in resource.fields}
        assert set(one["required"]) == {field.name for field in resource.fields if field.is_required}
    assert "\\\\Z" not in str(schemas)
    made = documents.asyncapi("0", "hub")
    assert {
        message["payload"]["$ref"].rpartition("/")[2] for message in made["components"]["messages"].values()
    } == set(schemas)
