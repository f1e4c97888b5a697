"""A bit that turns in a price file on the hub's disk is refused, or nothing is read but what was written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from tests.services.prices.conftest import LIST, NOW_US, publish
from tests.services.prices.test_releasing import FIRST, changed

from rocade.core.errors import Corrupt
from rocade.services.prices import Lists
from rocade.services.prices.state import State

BITS = 1_500


def turned(file: Path, seed: int) -> Iterator[int]:
    """Every bit of a file turned, one after the other; of a long one as many as a test has time for."""
    content = file.read_bytes()
    for bit in Random(seed).sample(range(len(content) * 8), min(BITS, len(content) * 8)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        yield bit
    file.write_bytes(content)


async def test_a_draft_with_a_turned_bit_is_never_released(lists: Lists, tmp_path: Path) -> None:
    await publish(lists, tmp_path / "f", FIRST)
    (tmp_path / "f").write_text(changed(r1="11.50", r2=""))
    draft = await lists.draft(LIST, tmp_path / "f", NOW_US, "person:1")
    about = await lists.find(LIST)
    good = repr(await lists._delta(draft, about))
    for _ in turned(lists.draft_path(draft.id), 1):
        with pytest.raises(Corrupt, match=r"prices\.draft\.corrupt"):
            await lists._delta(draft, about)
    assert repr(await lists._delta(draft, about)) == good
    assert (await lists.release(LIST, draft.id, "person:1")).seq == 2


async def test_kept_columns_with_a_turned_bit_are_as_written_or_passed_over(lists: Lists, tmp_path: Path) -> None:
    await publish(lists, tmp_path / "f", FIRST)
    file = tmp_path / "prices" / "states" / f"{LIST}.npz"
    good, passed_over = State.load(file, LIST), 0
    assert good is not None
    for bit in turned(file, 2):
        state = State.load(file, LIST)
        passed_over += state is None
        if state is not None:
            assert state.tree.root == good.tree.root, bit
            assert repr((state.releases, state.since(0))) == repr((good.releases, good.since(0))), bit
    assert passed_over > BITS / 2
