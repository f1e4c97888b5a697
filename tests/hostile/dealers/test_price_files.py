"""Attacks on price lists at the point of sale: each is refused with its own code, and what was held stays whole."""

from __future__ import annotations

import contextlib
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zstandard
from benchmarks.price_lists import Press
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.agents.dealer.prices.stand import BEGIN_US, DAY_US, LIST, Stand, statement_of

from rocade.agents.dealer.prices import heads
from rocade.core.errors import Refused, RocadeError, Unavailable
from rocade.trust.identity import envelope
from rocade.trust.identity.keys import new_key
from rocade.wire.prices import HEAD_TYPE, Entries, EpochLetter, Head, Priced, WrappedKey, pack, wrap_key, write_letter
from rocade.wire.prices.packing import MAGIC, Block, File

NOW = BEGIN_US + 300 * DAY_US


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    """Number 1 and 2 are applied, 3 is published."""
    stand = Stand(tmp_path, 600)
    stand.apply()
    stand.press.follow(1, 50)
    stand.apply()
    stand.press.follow(1, 50)
    return stand


def refused(stand: Stand, head: bytes, fetch: Callable[[str], bytes] | None = None) -> str:
    """The code of the refusal; nothing of the head may have been applied, now or after a restart."""
    before = stand.store.heads()[0].head, stand.store.price(LIST, stand.ref(5), NOW)
    with pytest.raises(RocadeError) as caught:
        stand.store.apply(head, fetch or stand.fetch)
    for _ in range(2):
        assert (stand.store.heads()[0].head, stand.store.price(LIST, stand.ref(5), NOW)) == before
        stand.check()
        stand.reopen()
    return caught.value.code


def changed(stand: Stand, number: int = -1, **fields: object) -> bytes:
    """A head with some fields changed, rightly signed: the hub's key is in wrong hands, or its program is wrong."""
    head = msgspec.structs.replace(stand.press.heads[number], **fields)
    return envelope.seal(HEAD_TYPE, msgspec.json.encode(head), stand.signing)


def lie(stand: Stand, index: int = 0, price: int = 1) -> Press:
    """Another press of the same key that published something else as number 2 and 3."""
    press = Press(stand.signing, LIST, key=stand.key)
    first = stand.press.deltas[0]
    press.publish(first.releases[0], first.entries, first.descriptions)
    for seq in (2, 3):
        release = stand.press.deltas[seq - 1].releases[0]
        press.publish(release, Entries.of([Priced(index, seq, release.effective_us, price)]))
    return press


# --- heads ---


def test_an_older_head_is_a_roll_back(stand: Stand) -> None:
    assert refused(stand, stand.press.signed[0]) == "prices.head.rolled_back"


def test_two_heads_of_one_number_are_a_fork_and_kept_as_evidence(stand: Stand) -> None:
    other = lie(stand)
    assert refused(stand, other.signed[1], other.files.__getitem__) == "prices.head.forked"
    assert [(name, seq, kept) for name, seq, kept, _ in stand.store.conflicts()] == [(LIST, 2, other.signed[1])]


def test_a_head_that_follows_another_past_is_a_fork(stand: Stand) -> None:
    other = lie(stand)
    assert refused(stand, other.signed[2], other.files.__getitem__) == "prices.head.forked"


def test_a_jump_onto_another_past_is_found_by_its_root(stand: Stand) -> None:
    """Far ahead, no predecessor can be compared; the files lead to another root, and the snapshot tells another past."""
    other = lie(stand)
    other.follow(6, 20)
    assert refused(stand, other.signed[-1], other.files.__getitem__) == "prices.head.forked"
    assert len(stand.store.conflicts()) == 1


def test_the_same_head_signed_again_is_the_same_head(stand: Stand) -> None:
    assert not stand.store.apply(changed(stand, 1, signed_us=NOW), stand.fetch).is_new


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"brand": "lune"}, "prices.head.list"),
        ({"country": "IT"}, "prices.head.list"),
        ({"kind": "net"}, "prices.head.list"),
        ({"list_id": "../../etc"}, "prices.head.malformed"),
        ({"state_root": "00"}, "prices.head.malformed"),
        ({"prev_head": ""}, "prices.head.malformed"),
        ({"seq": 0}, "prices.head.malformed"),
        ({"parts": -1}, "prices.head.malformed"),
        ({"parts": 10**9}, "prices.head.malformed"),
        ({"prev_head": "0" * 64}, "prices.head.forked"),
        ({"seq": 9}, "prices.head.malformed"),
        ({"state_root": "0" * 64}, "prices.state.mismatch"),
        ({"parts": 599}, "prices.state.mismatch"),
        ({"currency": "CHF"}, "prices.state.mismatch"),
    ],
)
def test_a_head_that_says_something_else_is_refused(stand: Stand, fields: dict[str, object], code: str) -> None:
    assert refused(stand, changed(stand, **fields)) == code


def test_a_gap_in_the_numbers_is_refused_where_no_file_bridges_it(stand: Stand) -> None:
    stand.press.follow(1, 10)
    head = stand.press.heads[-1]
    alone = msgspec.structs.replace(head.snapshot, to_seq=2)
    assert refused(stand, changed(stand, snapshot=alone, skips=())) == "prices.head.gap"


def test_only_signers_that_the_root_named_are_believed(stand: Stand) -> None:
    stranger, foreign_root = new_key(), new_key()
    head = envelope.seal(HEAD_TYPE, msgspec.json.encode(stand.press.heads[-1]), stranger)
    assert refused(stand, head) == "prices.head.signer"
    letter = write_letter(EpochLetter((), (statement_of(stranger, foreign_root),)))
    with pytest.raises(Refused) as caught:
        stand.store.keep_epoch(letter, stand)
    assert caught.value.code == "prices.signer"
    assert refused(stand, head) == "prices.head.signer"
    assert refused(stand, b"{}") == "prices.head.malformed"
    assert refused(stand, envelope.seal(HEAD_TYPE, b'{"list":"x"}', stand.signing)) == "prices.head.malformed"
    assert refused(stand, envelope.seal("application/json", b"{}", stand.signing)) == "prices.head.malformed"
    altered = stand.press.signed[-1].replace(b'"payload":"', b'"payload":"e30K')
    assert refused(stand, altered) in {"prices.head.signer", "prices.head.malformed"}


def test_keys_that_are_not_for_us_open_nothing(stand: Stand) -> None:
    for wrapped in (b"", b"x" * 80, wrap_key(stand.key, X25519PrivateKey.generate().public_key(), LIST, 2)):
        with pytest.raises(Refused) as caught:
            stand.store.keep_epoch(write_letter(EpochLetter((WrappedKey(LIST, 2, (wrapped,)),))), stand)
        assert caught.value.code == "prices.epoch.wrapped"
    moved = wrap_key(stand.key, stand.private.public_key(), "it-retail", 2)  # another list's key
    with pytest.raises(Refused, match="wrapped"):
        stand.store.keep_epoch(write_letter(EpochLetter((WrappedKey(LIST, 2, (moved,)),))), stand)
    with pytest.raises(Refused, match="malformed"):
        stand.store.keep_epoch(b"[]", stand)


# --- files ---


def test_bad_files_are_refused_and_the_list_goes_on_with_the_next_good_one(stand: Stand) -> None:
    press, head = stand.press, stand.press.heads[-1]
    good = press.files[head.blob.sha256]
    other_list = Press(stand.signing, "it-retail", key=stand.key)
    stranger = Press(stand.signing, LIST, key=bytes(32))
    for name, content, code in (
        ("truncated", good[:-1], "prices.blob.size"),
        ("empty", b"", "prices.blob.size"),
        ("longer", good + b"x", "prices.blob.size"),
        ("swapped", good[:50] + bytes([good[50] ^ 1]) + good[51:], "prices.blob.swapped"),
        ("a million bytes", bytes(1_000_000), "prices.blob.size"),
    ):
        assert refused(stand, press.signed[-1], lambda _, content=content: content) == code, name
    for sealer, code in ((other_list, "prices.blob.sealed"), (stranger, "prices.blob.sealed")):
        blob = sealer.seal(pack(press.deltas[-1], press.prices(2)), (2, 3))
        files = {**press.files, **sealer.files}
        lying = changed(stand, blob=blob, snapshot=msgspec.structs.replace(blob, from_seq=0))
        assert refused(stand, lying, files.__getitem__) == code
    assert stand.apply().is_new
    stand.check()


def test_a_bad_delta_does_not_stop_a_good_snapshot(stand: Stand) -> None:
    blob = stand.press.heads[-1].blob

    def fetch(name: str) -> bytes:
        return b"cache is broken" if name == blob.sha256 else stand.press.files[name]

    assert stand.store.apply(stand.press.signed[-1], fetch).repaired
    stand.check()


def test_an_older_file_of_the_same_list_in_place_of_a_new_one(stand: Stand) -> None:
    old = stand.press.heads[1].blob  # 1 -> 2, named as 2 -> 3
    lying = changed(
        stand, blob=msgspec.structs.replace(old, from_seq=2, to_seq=3), snapshot=stand.press.heads[1].snapshot
    )
    assert refused(stand, lying) == "prices.blob.sealed"


BAD_DELTAS: dict[str, tuple[str, dict[str, object]]] = {
    "a zstd bomb": ("prices.delta.size", {"price": [zstandard.compress(bytes(500 << 20))]}),
    "a bomb of rows": ("prices.delta.limits", {"entries": 10**6}),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_DELTAS)
def test_a_sealed_and_signed_file_with_a_bad_delta(stand: Stand, what: str) -> None:
    code, fields = BAD_DELTAS[what]
    press = stand.press
    file = msgspec.msgpack.decode(pack(press.deltas[-1], press.prices(2))[4:], type=File)
    block = msgspec.structs.replace(msgspec.msgpack.decode(file.blocks[0], type=Block), **fields)
    packed = MAGIC + msgspec.msgpack.encode(msgspec.structs.replace(file, blocks=[msgspec.msgpack.encode(block)]))
    blob = press.seal(packed, (2, 3))
    nothing = press.seal(b"", (0, 3))
    assert refused(stand, changed(stand, blob=blob, snapshot=nothing)) == code


def test_a_delta_that_names_parts_wrongly(stand: Stand) -> None:
    """A hole in the numbers, a reference given twice, a part renamed: the delta is well formed and does not fit the list."""
    from rocade.wire.prices import Descriptions, Part

    press, release = stand.press, stand.press.deltas[-1].releases[0]
    known = stand.ref(0)
    for parts in (
        [Part(601, 3, "HOLE")],
        [Part(600, 3, known)],
        [Part(600, 3, "A"), Part(601, 3, "A")],
        [Part(0, 3, "B")],
    ):
        delta = press.deltas[-1]
        packed = pack(type(delta)(LIST, 2, 3, (release,), Descriptions.of(parts), delta.entries), press.prices(2))
        nothing = press.seal(b"", (0, 3))
        lying = changed(stand, blob=press.seal(packed, (2, 3)), snapshot=nothing)
        assert refused(stand, lying) == "prices.delta.parts"
    nobody = Entries.of([Priced(650, 3, release.effective_us, 5)])
    packed = pack(type(delta)(LIST, 2, 3, (release,), Descriptions(), nobody), press.prices(2))
    assert refused(stand, changed(stand, blob=press.seal(packed, (2, 3)), snapshot=nothing)) == "prices.delta.parts"


def test_a_bomb_needs_no_memory(tmp_path: Path) -> None:
    """In a process of its own with 300 MiB of memory to spare, a file that unfolds to 3 GiB is refused."""
    bomb = zstandard.ZstdCompressor(level=1)
    chunks = bomb.compressobj()
    folded = b"".join([*(chunks.compress(bytes(64 << 20)) for _ in range(48)), chunks.flush()])
    good = msgspec.msgpack.decode(pack(Stand(tmp_path, 600).press.deltas[0], np.empty(0, np.int64))[4:], type=File)
    block = msgspec.msgpack.decode(good.blocks[0], type=Block)
    evil = msgspec.structs.replace(block, label=(block.label[0], folded), price=[folded])
    file = tmp_path / "bomb"
    file.write_bytes(
        MAGIC + msgspec.msgpack.encode(msgspec.structs.replace(good, blocks=[msgspec.msgpack.encode(evil)]))
    )
    program = (
        "import sys, resource, numpy\n"
        "from rocade.wire.prices import unpack\n"
        "from rocade.core.errors import Refused\n"
        "content = open(sys.argv[1], 'rb').read()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n unpack(content, numpy.empty(0, numpy.int64))\n"
        "except Refused as error:\n print(error.code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    said = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True)
    code, grown_kib = said.stdout.split()
    assert code in {"prices.delta.size", "prices.delta.compression"}
    assert int(grown_kib) < 100 << 10


# --- the machine ---


def test_a_full_disk_is_unavailable_and_leaves_nothing_behind(stand: Stand) -> None:
    stand.press.follow(4, 500)
    pages = stand.store._tables.db.execute("PRAGMA page_count").fetchone()[0]
    stand.store._tables.db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Unavailable) as caught:
        stand.apply()
    assert caught.value.code == "prices.store.full"
    assert stand.store.heads()[0].seq == 2
    stand.check()
    stand.store._tables.db.execute("PRAGMA max_page_count = 1073741823")
    assert stand.apply().seq == 7
    stand.check()


def test_a_write_that_the_system_refuses_leaves_nothing_behind(stand: Stand) -> None:
    """The file may not grow any more (as a quota does), in the middle of the write-ahead log."""
    stand.press.follow(4, 500)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    wal = stand.path.with_name(stand.path.name + "-wal")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size + 9000, hard))
        with pytest.raises(Unavailable):
            stand.apply()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    stand.reopen()
    assert stand.store.heads()[0].seq == 2
    stand.check()
    assert stand.apply().seq == 7
    stand.check()


def test_a_damaged_file_is_corrupt_not_a_price(stand: Stand) -> None:
    stand.store.close()
    with contextlib.closing(sqlite3.connect(stand.path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(stand.path.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    stand.path.write_bytes(content)
    with pytest.raises(RocadeError) as caught:
        stand.open().price(LIST, stand.ref(0), NOW)
    assert caught.value.code in {"prices.store.damaged", "prices.list.unknown"}


@pytest.mark.parametrize("now_us", [0, NOW + 3650 * DAY_US])
def test_a_wrong_clock_stops_no_list(stand: Stand, now_us: int) -> None:
    stand.clock.at_us = now_us
    assert stand.apply().is_new
    stand.check()


def test_plans_never_use_what_they_must_not() -> None:
    stand_head = Head("l", "b", "FR", "EUR", "retail", 9, "0" * 64, 0, 0, "0" * 64, 1, 1, _blob(8, 9, 5), _blob(0, 9, 900), (_blob(2, 9, 40), _blob(2, 5, 4), _blob(5, 9, 7)))  # fmt: skip
    assert _spans(stand_head, 8) == [(8, 9)]
    assert _spans(stand_head, 3) == [(2, 5), (5, 9)]
    assert _spans(stand_head, 3, {"5-9"}) == [(2, 9)]
    assert _spans(stand_head, 1) is None
    assert _spans(stand_head, 0) == [(0, 9)]
    assert _spans(stand_head, 0, {"0-9"}) is None


def _blob(low: int, high: int, size: int) -> heads.Blob:
    return heads.Blob(f"{low}-{high}", size, low, high, 1)


def _spans(head: Head, from_seq: int, without: set[str] | None = None) -> list[tuple[int, int]] | None:
    plan = heads.plan(head, from_seq, without or set())
    return [(blob.from_seq, blob.to_seq) for blob in plan.blobs] if plan else None
