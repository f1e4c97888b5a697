"""Leaves in columns are the leaves of the rule, and a tree updated is the tree built anew."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocade.core.prices import WITHDRAWN, Change, Description, Entry, leaf_of
from rocade.trust.identity.trees import path_of, root_of
from rocade.wire.prices import Delta, Descriptions, Entries, Part, Priced, Release, Tree, changed_leaves

CURRENCIES = ("EUR", "CHF", "EUR")
RELEASES = tuple(Release(seq, seq * 100, currency) for seq, currency in enumerate(CURRENCIES, 1))


@settings(max_examples=150, deadline=None)
@given(
    st.sets(st.tuples(st.integers(0, 5), st.integers(1, 3)), max_size=8),
    st.sets(st.tuples(st.integers(0, 5), st.integers(1, 3), st.integers(0, 3)), max_size=14),
    st.integers(0, 3),
)
def test_leaves_of_many_are_the_leaves_of_each(
    described: set[tuple[int, int]], priced: set[tuple[int, int, int]], split: int
) -> None:
    described = described | {(index, 1) for index in range(6)}  # every part appears in number 1
    parts = [Part(index, seq, f"R{index}", "é", f"label {seq}") for index, seq in described]
    prices = [Priced(index, seq, start, None if start == 3 else 10 * index + seq) for index, seq, start in priced]

    def delta(low: int, high: int) -> Delta:
        texts = Descriptions.of(part for part in parts if low < part.seq <= high)
        return Delta("l", low, high, RELEASES[low:high], texts, Entries.of(p for p in prices if low < p.seq <= high))

    expected = []
    for index in range(6):
        changes = []
        for seq in (1, 2, 3):
            entries = sorted((p.valid_from_us, p.price_minor) for p in prices if (p.index, p.seq) == (index, seq))
            text = next((p for p in parts if (p.index, p.seq) == (index, seq)), None)
            if entries or text:
                rows = tuple(Entry(start, WITHDRAWN if price is None else price) for start, price in entries)
                description = text and Description(text.ref, text.family, text.label, text.superseded_by)
                changes.append(Change(seq, CURRENCIES[seq - 1], rows, description))
        expected.append(leaf_of(changes))

    tree = Tree()
    for low, high in ((0, split), (split, 3)):
        if low < high:
            tree.update(*changed_leaves(delta(low, high), tree.leaves))
    assert [row.tobytes() for row in tree.leaves] == expected


def leaves(count: int, salt: int = 0) -> np.ndarray:
    return np.frombuffer(b"".join(sha256(b"%d %d" % (at, salt)).digest() for at in range(count)), np.uint8).reshape(
        -1, 32
    )


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 128, 4095, 4096, 4097, 5000])
def test_a_tree_that_grew_and_changed_is_the_tree_built_anew(count: int) -> None:
    rng = np.random.default_rng(count)
    final, tree = leaves(count), Tree()
    for at in np.array_split(np.arange(count), 5):
        tree.update(at, leaves(count, 1)[at])
    for chosen in np.array_split(rng.permutation(count), 7):
        tree.update(np.sort(chosen), final[np.sort(chosen)])
    assert tree.root == Tree(final).root
    assert tree.root == (root_of_all(final) if count else sha256().digest())
    other = tree.copy()
    if count:
        other.update(np.array([0]), leaves(1, 9))
        assert other.root != tree.root == Tree(final).root


def root_of_all(rows: np.ndarray) -> bytes:
    """The definition, level by level."""
    level = [row.tobytes() for row in rows]
    while len(level) > 1:
        groups = [level[at : at + 64] for at in range(0, len(level), 64)]
        level = [one[0] if len(one) == 1 else sha256(b"\x01" + b"".join(one)).digest() for one in groups]
    return level[0]


@pytest.mark.parametrize("count", [1, 2, 64, 65, 4097, 4161])
def test_every_path_leads_to_the_root(count: int) -> None:
    rows = leaves(count)
    tree, given_rows = Tree(rows), [row.tobytes() for row in rows]
    for index in {0, 1 % count, count // 2, count - 1}:
        path = b"".join(one for level in tree.path(index) for one in level)
        assert path == path_of(given_rows, index, 64)
        assert root_of(given_rows[index], index, count, path, 64) == tree.root
