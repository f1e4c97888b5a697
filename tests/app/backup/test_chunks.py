"""Chunks and trees: what comes back is what went out, or is refused with its reason."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from threading import Semaphore

import pytest

from rocade.app.backup import chunks, trees
from rocade.app.backup.chunks import Cutter, Sealer, pieces, read_sealed
from rocade.app.backup.model import Chunk
from rocade.app.backup.place import Bucket, Folder, open_place
from rocade.core.errors import Corrupt, RocadeError, Unavailable

KEY = bytes(range(32))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(trees, "OWN_BYTES", 2000)


async def sent(sealer: Sealer, content: bytes, step: int = 333) -> tuple[Chunk, ...]:
    async with Cutter(sealer, lambda _: None) as cutter:
        for at in range(0, len(content), step):
            await cutter.add(content[at : at + step])
        return await cutter.finish()


async def received(sealer: Sealer, made: tuple[Chunk, ...]) -> bytes:
    return b"".join([piece async for piece in pieces(sealer, made, lambda _: None)])


@pytest.mark.parametrize("content", [b"", b"x", os.urandom(1000), os.urandom(10_001), b"same" * 5_000])
async def test_a_stream_comes_back_whatever_its_length(tmp_path: Path, content: bytes) -> None:
    sealer = Sealer(Folder(tmp_path), "b", 5, KEY)
    assert await received(sealer, await sent(sealer, content)) == content


async def test_chunks_are_sealed_and_nothing_of_them_can_be_read(tmp_path: Path) -> None:
    made = await sent(Sealer(Folder(tmp_path), "b", 5, KEY), b"VF1AAAAAAAA000001 " * 500)
    files = [source.path for source in trees.below(tmp_path)]
    assert files
    assert not any(b"VF1A" in path.read_bytes() for path in files)
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    assert sum(chunk.size_bytes for chunk in made) == 9000


async def test_what_is_there_already_is_not_written_again_unless_it_is_broken(tmp_path: Path) -> None:
    content = os.urandom(5_000)
    made = await sent(Sealer(Folder(tmp_path), "b", 5, KEY), content)
    broken = tmp_path / "b/chunks" / made[2].name
    broken.write_bytes(broken.read_bytes()[:-3])
    again = Sealer(Folder(tmp_path), "b", 5, KEY)
    second = await sent(again, content)
    assert again.kept == 4
    assert [chunk.name for chunk in second] == [chunk.name for chunk in made]
    assert await received(again, second) == content


async def test_the_same_content_twice_at_once_is_one_chunk(tmp_path: Path) -> None:
    sealer = Sealer(Folder(tmp_path), "b", 5, KEY)
    made = await sent(sealer, bytes(8_000), 1000)
    assert len(set(made)) == 1
    assert await received(sealer, made) == bytes(8_000)


def _flip(content: bytes) -> bytes:
    return content[:100] + bytes([content[100] ^ 1]) + content[101:]


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (_flip, "backup.chunk"),
        (lambda content: content[:-1], "backup.chunk"),
        (lambda content: content + b"x", "backup.chunk"),
        (lambda _: None, "backup.chunk"),
    ],
    ids=["a flipped bit", "cut off", "longer", "missing"],
)
async def test_a_chunk_that_is_not_what_was_written_is_found(
    tmp_path: Path, harm: Callable[[bytes], bytes | None], code: str
) -> None:
    sealer = Sealer(Folder(tmp_path), "b", 5, KEY)
    made = await sent(sealer, os.urandom(3_000))
    victim = tmp_path / "b/chunks" / made[1].name
    harmed = harm(victim.read_bytes())
    victim.unlink()
    if harmed is not None:
        victim.write_bytes(harmed)
    with pytest.raises(Corrupt) as refusal:
        await received(sealer, made)
    assert refusal.value.code == code
    with pytest.raises(Corrupt):
        read_sealed(Folder(tmp_path), "b", made[1])


async def test_another_key_or_another_number_opens_nothing(tmp_path: Path) -> None:
    made = await sent(Sealer(Folder(tmp_path), "b", 5, KEY), os.urandom(3_000))
    for number, key in ((5, bytes(32)), (6, KEY)):
        with pytest.raises(Corrupt) as refusal:
            await received(Sealer(Folder(tmp_path), "b", number, key), made)
        assert refusal.value.code == "backup.key"


async def test_a_full_place_is_said_and_what_was_written_counts_in_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, room = os.urandom(5_000), Semaphore(3)
    write = Folder.put

    def put(self: Folder, name: str, body: bytes) -> None:
        if not room.acquire(blocking=False):
            raise Unavailable("backup.full", "no room")
        write(self, name, body)

    monkeypatch.setattr(Folder, "put", put)
    with pytest.raises(Unavailable, match="no room"):
        await sent(Sealer(Folder(tmp_path), "b", 5, KEY), content)
    room.release(100)
    again = Sealer(Folder(tmp_path), "b", 5, KEY)
    assert await received(again, await sent(again, content)) == content
    assert again.kept == 3


async def test_nothing_is_written_any_more_once_an_attempt_was_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_refuse, write = Semaphore(1), Folder.put

    def put(self: Folder, name: str, body: bytes) -> None:
        if to_refuse.acquire(blocking=False):
            raise Unavailable("backup.full", "no room")
        time.sleep(0.2)  # still on its way while the other is refused
        write(self, name, body)

    monkeypatch.setattr(Folder, "put", put)
    with pytest.raises(Unavailable, match="no room"):
        await sent(Sealer(Folder(tmp_path), "b", 5, KEY), os.urandom(2_000), 1_000)
    assert len(Folder(tmp_path).names()) == 1, "what was on its way is there before the attempt ends, not after it"


async def test_files_and_links_come_back_with_their_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    (home / "deep/er").mkdir(parents=True)
    (home / "deep/er/big").write_bytes(os.urandom(5_500))
    (home / "deep/secret").write_bytes(b"key")
    (home / "deep/secret").chmod(0o600)
    (home / "empty").touch()
    (home / "link").symlink_to("deep/er")
    sealer = Sealer(Folder(tmp_path / "place"), "b", 5, KEY)
    async with Cutter(sealer, lambda _: None) as cutter:
        await trees.send(trees.below(home, "in"), cutter)
        made = await cutter.finish()
    synced = list[int]()
    monkeypatch.setattr(os, "sync", lambda: synced.append(len([*(tmp_path / "back").rglob("*")])))
    count = await trees.receive(pieces(sealer, made, lambda _: None), tmp_path / "back")
    assert count == 4
    assert synced == [7], "all of it is on disk before anybody writes down that it is there"
    back = tmp_path / "back/in"
    assert (back / "deep/er/big").read_bytes() == (home / "deep/er/big").read_bytes()
    assert (back / "deep/secret").stat().st_mode & 0o777 == 0o600
    assert (back / "empty").read_bytes() == b""
    assert (back / "link").readlink() == Path("deep/er")
    assert [source.name for source in trees.below(home, skip=("deep",))] == ["empty", "link"]


def test_a_file_that_goes_while_it_is_listed_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stays").write_bytes(b"12345")
    (tmp_path / "goes").write_bytes(b"123")
    listed, walk = trees.below(tmp_path), os.walk

    def walk_late(directory: Path) -> Iterator[tuple[str, list[str], list[str]]]:
        for folder, folders, files in walk(directory):
            (tmp_path / "goes").unlink()
            yield folder, folders, files

    monkeypatch.setattr(os, "walk", walk_late)
    assert [source.name for source in trees.below(tmp_path)] == ["stays"]
    assert trees.total_bytes(listed) == 5


async def whole(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), 7):
        yield content[at : at + 7]


@pytest.mark.parametrize(
    "content",
    [
        trees._HEAD.pack(9, 0o100600, 1) + b"../escape" + b"x",
        trees._HEAD.pack(9, 0o100600, 1) + b"/etc/evil" + b"x",
        trees._HEAD.pack(0, 0o100600, 1) + b"x",
        trees._HEAD.pack(1, 0o120777, 7) + b"a" + b"../../b",
        trees._HEAD.pack(1, 0o120777, 4) + b"a" + b"/etc",
        trees._HEAD.pack(1, 0o100600, 50) + b"a" + b"too short",
        b"\x00\x01",
    ],
    ids=["above", "absolute", "no name", "link above", "link to root", "cut off", "half a head"],
)
async def test_a_tree_that_leads_elsewhere_or_ends_early_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Corrupt) as refusal:
        await trees.receive(whole(content), tmp_path / "back")
    assert refusal.value.code == "backup.tree"
    assert not (tmp_path / "escape").exists()


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_a_place_is_a_folder_or_a_bucket(tmp_path: Path, kind: str) -> None:
    url = f"file://{tmp_path}/p"
    place = open_place(url) if kind == "folder" else Bucket(url)
    place.put("a/b", b"1")
    place.put("a/c/d", b"2")
    place.put("a/c/d", b"3")
    assert place.names() == ["a/b", "a/c/d"]
    assert place.names("a/c") == ["a/c/d"]
    assert place.get("a/c/d") == b"3"
    assert place.get("a/none") is None
    place.remove(["a/c/d", "a/gone"])
    assert place.names() == ["a/b"]


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RocadeError) as refusal:
        Folder(tmp_path / "file").put("a", b"")
    assert refusal.value.code == "backup.place"
