"""Nobody adds a column without deciding whether it says who somebody is."""

from __future__ import annotations

import tomllib
from pathlib import Path

from rocade.fabric.database import Database

DECIDED = Path(__file__).with_name("personal_columns.toml")
COLUMNS = """
    SELECT table_name || '.' || column_name FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name !~ '^(alembic|log_p|process_status)'
    AND data_type IN ('text', 'bytea', 'jsonb', 'json', 'ARRAY', 'double precision', 'real')
"""


async def test_every_column_is_decided_about(database: Database) -> None:
    decided: dict[str, str] = {}
    for table, kinds in tomllib.loads(DECIDED.read_text()).items():
        for kind, columns in kinds.items():
            decided.update({f"{table}.{column}": kind for column in columns.split()})
    there = {row[0] for row in await database.pool.fetch(COLUMNS)}
    new, gone = sorted(there - decided.keys()), sorted(decided.keys() - there)
    assert not new, f"seal them, or write into {DECIDED.name} that they name nobody: {new}"
    assert not gone, f"take them out of {DECIDED.name}: {gone}"
