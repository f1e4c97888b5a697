"""The ledger of erasures: read with the root certificate alone, and no change of its files goes unseen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from tests.clocks import SetClock

from rocade.core.errors import Corrupt, Unavailable
from rocade.core.ports import SystemClock, SystemRandom
from rocade.trust.authority.erasure import LedgerFiles, entries_after, read_ledger
from rocade.trust.authority.region import create_region
from rocade.trust.identity.directory import load_root


class Made:
    def __init__(self, folder: Path, name: str = "eu") -> None:
        create_region(folder / "trust", name, "rocade.test", SystemClock(), SystemRandom())
        self.clock, self.directory = SetClock(1_000), folder / "erasures"
        self.root = load_root(folder / "trust" / "trust.pem")
        self.files = LedgerFiles(self.directory, folder / "trust" / "audit", self.clock)

    def fill(self) -> None:
        for erasure in ("a", "b", "c"):
            self.files.append("ordered", erasure, f"vehicle:{ord(erasure)}", renewed=7)
            self.clock.at_us += 1_000
        self.files.append("done", "a", "vehicle:97", facts={"rows": 5})


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def test_what_was_written_is_read_with_the_root_certificate_alone(made: Made) -> None:
    made.fill()
    ledger = read_ledger(made.directory, made.root)
    assert [(one.number, one.state, one.erasure, one.at_us) for one in ledger.entries] == [
        (1, "ordered", "a", 1_000), (2, "ordered", "b", 2_000), (3, "ordered", "c", 3_000), (4, "done", "a", 4_000),
    ]  # fmt: skip
    assert ledger.until_us == 4_000


def test_an_entry_repeated_is_written_once(made: Made) -> None:
    first = made.files.append("ordered", "a", "vehicle:1")
    made.clock.at_us = 9_000
    assert made.files.append("ordered", "a", "vehicle:1") == first
    assert len(read_ledger(made.directory, made.root).entries) == 1


def test_two_processes_write_one_ledger(made: Made, tmp_path: Path) -> None:
    other = LedgerFiles(made.directory, tmp_path / "trust" / "audit", made.clock)
    for number in range(3):
        made.files.append("ordered", f"mine-{number}", "vehicle:1")
        other.append("ordered", f"theirs-{number}", "vehicle:2")
    assert other.append("ordered", "mine-0", "vehicle:1").number == 1
    assert len(read_ledger(made.directory, made.root).entries) == 6


def test_a_ledger_put_back_from_a_copy_is_gone_on_with_as_it_is(made: Made) -> None:
    made.files.append("ordered", "a", "vehicle:1")
    copy = {path: path.read_bytes() for path in made.directory.iterdir()}
    made.files.append("ordered", "b", "vehicle:2")
    made.files.append("ordered", "c", "vehicle:3")
    for path, content in copy.items():
        path.write_bytes(content)
    assert made.files.append("ordered", "b", "vehicle:2").number == 2
    assert [one.erasure for one in read_ledger(made.directory, made.root).entries] == ["a", "b"]


def test_a_beat_says_that_nothing_else_was_erased_until_now(made: Made) -> None:
    made.files.beat()
    made.clock.at_us = 60_000
    made.files.beat()
    ledger = read_ledger(made.directory, made.root)
    assert (ledger.entries, ledger.until_us) == ((), 60_000)


@pytest.mark.parametrize(
    ("copied_us", "again"), [(500, ["a", "b", "c"]), (3_500, ["a", "b", "c"]), (4_001, ["b", "c"])]
)
def test_a_copy_erases_again_what_was_not_complete_when_it_was_made(
    made: Made, copied_us: int, again: list[str]
) -> None:
    made.fill()
    assert [one.erasure for one in entries_after(read_ledger(made.directory, made.root), copied_us)] == again


def test_a_line_cut_off_by_a_crash_is_none_and_is_removed_by_the_next_write(made: Made) -> None:
    made.fill()
    with (made.directory / "ledger").open("ab") as file:
        file.write(b'{"payload')
    assert len(read_ledger(made.directory, made.root).entries) == 4
    made.files.append("done", "b", "vehicle:98")
    assert len(read_ledger(made.directory, made.root).entries) == 5


def test_an_entry_without_its_head_still_counts(made: Made) -> None:
    """The crash between both writes."""
    made.fill()
    head = (made.directory / "head").read_bytes()
    made.clock.at_us = 8_000
    made.files.append("ordered", "d", "vehicle:4")
    (made.directory / "head").write_bytes(head)
    ledger = read_ledger(made.directory, made.root)
    assert (ledger.entries[-1].erasure, ledger.until_us) == ("d", 8_000)


def _edit(content: bytes) -> bytes:
    return content.replace(b'"payload":"', b'"payload":"A', 1)


def _drop(content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join([*lines[:1], *lines[2:]])


def _swap(content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join([lines[1], lines[0], *lines[2:]])


def _cut(content: bytes) -> bytes:
    return b"".join(content.splitlines(keepends=True)[:-1])


def _repeat(content: bytes) -> bytes:
    return content + content.splitlines(keepends=True)[-1]


@pytest.mark.parametrize("change", [_edit, _drop, _swap, _cut, _repeat])
def test_no_change_of_the_lines_goes_unseen(made: Made, change: Callable[[bytes], bytes]) -> None:
    made.fill()
    path = made.directory / "ledger"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(Corrupt, match=r"erasure\.ledger\.broken"):
        read_ledger(made.directory, made.root)


def test_another_regions_ledger_is_not_believed(made: Made, tmp_path: Path) -> None:
    other = Made(tmp_path / "other", "cn")
    other.fill()
    with pytest.raises(Corrupt, match=r"erasure\.ledger\.broken"):
        read_ledger(other.directory, made.root)


def test_a_missing_ledger_is_said_to_be_missing(made: Made) -> None:
    with pytest.raises(Unavailable, match=r"erasure\.ledger\.missing"):
        read_ledger(made.directory, made.root)


def test_a_turned_bit_is_found_by_who_reads_and_by_who_writes_and_never_signed_over(made: Made) -> None:
    made.fill()
    whole = {name: (made.directory / name).read_bytes() for name in ("ledger", "head", "signers")}
    entries, dice = read_ledger(made.directory, made.root).entries, Random(22)
    found = dict.fromkeys(whole, 0)
    for name, content in whole.items():
        bits = dice.sample(range(len(content) * 8), 30)
        bits += range(len(content) * 8 - 8, len(content) * 8)  # the end of the last line too
        for bit in bits:
            turned = bytearray(content)
            turned[bit // 8] ^= 1 << bit % 8
            (made.directory / name).write_bytes(turned)
            try:
                assert read_ledger(made.directory, made.root).entries == entries
            except Corrupt as error:
                found[name] += error.code == "erasure.ledger.broken"
            try:
                made.files.beat()
                assert read_ledger(made.directory, made.root).entries == entries, f"{name}, bit {bit}: signed over"
            except Corrupt:
                assert name != "signers", "written anew by the next beat"
                assert (made.directory / "ledger").read_bytes() == (turned if name == "ledger" else whole["ledger"])
            for each, before in whole.items():
                (made.directory / each).write_bytes(before)
    assert found["ledger"] == 38, "every bit of the entries counts"
    assert found["head"] > 25
    assert found["signers"] > 15
