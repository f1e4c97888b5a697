"""Every file of somebody's folder, and what a turned bit in it does: refused with a code, detected by whom, or harmless and why.

A table of `Kind`s says it; `said_of_all` fails for a file that no line speaks of, `turn_bits` tries the lines that have a judge.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from random import Random
from typing import NamedTuple

from rocade.core.errors import RocadeError

type Judge = Callable[[Path, Path], object]
"""`judge(folder, file)`: what the platform has of the file, or what it refuses with."""
ROOT = Path(__file__).parents[1]


class Kind(NamedTuple):
    """`codes`: what a turned bit is refused with. A bit that is not is harmless: what is read is what was written."""

    files: str
    judge: Judge | None
    codes: str
    always: bool = False
    """Every bit counts."""
    tested: str = ""
    """Where it is tested, if not here; why it need not be."""


def kind_of(kinds: Sequence[Kind], name: str) -> Kind:
    return next((kind for kind in kinds if fnmatch(name, kind.files)), Kind(name, None, ""))


def files_of(directory: Path) -> list[str]:
    return sorted(
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if not path.name.endswith(".new") and path.is_file()
    )


def said_of_all(kinds: Sequence[Kind], directory: Path) -> None:
    unknown = [name for name in files_of(directory) if not any(kind_of(kinds, name)[1:])]
    assert not unknown, f"no line speaks of {unknown}"
    for kind in kinds:
        assert not kind.tested.startswith("tests/") or (ROOT / kind.tested).exists()


def turn_bits(kinds: Sequence[Kind], kind: Kind, place: Path, bits: int) -> None:
    """Turn so many bits of the files of one kind, one at a time, and judge each."""
    names = [name for name in files_of(place) if kind_of(kinds, name) is kind]
    assert names, f"the folder has no {kind.files}"
    seed = int(os.environ.get("ROCADE_SEED") or 4)
    dice, outcomes = Random(seed), Counter[str]()
    print(f"seed {seed}")
    assert kind.judge is not None
    for name in names:
        file, content = place / name, (place / name).read_bytes()
        good = kind.judge(place, file)
        for bit in dice.sample(range(len(content) * 8), min(len(content) * 8, max(4, bits // len(names)))):
            turned = bytearray(content)
            turned[bit // 8] ^= 1 << bit % 8
            file.write_bytes(turned)
            try:
                assert kind.judge(place, file) == good, f"{name}, bit {bit}: another value is taken for the one written"
                outcomes["harmless"] += 1
            except RocadeError as error:
                outcomes["refused" if re.match(kind.codes, error.code) else f"{name}, bit {bit}: {error.code}"] += 1
            file.write_bytes(content)
    print(kind.files, dict(outcomes))
    assert not kind.always or outcomes["harmless"] == 0
    assert outcomes.keys() <= {"refused", "harmless"}
    assert outcomes["refused"] > 0 or kind.codes.startswith("nothing")
