"""Files of keys and trust are the old ones or the new ones, also where the disk takes only half of them or cannot flush."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rocade.core.errors import Corrupt
from rocade.core.ports import SystemRandom
from rocade.trust.identity.keys import create_secret, read_secret, write_atomically


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_file_whose_writing_fails_stays_the_old_one_and_leaves_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "issuers.json"
    write_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), fail)
        with pytest.raises(OSError, match="Input/output"):
            write_atomically(path, b"new and longer")
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("issuers.json", b"old")]


def test_a_secret_is_made_once_and_an_older_one_gets_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secret"
    create_secret(path, SystemRandom())
    secret = read_secret(path)
    with pytest.raises(FileExistsError):
        create_secret(path, SystemRandom())
    assert [one.name for one in path.parent.iterdir()] == ["secret"]
    path.write_bytes(secret)
    assert read_secret(path) == read_secret(path) == secret
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(Corrupt, match=r"trust\.secret\.damaged"):
        read_secret(path)
