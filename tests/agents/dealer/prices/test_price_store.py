"""The local price store: followed heads, look-ups at any instant and number, descriptions, starts, catching up."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import threading
from pathlib import Path

import pytest
from benchmarks.price_lists import press_with
from tests.agents.dealer.prices.stand import BEGIN_US, DAY_US, LIST, Stand

from rocade.agents.dealer.prices import PriceStore
from rocade.agents.dealer.prices.references import APART, References, joined
from rocade.core.errors import Corrupt, Refused, Unavailable
from rocade.core.prices import WITHDRAWN, Description
from rocade.wire.prices import Part

NOW = BEGIN_US + 300 * DAY_US


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


def test_a_first_load_answers_as_published_and_again_after_a_restart(stand: Stand) -> None:
    applied = stand.apply()
    assert applied.is_new
    assert applied.seq == 1
    assert applied.state_root == stand.press.heads[0].state_root
    stand.check()
    stand.reopen()
    stand.check()
    stand.store.keep()
    stand.reopen()
    stand.check()


def test_a_large_list_is_loaded_by_a_process_of_its_own_and_read_as_at_a_start(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = PriceStore(stand.path, stand.root.public_key, stand.clock, 1)
    stand.store, before = apart, stand.store
    before.close()
    with monkeypatch.context() as patch:
        patch.setattr(apart, "_follow", None)  # it is not done here
        assert stand.apply().is_new
    stand.check()
    stand.press.follow(1, 200)
    assert stand.apply().is_new  # a small step is
    stand.check()


@pytest.mark.parametrize("program", ["/bin/false", "/nonexistent"])
def test_where_that_process_fails_the_agent_loads_the_list_itself(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    stand.store.close()
    stand.store = PriceStore(stand.path, stand.root.public_key, stand.clock, 1)
    monkeypatch.setattr(sys, "executable", program)
    assert stand.apply().is_new
    stand.check()
    assert not list(stand.path.parent.glob("loading-*"))


def test_daily_heads_are_followed_with_one_small_file_each(stand: Stand) -> None:
    stand.apply()
    for _ in range(3):
        stand.press.follow(1, 200)
        assert stand.apply().is_new
    assert len(stand.fetched) == 4
    assert stand.fetched[1:] == [head.blob.sha256 for head in stand.press.heads[1:]]
    stand.check()
    assert not stand.apply().is_new
    assert len(stand.fetched) == 4


@pytest.mark.parametrize(
    ("held", "published", "files"),
    [
        (0, 12, [(0, 12)]),
        (1, 12, [(0, 12)]),  # no skip reaches back to 1, so a snapshot
        (8, 12, [(5, 12)]),
        (5, 12, [(5, 12)]),
        (4, 40, [(0, 40)]),
        (20, 40, [(9, 40)]),  # what is known already is passed over
        (35, 40, [(33, 40)]),
        (39, 40, [(39, 40)]),
    ],
)
def test_catching_up_takes_the_cheapest_files(
    tmp_path: Path, held: int, published: int, files: list[tuple[int, int]]
) -> None:
    stand = Stand(tmp_path, 600)
    for number in range(1, published + 1):
        if number > 1:
            stand.press.follow(1, 30)
        if number == held:
            stand.apply()
            stand.store.keep()
    plan = stand.store.plan(stand.press.signed[-1])
    assert [(blob.from_seq, blob.to_seq) for blob in plan.blobs] == files
    assert stand.apply().size_bytes == plan.size_bytes
    stand.check()
    stand.reopen()  # columns kept at `held`, rows after it
    stand.check()


def test_corrections_withdrawals_announcements_and_another_currency(stand: Stand) -> None:
    stand.apply()
    ref = stand.ref(7)
    first = stand.store.price(LIST, ref, NOW)
    stand.publish([(7, BEGIN_US + 1 * DAY_US, 5000), (7, BEGIN_US + 90 * DAY_US, 6000)])
    stand.publish([(7, BEGIN_US, 4000)])  # the past was wrong
    stand.publish([(7, BEGIN_US + 120 * DAY_US, None)])
    stand.publish([(7, BEGIN_US + 200 * DAY_US, 900)], currency="BGN")
    stand.apply()
    asked = [
        (0, None, 4000, 3, "EUR"), (0, 2, first.price_minor, 1, "EUR"), (1, None, 5000, 2, "EUR"),
        (89, None, 5000, 2, "EUR"), (90, None, 6000, 2, "EUR"), (120, None, None, 4, "EUR"), (120, 3, 6000, 2, "EUR"),
        (200, None, 900, 5, "BGN"), (300, 4, None, 4, "EUR"),
    ]  # fmt: skip
    for day, known, price, seq, currency in asked:
        found = stand.store.price(LIST, ref, BEGIN_US + day * DAY_US, known)
        assert (found.price_minor, found.seq, found.currency) == (price, seq, currency), (day, known)
    stand.check()
    assert [change.seq for change in stand.store.history(LIST, ref)] == [1, 2, 3, 4, 5]


def test_questions_that_have_no_answer_are_refused(stand: Stand) -> None:
    stand.apply()
    ref = stand.ref(0)
    for code, ask in {
        "prices.list.unknown": lambda: stand.store.price("it-retail", ref, NOW),
        "prices.part.unknown": lambda: stand.store.price(LIST, ref + "X", NOW),
        "prices.part.unpriced": lambda: stand.store.price(LIST, ref, BEGIN_US - 1),
        "prices.number.unknown": lambda: stand.store.price(LIST, ref, NOW, 2),
    }.items():
        with pytest.raises(Refused) as caught:
            ask()
        assert caught.value.code == code
    assert stand.store.prices(LIST, [ref, "nothing", ""], NOW).keys() == {ref}


def test_new_parts_new_words_and_what_replaces_what(stand: Stand) -> None:
    stand.apply()
    at = len(stand.press.tree.leaves)
    stand.publish(
        [(at, BEGIN_US, 100), (at + 1, BEGIN_US, 200)],
        [Part(at, 0, "NEW-1", "N", "Étrier d'œil", "NEW-2"), Part(at + 1, 0, "NEW-2", "N", "Étrier")],
    )
    stand.publish([], [stand.part(3, label="Étrier renommé", superseded_by="NEW-1")])
    stand.apply()
    for _ in range(2):
        store = stand.store
        assert store.price(LIST, "NEW-2", NOW).price_minor == 200
        assert store.successors(LIST, stand.ref(3)).refs == ("NEW-1", "NEW-2")
        assert store.part(LIST, stand.ref(3)).description.label == "Étrier renommé"
        assert store.part(LIST, stand.ref(3)).since_seq == 3
        found = {card.description.ref for card in store.search(LIST, "étrier")}
        assert found == {"NEW-1", "NEW-2", stand.ref(3)}
        assert [card.description.ref for card in store.search(LIST, "NEW-")] == ["NEW-1", "NEW-2"]
        assert [(one.ref, one.change.description) for one in store.changes(LIST, 3)] == [
            (stand.ref(3), Description(stand.ref(3), stand.part(3).family, "Étrier renommé", "NEW-1"))
        ]
        stand.check()
        stand.reopen()


def test_a_circle_of_replacements_offers_nothing(stand: Stand) -> None:
    stand.apply()
    a, b, c = (stand.ref(at) for at in (1, 2, 3))
    stand.publish([], [stand.part(1, superseded_by=b), stand.part(2, superseded_by=c), stand.part(3, superseded_by=b)])
    stand.publish([], [stand.part(4, superseded_by="GONE")])
    stand.apply()
    assert (stand.store.successors(LIST, a).refs, stand.store.successors(LIST, a).ends) == ((), "circle")
    assert stand.store.successors(LIST, stand.ref(4)).ends == "unknown"


def test_changes_of_a_number_come_with_the_price_before(stand: Stand) -> None:
    stand.apply()
    before = stand.store.price(LIST, stand.ref(9), NOW).price_minor
    stand.publish([(9, BEGIN_US + DAY_US, 77), (11, BEGIN_US + DAY_US, None)])
    stand.apply()
    changed = stand.store.changes(LIST, 2)
    assert [(one.ref, one.before_minor) for one in changed[:1]] == [(stand.ref(9), before)]
    assert [one.change.entries[0].price_minor for one in changed] == [77, WITHDRAWN]
    assert len(stand.store.changes(LIST, 2, limit=1)) == 1
    assert len(stand.store.changes(LIST, 1)) == 1500


def test_readers_see_one_number_while_another_is_applied(stand: Stand) -> None:
    stand.apply()
    seen: list[tuple[int, int | None]] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            for index in (0, 1):
                price = stand.store.price(LIST, stand.ref(index), BEGIN_US + 2 * DAY_US)
                seen.append((price.known_seq, price.seq))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(5):
            stand.publish([(0, BEGIN_US + DAY_US, 10), (1, BEGIN_US + DAY_US, 20)])
            stand.apply()
    finally:
        stop.set()
        reader.join()
    assert all(known == seq for known, seq in seen)


def test_a_list_that_is_dropped_is_gone(stand: Stand) -> None:
    stand.apply()
    stand.store.drop(LIST)
    assert stand.store.heads() == []
    with pytest.raises(Refused, match="list"):
        stand.store.price(LIST, stand.ref(0), NOW)
    assert stand.apply().is_new
    stand.check()


def test_two_lists_do_not_touch_each_other(stand: Stand) -> None:
    other = press_with(300, stand.signing, "it-retail", stand.key)
    stand.store.keep_epoch(stand.letter("it-retail"), stand)
    stand.apply()
    stand.store.apply(other.signed[-1], other.files.__getitem__)
    stand.publish([(5, BEGIN_US + DAY_US, 1)])
    stand.apply()
    stand.check()
    ref = other.deltas[0].descriptions.ref[5]
    assert stand.store.price("it-retail", ref, NOW).price_minor == other.prices()[5]
    assert [held.list for held in stand.store.heads()] == [LIST, "it-retail"]
    stand.store.drop("it-retail")
    stand.check()


# --- clock, instants, lines ---


def test_a_clock_that_is_behind_never_gives_yesterdays_price(stand: Stand) -> None:
    stand.apply()
    stand.publish([(0, BEGIN_US + DAY_US, 4242)])
    stand.apply()
    stand.clock.at_us = 5_000_000  # 1970: the battery of the clock is empty
    assert stand.store.clock_behind_us() == BEGIN_US + DAY_US - 5_000_000
    assert stand.store.price(LIST, stand.ref(0), stand.store.now_us()).price_minor == 4242
    stand.clock.at_us = BEGIN_US + 9 * DAY_US
    assert stand.store.clock_behind_us() == 0


def test_every_part_with_its_price_at_an_instant(stand: Stand) -> None:
    stand.apply()
    stand.publish(
        [(2, BEGIN_US + DAY_US, 1665), (3, BEGIN_US + DAY_US, None)], [stand.part(2, superseded_by=stand.ref(5))]
    )
    stand.apply()
    rows = list(stand.store.all_prices(LIST, NOW))
    assert [part.ref for part, _ in rows] == [stand.ref(at) for at in range(1500)]
    assert (rows[2][1].price_minor, rows[3][1].price_minor, rows[2][0].superseded_by) == (1665, None, stand.ref(5))
    assert list(stand.store.all_prices(LIST, BEGIN_US - 5)) == []


# --- what else can be wrong ---


def test_a_store_without_the_epochs_key_says_so_and_goes_on_when_it_comes(stand: Stand) -> None:
    stand.apply()
    stand.press.epoch, stand.press.key = 2, bytes(range(32))
    stand.press.follow(1, 50)
    with pytest.raises(Unavailable) as caught:
        stand.apply()
    assert caught.value.code == "prices.epoch.missing"
    stand.store.keep_epoch(stand.letter(epoch=2, key=bytes(range(32))), stand)
    assert stand.apply().is_new
    stand.check()


def test_rows_changed_behind_our_back_give_no_price_and_are_repaired(stand: Stand) -> None:
    stand.apply()
    stand.store.close()
    with contextlib.closing(sqlite3.connect(stand.path)) as db, db:
        db.execute("DELETE FROM remembered")
        db.execute("UPDATE entry SET price = 1 WHERE slot = (SELECT max(slot) FROM entry)")
    stand.store = stand.open()
    assert stand.store.verify_all() == {LIST: "prices.store.altered"}
    for ask in (stand.store.price, stand.store.prove):
        with pytest.raises(Corrupt) as caught:
            ask(LIST, stand.ref(1), NOW)
        assert caught.value.code == "prices.store.altered"
    applied = stand.apply()  # the same head again
    assert applied.repaired
    stand.check()


def test_kept_columns_changed_behind_our_back_are_read_from_the_rows(stand: Stand) -> None:
    stand.apply()
    stand.store.keep()
    stand.store.close()
    with contextlib.closing(sqlite3.connect(stand.path)) as db, db:
        db.execute("UPDATE remembered SET body = CAST(substr(body, 1, 500) || x'00ff00' || substr(body, 504) AS BLOB)")
    stand.store = stand.open()
    stand.check()


def test_rows_changed_after_the_columns_were_kept_prove_nothing(stand: Stand) -> None:
    stand.apply()
    stand.store.keep()
    stand.store.close()
    with contextlib.closing(sqlite3.connect(stand.path)) as db, db:
        db.execute("UPDATE entry SET price = 1 WHERE slot = (SELECT max(slot) FROM entry)")
    stand.store = stand.open()
    assert stand.store.price(LIST, stand.ref(1499), NOW).price_minor != 1
    with pytest.raises(Corrupt, match="altered"):
        stand.store.prove(LIST, stand.ref(1499), NOW)


def test_references_are_found_whatever_they_look_like() -> None:
    refs = [f"{at:05d}" for at in range(5000)] + ["é", "a b", "A" * 64, "0", "00"]
    held = References().extended(joined(refs), len(refs))
    assert len(held) == len(refs) > APART
    assert all(held.find(ref) == at and held[at] == ref for at, ref in enumerate(refs))
    more = held.extended(joined(["late", "later"]), 2)
    assert (more.find("late"), more.find("later"), held.find("late")) == (5005, 5006, -1)
    assert more[5006] == "later"
    assert [more.find(ref) for ref in ("", "5000", "a", "A" * 63, "\n", "é\n")] == [-1] * 6
    assert more.starting_with("0000", 3) == [0, 1, 2]
    assert more.starting_with("late", 9) == [5005, 5006]
    for add in (
        lambda: References(b"A\nB\nA\n"),
        lambda: more.extended(b"late\n", 1),
        lambda: held.extended(b"X\nX\n", 2),
    ):
        with pytest.raises(Corrupt):
            add()
