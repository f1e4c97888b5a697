"""Every bit of a dealer agent's price store: what it answers is what was written, or is refused with a code; and the next head mends it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import pytest
import zstandard
from benchmarks.price_lists import Press
from tests.agents.dealer.prices.stand import BEGIN_US, DAY_US, LIST, Stand

from rocade.agents.dealer.prices import PriceStore
from rocade.core.errors import Corrupt, Refused, RocadeError, Unavailable
from rocade.wire.prices import Entries, Part, Priced

NOW = BEGIN_US + 300 * DAY_US
REFUSED = {"prices.store.damaged", "prices.store.altered"}
type Answers = dict[str, object]


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    """A list of 40 parts at number 4: prices corrected, withdrawn and announced, another currency, parts described anew, a conflict kept."""
    stand = Stand(tmp_path, 40)
    stand.apply()
    stand.publish([(at, BEGIN_US + 90 * DAY_US, 6000 + at) for at in range(9)], [stand.part(1, label="Bremse")])
    stand.publish([(2, BEGIN_US, 4000)], [Part(40, 3, "NEW-40", "brakes", "disc")])
    stand.apply()
    stand.store.keep()
    stand.publish([(3, BEGIN_US + 120 * DAY_US, None), (4, BEGIN_US + 2 * DAY_US, 900)], currency="BGN")
    stand.apply()
    other = Press(stand.signing, LIST, key=stand.key)
    for delta in stand.press.deltas[:3]:
        other.publish(delta.releases[0], delta.entries, delta.descriptions)
    other.publish(stand.press.deltas[3].releases[0], Entries.of([Priced(1, 4, BEGIN_US, 1)]))
    with contextlib.suppress(Refused):
        stand.store.apply(other.signed[3], other.files.__getitem__)
    stand.store.close()
    with contextlib.closing(sqlite3.connect(stand.path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return stand


def ask(store: PriceStore, stand: Stand) -> Answers:
    """Whatever a price store can be asked, each with its answer or the code it is refused with."""
    refs = [stand.ref(at) for at in (0, 1, 2, 3, 4, 39)]
    asked: dict[str, Callable[[], object]] = {
        "heads": lambda: [(one.list, one.seq, one.head) for one in store.heads()],
        "applied": lambda: [one.applied_us for one in store.heads()],
        "clock": store.clock_behind_us,
        "all": lambda: list(store.all_prices(LIST, NOW)),
        "all then": lambda: list(store.all_prices(LIST, BEGIN_US + 1, 2)),
        "search": lambda: store.search(LIST, "bremse"),
        "few": lambda: store.prices(LIST, refs, BEGIN_US + DAY_US),
        "keys": lambda: store.plan(stand.press.signed[-1]).blobs,
    }
    for seq in range(1, 5):
        asked[f"changes {seq}"] = lambda seq=seq: store.changes(LIST, seq)
    for ref in refs:
        asked[f"now {ref}"] = lambda ref=ref: store.price(LIST, ref, NOW)
        asked[f"then {ref}"] = lambda ref=ref: store.price(LIST, ref, BEGIN_US + DAY_US, 3)
        asked[f"part {ref}"] = lambda ref=ref: store.part(LIST, ref)
        asked[f"history {ref}"] = lambda ref=ref: store.history(LIST, ref)
        asked[f"successors {ref}"] = lambda ref=ref: store.successors(LIST, ref)
    return {name: _answer(one) for name, one in asked.items()}


def _answer(ask: Callable[[], object]) -> object:
    try:
        return ask()
    except RocadeError as error:
        return error.code


@pytest.mark.parametrize("bits", [150, pytest.param(1_000, marks=pytest.mark.slow)])
def test_a_turned_bit_changes_no_answer_and_the_next_head_mends_it(stand: Stand, bits: int) -> None:
    content = stand.path.read_bytes()
    good, evidence = _with(stand, content, lambda store: (ask(store, stand), [one[:2] for one in store.conflicts()]))
    assert not REFUSED & {one for one in good.values() if isinstance(one, str)}
    assert len(evidence) == 1
    seed = int(os.environ.get("ROCADE_SEED") or 5)
    print(f"seed {seed}")
    outcomes = Counter[str]()
    places = [at for at, byte in enumerate(content) if byte]
    for at in Random(seed).sample(places, bits):
        turned = bytearray(content)
        turned[at] ^= 1 << at % 8
        outcomes[str(_answer(partial(_with, stand, bytes(turned), partial(_judge, stand, good, evidence, at))))] += 1
    print(dict(outcomes))
    assert min(outcomes["harmless"], outcomes["mended"]) > 0
    assert outcomes["harmless"] + outcomes["mended"] > bits * 3 // 4
    assert {one for one in outcomes if not one.startswith("not mended")} <= {"harmless", "mended", *REFUSED}


def _judge(stand: Stand, good: Answers, evidence: object, at: int, store: PriceStore) -> str:
    found = ask(store, stand)
    told = store.verify_all()
    if told.get("") and found["applied"] == [held.head.signed_us for held in store.heads()]:
        found["applied"] = "prices.store.damaged"  # told, and given as when the head was signed
    if not found["heads"]:
        found |= dict.fromkeys(("heads", "applied", "clock", "keys"), "prices.list.unknown")
    _nothing_else(found, good, at)
    assert [one[:2] for one in store.conflicts()] == evidence or told.get("") == "prices.store.damaged", at
    if found == good:
        return "harmless"
    if (code := _answer(lambda: _mend(stand, store))) is not None:
        assert code in {"prices.store.damaged", "prices.store.full"}, (at, code)
        return f"not mended: {code}"  # SQLite cannot go on: the file is to be set aside
    again = ask(store, stand) | {"applied": good["applied"]}
    _nothing_else(again, good, at)
    return "mended" if again == good else "not mended: the file's own structure"


def _nothing_else(found: Answers, good: Answers, at: int) -> None:
    for name, answer in found.items():
        assert answer == good[name] or answer in [*REFUSED, "prices.epoch.missing", "prices.list.unknown"], (at, name)


def _mend(stand: Stand, store: PriceStore) -> None:
    """What the hub says at each connection."""
    store.keep_epoch(stand.letter(), stand)
    stand.apply()


def _with[T](stand: Stand, content: bytes, act: Callable[[PriceStore], T]) -> T:
    stand.path = stand.path.with_name(
        f"{len(list(stand.path.parent.iterdir()))}.sqlite3"
    )  # one that could not be opened may still be held
    stand.path.write_bytes(content)
    store = stand.store = stand.open()
    try:
        return act(store)
    finally:
        store.close()


def _alter(stand: Stand, statement: str) -> None:
    stand.store.close()
    with contextlib.closing(sqlite3.connect(stand.path)) as db, db:
        assert db.execute(statement).rowcount > 0
    stand.store = stand.open()


@pytest.mark.parametrize("apart_bytes", [None, 1])
def test_a_row_damaged_later_is_refused_while_prices_of_now_go_on_and_the_same_head_mends_it(
    stand: Stand, apart_bytes: int | None
) -> None:
    _alter(stand, "UPDATE entry SET price = price + 64 WHERE slot & 4294967295 = 3 AND seq = 2")
    stand.store.close()
    stand.store = PriceStore(stand.path, stand.root.public_key, stand.clock, apart_bytes)
    then = (LIST, stand.ref(3), BEGIN_US + 100 * DAY_US)
    assert stand.store.price(LIST, stand.ref(3), NOW).seq == 4
    assert not stand.store.is_damaged
    for ask in (stand.store.price, stand.store.prove):
        with pytest.raises(Corrupt, match="altered"):
            ask(*then)
    with pytest.raises(Corrupt, match="altered"):
        stand.store.changes(LIST, 2)
    assert stand.store.is_damaged
    assert stand.store.price(LIST, stand.ref(3), NOW).seq == 4
    assert stand.apply().repaired
    assert not stand.store.is_damaged
    assert stand.store.price(*then).price_minor == 6003
    stand.check()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE list SET name = 'fr-retaim', seq = 68, parts = 9",
        "UPDATE list SET envelope = CAST(replace(envelope, 'sig', 'sih') AS BLOB)",
        "UPDATE release SET currency = 'BGO' WHERE seq = 4",
        "UPDATE release SET effective_us = 5, note = 'other'",
        "UPDATE remembered SET seq = 4",
        "DELETE FROM remembered WHERE place = 5",
        "UPDATE remembered SET place = 9 WHERE place = 2",
    ],
)
def test_small_rows_that_are_damaged_change_nothing_where_something_signed_stands_beside_them(
    stand: Stand, statement: str
) -> None:
    good = ask(stand.open(), stand)
    _alter(stand, statement)
    found = ask(stand.store, stand)
    assert found == good or "currency" in statement
    _nothing_else(found, good, 0)
    assert stand.apply().seq == 4
    assert ask(stand.store, stand) | {"applied": good["applied"]} == good


def test_a_signer_or_a_key_that_is_damaged_is_asked_for_again(stand: Stand) -> None:
    _alter(stand, "UPDATE signer SET statement = CAST(replace(statement, 'a', 'b') AS BLOB)")
    for statement in ("", "UPDATE epoch SET key = randomblob(32)"):
        if statement:
            _alter(stand, statement)
        assert stand.store.verify_all()[""] == "prices.store.damaged"
        stand.press.follow(1, 5)
        with pytest.raises(Unavailable) as caught:
            stand.apply()
        assert caught.value.code == "prices.epoch.missing"  # which asks the hub for its letter
        stand.store.keep_epoch(stand.letter(), stand)
        assert stand.apply().is_new
        stand.check()


def test_a_conflict_that_was_kept_and_altered_is_told(stand: Stand) -> None:
    _alter(stand, "UPDATE conflict SET seen_us = seen_us + 1")
    assert stand.store.conflicts() == []
    assert stand.store.verify_all() == {LIST: "", "": "prices.store.damaged"}


def test_a_store_that_an_earlier_version_wrote_is_read_and_then_remembered_anew(stand: Stand) -> None:
    _alter(stand, "DELETE FROM remembered")
    with stand.store._tables.transaction():
        stand.store._tables.db.execute("DELETE FROM row_sum")
        words = stand.store._tables.db.execute("SELECT body FROM words").fetchone()[0]
        bare = zstandard.ZstdCompressor().compress(zstandard.ZstdDecompressor().decompress(words))
        stand.store._tables.db.execute("UPDATE words SET body = ?", (bare,))
    stand.check()
    for _ in range(2):
        stand.press.follow(1, 5)
        assert stand.apply().is_new
    assert stand.store.verify_all() == {LIST: ""}
    assert stand.store._tables.kept_seq(1) == 5
    words = stand.store._tables.db.execute("SELECT body FROM words").fetchone()[0]
    assert zstandard.get_frame_parameters(words).has_checksum
    stand.check()


def test_what_is_damaged_in_a_write_ahead_file_leaves_an_older_number_which_the_hub_brings_forward(
    stand: Stand,
) -> None:
    stand.store = stand.open()
    stand.press.follow(1, 5)
    stand.apply()
    before = stand.path.with_name(stand.path.name + "-wal").read_bytes()
    stand.press.follow(1, 5)
    stand.apply()
    ahead = bytearray(stand.path.with_name(stand.path.name + "-wal").read_bytes())
    ahead[len(before) + 100 : len(before) + 200] = bytes(100)
    older = stand.path.with_name("older.sqlite3")
    older.write_bytes(stand.path.read_bytes())
    older.with_name("older.sqlite3-wal").write_bytes(ahead)
    stand.store.close()
    stand.path = older
    stand.store = stand.open()
    assert stand.store.heads()[0].seq == 5
    assert stand.store.verify_all() == {LIST: ""}
    assert stand.apply().seq == 6
    stand.check()


@pytest.mark.parametrize("bit", range(8))
@pytest.mark.parametrize("table", ["conflict", "epoch"])
def test_a_table_whose_name_changed_is_not_begun_anew(stand: Stand, table: str, bit: int) -> None:
    content = bytearray(stand.path.read_bytes())
    named = [at for at in range(4096) if content.startswith(table.encode(), at)]
    assert len(named) >= 3, "name, table's name and text of the schema's row"
    turned = [bytearray(content) for _ in named]
    for at, one in zip(named, turned, strict=True):
        one[at + 2] ^= 1 << bit
    for one in turned:
        stand.path.write_bytes(one)
        if bit == 5:  # small or capital is all the same in SQL
            _with(stand, bytes(one), lambda store: store.verify_all() == {LIST: ""} and store.conflicts()[0])
            continue
        with pytest.raises(RocadeError, match=r"prices\.store\.damaged"):
            PriceStore(stand.path, stand.root.public_key).close()


def test_a_bit_that_turned_in_the_write_ahead_file_of_a_killed_agent_is_turned_back(
    stand: Stand, tmp_path: Path
) -> None:
    """A conflict that was kept is not said again by the hub."""
    with contextlib.closing(sqlite3.connect(stand.path, isolation_level=None)) as open_:
        open_.execute("PRAGMA journal_mode = WAL")
        open_.execute("CREATE TEMP TABLE held AS SELECT * FROM conflict")
        open_.execute("DELETE FROM conflict")
        open_.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        open_.execute("INSERT INTO conflict SELECT * FROM held")
        open_.execute("UPDATE list SET parts = parts")
        ahead = bytearray(Path(f"{stand.path}-wal").read_bytes())
        content = stand.path.read_bytes()
    ahead[32 + 24 + 999] ^= 4
    stand.path.write_bytes(content)
    Path(f"{stand.path}-wal").write_bytes(ahead)
    store = PriceStore(stand.path, stand.root.public_key)
    try:
        assert len(store.conflicts()) == 1
        assert set(store.verify_all().values()) == {""}
    finally:
        store.close()
