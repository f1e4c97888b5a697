"""Statements for one node and for a cluster, from the same definition; the engine itself parses both."""

from __future__ import annotations

import pytest

from rocade.core.errors import Misconfigured
from rocade.fabric.history import History, Table, ddl
from rocade.services.telemetry import chunks


def test_a_cluster_gets_a_replicated_table_and_a_distributed_one_over_it() -> None:
    local, distributed = ddl.create(chunks.TABLE, cluster="eu")
    assert "CREATE TABLE IF NOT EXISTS `signal_chunk_local` ON CLUSTER `eu` (" in local
    assert (
        "ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/signal_chunk_local', '{replica}')" in local
    )
    assert "ORDER BY (signal, vehicle, t0_us)" in local
    assert "fsync_after_insert = 1, fsync_part_directory = 1" in local
    assert "replicated_deduplication_window = 10000" in local
    assert "ENGINE = Distributed('eu', currentDatabase(), 'signal_chunk_local', sipHash64(vehicle))" in distributed


def test_one_node_gets_a_merge_tree_that_remembers_tokens_and_syncs_inserts_and_merges() -> None:
    (statement,) = ddl.create(chunks.TABLE)
    assert "ENGINE = MergeTree PARTITION BY" in statement
    for setting in ("fsync_after_insert", "fsync_part_directory", "min_rows_to_fsync_after_merge"):
        assert f"{setting} = 1" in statement
    assert "non_replicated_deduplication_window = 10000" in statement


@pytest.mark.parametrize("cluster", [None, "eu"])
async def test_the_engine_parses_every_statement(history: History, cluster: str | None, table: Table) -> None:
    grown = Table(table.name, (*table.columns, ("note", "String")), table.order_by, table.partition_by)
    statements = ddl.create(chunks.TABLE, cluster) + ddl.alter(grown, ddl.definition_of(table), cluster)
    assert len(statements) > 2
    for statement in statements:
        parsed = await history.query("SELECT formatQuerySingleLine({text:String}) AS text", {"text": statement})
        assert parsed.column("text")[0].as_py().split()[:2] == statement.split()[:2]


@pytest.mark.parametrize("name", ["a b", "a;DROP", "", "1a", "a`b"])
def test_a_name_that_is_no_identifier_is_refused(name: str) -> None:
    with pytest.raises(Misconfigured):
        ddl.quote_name(name)


def test_texts_are_quoted() -> None:
    assert ddl.quote_text("it's \\ here") == "'it\\'s \\\\ here'"
