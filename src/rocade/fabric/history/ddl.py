"""Statements for a `Table`: one definition rendered for a single node (MergeTree) or a cluster.

On a cluster `<name>_local` is a ReplicatedMergeTree on every node and `<name>` a Distributed table over it, sharded by
`shard_by`. Each table's comment holds its definition, so that a later start can compare exactly.
Every insert and every merge is fsynced, and the last `TOKENS` insert tokens are remembered to drop repeats.
"""

from __future__ import annotations

import msgspec

from rocade.core.errors import Misconfigured
from rocade.fabric.history import Table

TOKENS = 10_000
_ALWAYS = {
    "fsync_after_insert": 1,
    "fsync_part_directory": 1,
    "min_rows_to_fsync_after_merge": 1,
    "min_compressed_bytes_to_fsync_after_merge": 1,
    "cleanup_delay_period_random_add": 0,
}
"""Merged parts too: the parts they replace leave the disk soon, sooner than the system would write the new one by itself.
Soon: the engine would add up to ten seconds by chance, and who erases waits until replaced parts are gone."""


class Definition(msgspec.Struct, frozen=True):
    """What must not change under stored data."""

    columns: tuple[tuple[str, str], ...]
    order_by: tuple[str, ...]
    partition_by: str


def definition_of(table: Table) -> str:
    return msgspec.json.encode(Definition(table.columns, table.order_by, table.partition_by)).decode()


def create(table: Table, cluster: str | None = None) -> list[str]:
    """The CREATE statements, in order."""
    if cluster is None:
        window = {"non_replicated_deduplication_window": TOKENS}
        return [_merge_tree(table, table.name, "", "MergeTree", window)]
    window = {"replicated_deduplication_window": TOKENS, "replicated_deduplication_window_seconds": 30 * 86_400}
    on = on_cluster(cluster)
    path = f"ReplicatedMergeTree('/clickhouse/tables/{{shard}}/{{database}}/{table.name}_local', '{{replica}}')"
    distributed = (
        f"CREATE TABLE IF NOT EXISTS {quote_name(table.name)}{on} AS {quote_name(table.name + '_local')} "
        f"ENGINE = Distributed({quote_text(cluster)}, currentDatabase(), {quote_text(table.name + '_local')}, "
        f"sipHash64({table.shard_by or table.order_by[0]})) COMMENT {quote_text(definition_of(table))}"
    )
    return [_merge_tree(table, table.name + "_local", on, path, window), distributed]


def alter(table: Table, stored: str, cluster: str | None = None) -> list[str]:
    """The statements that bring a stored table to this definition: new columns at the end only.

    Raises: Misconfigured `history.table.differs`.
    """
    if stored == definition_of(table):
        return []
    try:
        old = msgspec.json.decode(stored, type=Definition)
    except msgspec.DecodeError:
        old = None
    grown = old is not None and table.columns[: len(old.columns)] == old.columns
    if old is None or not grown or old.order_by != table.order_by or old.partition_by != table.partition_by:
        raise Misconfigured(
            "history.table.differs",
            f"history table {table.name} exists with another definition; export it and give this version a fresh table",
        )
    names = [table.name] if cluster is None else [table.name + "_local", table.name]
    on = on_cluster(cluster)
    added = ", ".join(
        f"ADD COLUMN IF NOT EXISTS {quote_name(n)} {kind}" for n, kind in table.columns[len(old.columns) :]
    )
    comment = f"MODIFY COMMENT {quote_text(definition_of(table))}"
    return [f"ALTER TABLE {quote_name(name)}{on} {part}" for name in names for part in (added, comment)]


def _merge_tree(table: Table, name: str, on: str, engine: str, window: dict[str, int]) -> str:
    columns = ", ".join(f"{quote_name(column)} {kind}" for column, kind in table.columns)
    settings = ", ".join(f"{key} = {_value(value)}" for key, value in {**_ALWAYS, **window, **table.settings}.items())
    return (
        f"CREATE TABLE IF NOT EXISTS {quote_name(name)}{on} ({columns}) ENGINE = {engine} "
        f"PARTITION BY {table.partition_by} ORDER BY ({', '.join(table.order_by)}) "
        f"SETTINGS {settings} COMMENT {quote_text(definition_of(table))}"
    )


def on_cluster(cluster: str | None) -> str:
    return "" if cluster is None else f" ON CLUSTER {quote_name(cluster)}"


def quote_name(name: str) -> str:
    if not name.isidentifier():
        raise Misconfigured("history.name", "names in the history store must be identifiers")
    return f"`{name}`"


def quote_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _value(value: str | int) -> str:
    return str(value) if isinstance(value, int) else quote_text(value)
