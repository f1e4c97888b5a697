"""Proofs made from kept nodes are those of RFC 6962, whatever the size of the log; an independent implementation says so."""

from __future__ import annotations

from importlib import import_module

import pymerkle
import pytest
import sqlalchemy
from alembic.migration import MigrationContext
from alembic.operations import Operations
from tests.trust.authority.proofs.conftest import Publisher, entry

from rocade.core.errors import Corrupt, Refused
from rocade.fabric.database import Database
from rocade.fabric.database.migration import make_engine
from rocade.trust.authority import audit, merkle, nodes
from rocade.trust.identity import proof, trees


async def mirror(database: Database) -> pymerkle.InmemoryTree:
    """pymerkle's tree of the same entries."""
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    for row in await database.pool.fetch("SELECT body FROM audit_entry ORDER BY position"):
        tree.append_entry(row["body"])
    return tree


async def check(database: Database, tree: pymerkle.InmemoryTree, size: int, positions: list[int]) -> None:
    """Paths to these entries, and from the trees that end with them, under the first `size` entries."""
    async with database.pool.acquire() as connection:
        for position in positions:
            found = await nodes.Nodes.load(connection, size, position)
            leaf, path = found.leaf(position), found.path(position)
            theirs = [one for one in tree.prove_inclusion(position + 1, size).path if one != leaf]
            assert sorted(theirs) == sorted(path[at : at + 32] for at in range(0, len(path), 32))
            assert trees.root_of(leaf, position, size, path) == tree.get_root(size)
            old = position + 1
            roots = trees.roots_of(old, tree.get_root(old), size, found.extension(old))
            assert roots == (tree.get_root(old), tree.get_root(size))


async def test_paths_are_those_of_pymerkle_at_every_edge_of_a_group(published: Publisher) -> None:
    await published.write([entry(number) for number in range(1_030)])
    tree = await mirror(published.database)
    for size in (1, 2, 255, 256, 257, 300, 511, 512, 513, 1_023, 1_024, 1_030):
        positions = sorted({0, 1, size // 3, size // 2, 254, 255, 256, 257, 511, 512, size - 2, size - 1})
        await check(published.database, tree, size, [at for at in positions if 0 <= at < size])


async def test_paths_reach_over_groups_of_groups_of_groups(
    published: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups of 4 instead of 256, so that four hundred entries are five levels high; written in pieces that end anywhere."""
    for module in (merkle, nodes, audit):
        for name, value in (("GROUP", 4), ("GROUP_BITS", 2)):
            monkeypatch.setattr(module, name, value, raising=False)
    for begin, end in ((0, 3), (3, 4), (4, 17), (17, 200), (200, 410)):
        await published.write([entry(number) for number in range(begin, end)])
    assert await published.database.pool.fetchval("SELECT max(level) FROM audit_node") == 4
    tree = await mirror(published.database)
    for size in (*range(1, 24), 63, 64, 65, 255, 256, 257, 300, 409, 410):
        await check(published.database, tree, size, sorted({0, size // 3, size // 2, size - 1}))


async def test_a_log_that_was_there_before_nodes_were_kept_gets_them_at_the_first_start(
    published: Publisher, database_url: str
) -> None:
    await started_anew(published, database_url, 1_000)


@pytest.mark.slow
async def test_paths_reach_over_65536_entries_and_an_old_log_of_as_many_gets_its_nodes(
    published: Publisher, database_url: str
) -> None:
    for begin, end in ((0, 100), (100, 65_000), (65_000, 65_700)):
        await published.write([entry(number) for number in range(begin, end)])
    await started_anew(published, database_url, 66_000)
    tree = await mirror(published.database)
    for size in (65_536, 65_537, 66_000):
        await check(published.database, tree, size, [0, 256, 40_000, 65_279, 65_535, size - 1])


async def started_anew(published: Publisher, url: str, size: int) -> None:
    """Fill the log up, take away what this version adds, and start it on that."""
    database = published.database
    written = await database.pool.fetchval("SELECT size FROM audit_tree")
    await published.write([entry(number) for number in range(written, size)])
    kept = await database.pool.fetch("SELECT * FROM audit_node ORDER BY level, number")
    assert len(kept) == size // 256 + size // 65_536
    await database.pool.execute("DELETE FROM audit_node WHERE level = 1 AND number = 1")
    with pytest.raises(Corrupt, match=r"audit\.nodes"):
        await published.proofs.entry(4)
    for table in ("audit_node", "audit_cosignature"):
        await database.pool.execute(f"DROP TABLE {table}")
    await migrate_again(url)
    assert await database.pool.fetch("SELECT * FROM audit_node ORDER BY level, number") == kept
    assert proof.verify(await published.proofs.entry(size // 2), published.root)


async def migrate_again(url: str) -> None:
    def upgrade(connection: sqlalchemy.Connection) -> None:
        with Operations.context(MigrationContext.configure(connection)):
            import_module("rocade.trust.authority.migrations.0006_proofs").upgrade()

    engine = make_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(upgrade)
    await engine.dispose()


async def test_what_is_not_under_a_signed_head_is_not_proven(published: Publisher) -> None:
    for asked in (published.proofs.head(), published.proofs.entry(0), published.proofs.tile(0, 0)):
        with pytest.raises(Refused):
            await asked
    await published.write([entry(number) for number in range(5)])
    for code, asked in (
        ("audit.entry.unknown", published.proofs.entry(5)),
        ("audit.entry.unknown", published.proofs.entry(-1)),
        ("audit.entry.unknown", published.proofs.inclusion(5, 5)),
        ("audit.head.unknown", published.proofs.inclusion(0, 4)),
        ("audit.head.unknown", published.proofs.consistency(0)),
        ("audit.head.unknown", published.proofs.consistency(6)),
        ("audit.tile.unknown", published.proofs.tile(0, 1)),
        ("audit.tile.unknown", published.proofs.tile(1, 0)),
        ("audit.tile.unknown", published.proofs.tile(9, 0)),
        ("audit.tile.unknown", published.proofs.tile(-1, -1)),
    ):
        with pytest.raises(Refused) as caught:
            await asked
        assert caught.value.code == code
