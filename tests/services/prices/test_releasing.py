"""Drafts and releases: what would change is told first, what is released is whole, and nothing is ever overwritten."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from tests.notebook import Notebook
from tests.services.prices.conftest import DAY_US, LIST, NOW_US, SetClock, publish

from rocade.core.errors import Corrupt, Refused, Unavailable
from rocade.core.prices import WITHDRAWN
from rocade.fabric.database import Database
from rocade.services.prices import Lists
from rocade.services.prices.epochs import payload_of
from rocade.services.prices.state import State

FIRST = "ref;price;label\n" + "".join(f"77{at:04d};{10 + at}.00;Part {at}\n" for at in range(40))


def changed(**prices: str) -> str:
    """FIRST with other prices; `r5="12.00"` for the part 5, None-like '' takes the line out."""
    lines = FIRST.splitlines()
    for name, price in prices.items():
        at = int(name[1:])
        lines[at + 1] = f"77{at:04d};{price};Part {at}" if price else ""
    return "\n".join(lines) + "\n"


async def test_a_dry_run_tells_what_would_change_and_changes_nothing(lists: Lists, tmp_path: Path) -> None:
    await publish(lists, tmp_path / "f", FIRST)
    text = changed(r1="11.50", r2="") + "880001;5.00;New\n"
    (tmp_path / "f").write_text(text.replace("Part 3\n", "Bolt\n"))
    draft = await lists.draft(LIST, tmp_path / "f", NOW_US + DAY_US, "person:1")
    report = draft.report
    assert (report.new, report.changed, report.withdrawn, report.described, report.same) == (1, 1, 1, 1, 38)
    assert report.examples["withdrawn"] == ("770002",)
    assert report.rises[0].ref == "770001"
    assert report.needs == ()
    assert (await lists.find(LIST)).seq == 1


@pytest.mark.parametrize(
    ("text", "needs", "kinds"),
    [
        (changed(r5="1500.00"), {"factors"}, {"100 times as much"}),
        (changed(r5="0.15"), {"factors"}, {"a hundredth"}),
        (changed(r5="150"), {"factors"}, {"10 times as much"}),
        (changed(r5="0"), {"zero"}, {"zero"}),
        (changed(**{f"r{at}": "" for at in range(11)}), {"withdrawals"}, set()),
        (changed(r5="15.20"), set(), set()),
    ],
)
async def test_what_looks_like_a_mistake_must_be_accepted_by_name(
    lists: Lists, tmp_path: Path, text: str, needs: set[str], kinds: set[str], audit: Notebook
) -> None:
    await publish(lists, tmp_path / "f", FIRST)
    (tmp_path / "f").write_text(text)
    draft = await lists.draft(LIST, tmp_path / "f", NOW_US + DAY_US, "person:1")
    assert {*draft.report.needs} == needs
    assert {one.kind for one in draft.report.suspicions} == kinds
    if needs:
        with pytest.raises(Refused) as refused:
            await lists.release(LIST, draft.id, "person:1")
        assert refused.value.code == "prices.draft.unaccepted"
        assert audit.refusals == ["prices.draft.unaccepted"]
    assert (await lists.release(LIST, draft.id, "person:1", needs)).seq == 2


async def test_a_draft_with_a_wrong_line_is_kept_for_its_report_and_never_released(
    lists: Lists, tmp_path: Path
) -> None:
    (tmp_path / "f").write_text(FIRST + "770001;5.00;Twice\n")
    draft = await lists.draft(LIST, tmp_path / "f", NOW_US, "person:1")
    assert draft.report.problems[0].line == 42
    assert (await lists.drafts(LIST))[0].id == draft.id
    with pytest.raises(Refused, match=r"prices\.draft\.invalid"):
        await lists.release(LIST, draft.id, "person:1", ("past",))


async def test_parts_that_supersede_each_other_in_a_circle_are_refused(lists: Lists, tmp_path: Path) -> None:
    await publish(lists, tmp_path / "f", "ref;price;superseded_by\nA;1;B\nB;2;C\nC;3;\n")
    (tmp_path / "f").write_text("ref;price;superseded_by\nC;3;A\n")
    draft = await lists.draft(LIST, tmp_path / "f", NOW_US, "person:1", mode="changes")
    assert "circle" in draft.report.problems[0].what


async def test_only_changes_leave_the_rest_of_the_list_alone(lists: Lists, tmp_path: Path) -> None:
    await publish(lists, tmp_path / "f", FIRST)
    await publish(lists, tmp_path / "f", "ref;price\n770001;99.00\n770002;12.00\n", mode="changes")
    assert (await lists.price(LIST, "770001", NOW_US)).price_minor == 9900
    assert (await lists.price(LIST, "770039", NOW_US)).price_minor == 4900
    assert (await lists.price(LIST, "770001", NOW_US)).label == "Part 1"
    assert (await lists.find(LIST)).seq == 2


async def test_a_correction_of_the_past_is_a_new_entry_and_the_old_answer_stays_known(
    lists: Lists, tmp_path: Path, clock: SetClock
) -> None:
    await publish(lists, tmp_path / "f", FIRST)
    clock.us += 10 * DAY_US
    await publish(lists, tmp_path / "f", "ref;price\n770001;8.00\n", mode="changes", at_us=NOW_US + DAY_US)
    at_us = NOW_US + 2 * DAY_US
    assert [(await lists.price(LIST, "770001", at_us, known)).price_minor for known in (1, 2)] == [1100, 800]
    assert (await lists.price(LIST, "770001", NOW_US)).price_minor == 1100


async def test_a_price_announced_for_later_stays_when_an_earlier_one_is_released(lists: Lists, tmp_path: Path) -> None:
    await publish(lists, tmp_path / "f", FIRST)
    await publish(lists, tmp_path / "f", "ref;price\n770001;20.00\n", mode="changes", at_us=NOW_US + 5 * DAY_US)
    (tmp_path / "f").write_text("ref;price\n770001;15.00\n")
    draft = await lists.draft(LIST, tmp_path / "f", NOW_US + DAY_US, "person:1", mode="changes")
    assert draft.report.later == 1
    await lists.release(LIST, draft.id, "person:1")
    days = [(await lists.price(LIST, "770001", NOW_US + day * DAY_US)).price_minor for day in (0, 1, 5)]
    assert days == [1100, 1500, 2000]


async def test_of_two_drafts_for_one_number_the_second_release_is_refused(lists: Lists, tmp_path: Path) -> None:
    await publish(lists, tmp_path / "f", FIRST)
    drafts = []
    for price in ("11.50", "11.60"):
        (tmp_path / "f").write_text(changed(r1=price))
        drafts.append(await lists.draft(LIST, tmp_path / "f", NOW_US + DAY_US, "person:1"))
    done = await asyncio.gather(
        *(lists.release(LIST, draft.id, "person:1") for draft in drafts), return_exceptions=True
    )
    assert sorted(getattr(one, "code", "released") for one in done) == ["prices.draft.conflict", "released"]


async def test_two_processes_cannot_release_one_number(
    lists: Lists, second: Lists, tmp_path: Path, database: Database
) -> None:
    """Each reads the list before the other commits; the lock in the database decides."""
    await publish(lists, tmp_path / "f", FIRST)
    (tmp_path / "f").write_text(changed(r1="11.50"))
    draft = await lists.draft(LIST, tmp_path / "f", NOW_US + DAY_US, "person:1")
    done = await asyncio.gather(
        lists.release(LIST, draft.id, "person:1"), second.release(LIST, draft.id, "person:2"), return_exceptions=True
    )
    codes = sorted(getattr(one, "code", "released") for one in done)
    assert codes in (["prices.draft.conflict", "released"], ["prices.draft.unknown", "released"])
    assert await database.pool.fetchval("SELECT count(*) FROM price_release") == 2


async def test_what_a_crash_left_before_the_commit_is_seen_by_nobody(
    lists: Lists, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    await publish(lists, tmp_path / "f", FIRST)
    before = await lists.head(LIST)
    (tmp_path / "f").write_text(changed(r1="11.50"))
    draft = await lists.draft(LIST, tmp_path / "f", NOW_US + DAY_US, "person:1")
    files = len(list((tmp_path / "prices" / "files").glob("??/*")))

    async def fall(*_: object, **__: object) -> None:
        raise OSError("the process ends here")

    with monkeypatch.context() as broken:
        broken.setattr(lists, "record", fall)
        with pytest.raises(Exception, match=r"database\.down"):
            await lists.release(LIST, draft.id, "person:1")
    assert len(list((tmp_path / "prices" / "files").glob("??/*"))) > files
    assert await lists.head(LIST) == before
    assert await database.pool.fetchval("SELECT count(*) FROM price_entry WHERE seq = 2") == 0
    assert (await lists.release(LIST, draft.id, "person:1")).seq == 2


async def test_a_full_disk_releases_nothing_and_the_draft_waits(
    lists: Lists, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(lists, tmp_path / "f", FIRST)
    (tmp_path / "f").write_text(changed(r1="11.50"))
    draft = await lists.draft(LIST, tmp_path / "f", NOW_US + DAY_US, "person:1")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(lists.shelf, "put", full)
        with pytest.raises(Unavailable, match=r"prices\.disk"):
            await lists.release(LIST, draft.id, "person:1")
    assert (await lists.find(LIST)).seq == 1
    with monkeypatch.context() as broken:
        broken.setattr(State, "save", full)
        assert (await lists.release(LIST, draft.id, "person:1")).seq == 2


async def test_the_state_is_read_from_the_database_when_its_file_is_lost_or_damaged(
    lists: Lists, second: Lists, tmp_path: Path
) -> None:
    await publish(lists, tmp_path / "f", FIRST)
    await publish(lists, tmp_path / "f", changed(r1="11.50", r2="").replace("Part 3", "Bolt"))
    file = tmp_path / "prices" / "states" / f"{LIST}.npz"
    content = file.read_bytes()
    about = await lists.find(LIST)
    for damaged in (None, b"", content[: len(content) // 2], content):
        file.unlink(missing_ok=True)
        if damaged is not None:
            file.write_bytes(damaged)
        second.states._held = None
        state = await second.states.at(about)
        assert state.tree.root.hex() == payload_of(await lists.head(LIST)).state_root
        assert state.prices_at(NOW_US)[:4].tolist() == [1000, 1150, WITHDRAWN, 1300]
        assert np.array_equal(
            state.since(0).entries.price_minor, (await lists.states.at(about)).since(0).entries.price_minor
        )


async def test_rows_changed_beside_the_program_stop_the_publishing(
    lists: Lists, second: Lists, tmp_path: Path, database: Database
) -> None:
    await publish(lists, tmp_path / "f", FIRST)
    (tmp_path / "prices" / "states" / f"{LIST}.npz").unlink()
    await database.pool.execute("UPDATE price_entry SET price_minor = 1 WHERE index = 3")
    (tmp_path / "f").write_text(changed(r1="11.50"))
    with pytest.raises(Corrupt, match=r"prices\.state\.corrupt"):
        await second.draft(LIST, tmp_path / "f", NOW_US, "person:1")


async def test_heads_are_a_chain_and_skips_serve_who_was_away(lists: Lists, tmp_path: Path, clock: SetClock) -> None:
    lines = (f"77{at:05d};{10 + at * 7919 % 9_000}.00;{at * 2_654_435_761 % (1 << 32):x}\n" for at in range(20_000))
    big = "ref;price;label\n" + "".join(lines)
    await publish(lists, tmp_path / "f", big)
    heads = [payload_of(await lists.head(LIST))]
    for day in (5, 20, 28, 33, 34, 35):
        clock.us = NOW_US + day * DAY_US
        await publish(lists, tmp_path / "f", f"ref;price\n77{day:05d};1.25\n", mode="changes")
        heads.append(payload_of(await lists.head(LIST)))
    assert [head.prev_head for head in heads[1:]] == [head.id for head in heads[:-1]]
    last = heads[-1]
    assert (last.seq, last.blob.from_seq) == (7, 6)
    assert {skip.from_seq for skip in last.skips} == {2, 4, 5}, (
        "a month, a week, the snapshot; a day is the delta itself"
    )
    assert last.snapshot.to_seq == 5, "a snapshot is a month old at most"
    for blob in (last.blob, *last.skips):
        assert blob.to_seq == 7
        assert len(await lists.blob(blob.sha256)) == blob.size


async def test_files_that_nothing_names_are_swept_when_they_are_old(lists: Lists, tmp_path: Path) -> None:
    await publish(lists, tmp_path / "f", FIRST)
    import hashlib
    import os

    lists.shelf.put(hashlib.sha256(b"x").hexdigest(), b"x")
    assert await lists.sweep() == 0
    for path in (tmp_path / "prices" / "files").glob("??/*"):
        os.utime(path, (1, 1))
    assert await lists.sweep() == 1
    head = payload_of(await lists.head(LIST))
    assert await lists.blob(head.snapshot.sha256)
