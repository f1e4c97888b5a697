"""Nobody adds a column without deciding whether it says who somebody is, or what his car or he did."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from rocade.fabric.database import Database

DECIDED = Path(__file__).with_name("personal_columns.toml")
COLUMNS = """
    SELECT table_name, column_name, udt_name FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name !~ '^(alembic|log_p|process_status)'
"""
WHOSE = {"ref", "vehicle", "vehicle_blind", "person", "owner", "subject", "actor", "transaction"}
"""Who has such a column holds rows of a vehicle or of a person."""
NOBODYS = {
    "lease": "the owner is a process",
    "lease_member": "the owner is a process",
    "price_part": "the reference is a part's number",
}
PROTECTED = {"sealed", "blind", "emptied"}
PLAIN = {"reference", "code", "count", "key"}
MEASURED = {"float4", "float8", "numeric", "json", "jsonb", "_float4", "_float8", "_numeric", "_jsonb"}
AMOUNT = re.compile(r"_(minor|g|kg|w|kw|wh|kwh|a|v|m|km|kmh|c|s|ms|h|percent|soc|mohm)$")
"""The house has units in names: what has one is an amount."""
TOLD = {"text", "bytea", "_text", *MEASURED}

type Column = tuple[str, str, str]
"""Table, name, type."""


def faults(columns: Iterable[Column], decided: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What is not decided about, or decided as it must not be."""
    columns = list(columns)
    personal = {table for table, name, _ in columns if name in WHOSE} - NOBODYS.keys()
    kinds = {
        (table, name): kind
        for table, by_kind in decided.items() for kind, names in by_kind.items() for name in names.split()
    }  # fmt: skip
    there = {(table, name) for table, name, _ in columns}
    found = [f"{table}.{name}: is not there any more" for table, name in kinds.keys() - there]
    for table, name, form in columns:
        kind = kinds.get((table, name))
        if kind is None:
            is_plain = form in {"bool", "timestamptz"} or name.endswith("_us")
            if form in TOLD or (table in personal and not is_plain):
                found.append(f"{table}.{name}: seal it, or decide that it says nothing of anybody")
        elif table in personal and kind not in PROTECTED:
            found += [f"{table}.{name}: {why}" for why in _told(name, form, kind)]
    return sorted(found)


def _told(name: str, form: str, kind: str) -> Iterable[str]:
    """Why a column of somebody's rows must not lie in clear."""
    if kind not in PLAIN:
        yield f"rows of a vehicle or a person hold nothing that is '{kind}'"
    if form in MEASURED or AMOUNT.search(name):
        yield "what was measured or paid is sealed"
    if form == "bytea" and kind not in {"key", "count"}:
        yield "bytes that are no key are sealed"
    if name in {"body", "facts", "label", "name"} and form == "bytea":
        yield "what was written of somebody is sealed"


async def test_every_column_is_decided_about(database: Database) -> None:
    columns = [tuple(row) for row in await database.pool.fetch(COLUMNS)]
    wrong = faults(columns, tomllib.loads(DECIDED.read_text()))  # type: ignore[arg-type]
    assert not wrong, f"in {DECIDED.name}:\n" + "\n".join(wrong)


CAUGHT = {
    "battery_health.body": ("bytea", "open"),
    "battery_point.body": ("bytea", "reference"),
    "battery_segment.body": ("bytea", "code"),
    "charging_session.energy_kwh": ("float8", "open"),
    "charging_session.cost_minor": ("int8", None),
    "charging_session.co2_g": ("int8", "count"),
    "charging_session.soc_end": ("float8", "code"),
    "charging_session.station": ("text", "open"),
    "charging_grid_proof.kw": ("float8", "open"),
    "station_meter.energy_wh": ("float8", "open"),
    "station_meter.current_a": ("_float4", "count"),
    "station_meter.other": ("jsonb", "code"),
    "station_transaction.last_soc": ("float4", "open"),
    "station_transaction.ended_wh": ("float8", "reference"),
}
"""Columns that once lay in clear, as they were decided about, or as somebody in a hurry would."""
OWNED = {"battery": "ref", "charging": "ref", "station": "vehicle"}


@pytest.mark.parametrize("column", CAUGHT)
def test_what_vehicles_told_in_clear_would_have_been_refused(column: str) -> None:
    (table, _, name), (form, kind) = column.partition("."), CAUGHT[column]
    whose = "transaction" if table == "station_meter" else OWNED[table.partition("_")[0]]
    columns = [(table, whose, "int8"), (table, name, form), (table, "began_us", "int8"), (table, "is_settled", "bool")]
    sealed = {table: {"reference": whose, "sealed": name}}
    assert faults(columns, sealed) == []
    clear = {
        table: {"reference": whose, kind: name} if kind and kind != "reference" else {"reference": f"{whose} {name}"}
    }
    assert faults(columns, clear if kind else {table: {"reference": whose}})
