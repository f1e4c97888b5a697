"""One contract for every engine of blobs; and what a folder has to be besides."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from rocade.core.errors import Misconfigured, Refused
from rocade.fabric.blobs import Blob, Blobs, open_blobs


@pytest.fixture(params=["file", "memory"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return open_blobs(f"file://{tmp_path}/blobs" if request.param == "file" else "memory:///")


async def names(blobs: Blobs, prefix: str = "") -> set[Blob]:
    return {one async for one in blobs.list(prefix)}


async def test_what_was_put_is_got_listed_by_folder_and_deleted(blobs: Blobs) -> None:
    await blobs.put("road/07/a.records", b"0123456789")
    await blobs.put("road/07/b.records", b"")
    await blobs.put("road/071/c", b"c")
    assert await blobs.get("road/07/a.records") == b"0123456789"
    assert await blobs.get("road/07/a.records", 3, 6) == b"345"
    assert await blobs.get("road/07/a.records", 8) == b"89"
    assert await blobs.get("road/07/b.records") == b""
    assert await names(blobs, "road/07") == {Blob("road/07/a.records", 10), Blob("road/07/b.records", 0)}
    assert len(await names(blobs)) == 3
    await blobs.delete("road/07/a.records")
    await blobs.delete("road/07/a.records")
    assert await names(blobs, "road/07") == {Blob("road/07/b.records", 0)}
    with pytest.raises(Refused, match=r"blobs\.absent"):
        await blobs.get("road/07/a.records")


async def test_the_same_object_again_changes_nothing(blobs: Blobs) -> None:
    for _ in range(2):
        await blobs.put("once", b"same")
    assert await blobs.get("once") == b"same"
    assert await names(blobs) == {Blob("once", 4)}


@pytest.mark.parametrize("name", ["", "/etc", "../out", "a/../b", "a//b", "a/", ".hidden", "a b", "é", "x" * 600])
async def test_names_that_lead_elsewhere_are_refused(blobs: Blobs, name: str) -> None:
    for act in (blobs.put(name, b""), blobs.get(name), blobs.delete(name)):
        with pytest.raises(Refused, match=r"blobs\.name"):
            await act


async def test_a_folder_is_its_owners_alone_and_holds_no_half_objects(tmp_path: Path) -> None:
    blobs = open_blobs(f"file://{tmp_path}/blobs")
    await blobs.put("a/b", b"whole")
    assert stat.S_IMODE((tmp_path / "blobs").stat().st_mode) == 0o700
    assert [path.name for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == ["b"]


@pytest.mark.parametrize("url", ["", "blobs", "ftp://host/x", "s3://"])
def test_an_address_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured, match=r"blobs\.url"):
        open_blobs(url)
