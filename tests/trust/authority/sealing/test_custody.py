"""Every custody keeps the same promises: a file's and a token's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.trust.authority.sealing.soft_token import SoftToken

from rocade.core.errors import Corrupt, Misconfigured, Unavailable
from rocade.trust.authority.sealing import FileCustody, RegionCustody
from rocade.trust.authority.sealing.pkcs11 import Pkcs11Custody

KEY, AAD = bytes(range(32)), b"bucket 7"


@pytest.fixture
def token(tmp_path: Path) -> Iterator[SoftToken]:
    with SoftToken.made(tmp_path) as token:
        yield token


@pytest.fixture(params=["file", "token"])
def custody(request: pytest.FixtureRequest, tmp_path: Path) -> RegionCustody:
    if request.param == "file":
        return FileCustody(tmp_path / "custody")
    return request.getfixturevalue("token").custody("eu")  # type: ignore[no-any-return]  # a fixture's value


def test_versions_are_made_used_and_destroyed(custody: RegionCustody) -> None:
    assert (custody.current(), custody.versions()) == (0, [])
    assert [custody.create(), custody.create()] == [1, 2]
    first, second = custody.wrap(1, KEY, AAD), custody.wrap(2, KEY, AAD)
    assert KEY not in first
    assert custody.wrap(1, KEY, AAD) != first
    assert custody.unwrap(1, first, AAD) == custody.unwrap(2, second, AAD) == KEY
    custody.destroy(1)
    custody.destroy(1)
    assert custody.versions() == [2]
    with pytest.raises(Unavailable, match=r"custody\.refused: custody holds no region key 1"):
        custody.unwrap(1, first, AAD)
    assert custody.unwrap(2, second, AAD) == KEY


def test_what_was_wrapped_opens_unchanged_and_in_its_place_only(custody: RegionCustody) -> None:
    version = custody.create()
    wrapped = custody.wrap(version, KEY, AAD)
    for bad, place in ((wrapped, b"bucket 8"), (wrapped[:-1] + bytes([wrapped[-1] ^ 1]), AAD), (wrapped[::-1], AAD)):
        with pytest.raises(Corrupt, match=r"custody\.wrap"):
            custody.unwrap(version, bad, place)
    assert custody.unwrap(version, wrapped, AAD) == KEY


def test_a_mount_taken_away_is_down_and_comes_back(tmp_path: Path) -> None:
    custody = FileCustody(tmp_path / "custody")
    wrapped = custody.wrap(custody.create(), KEY, AAD)
    (tmp_path / "custody").rename(tmp_path / "away")
    with pytest.raises(Unavailable, match=r"custody\.down"):
        custody.unwrap(1, wrapped, AAD)
    (tmp_path / "away").rename(tmp_path / "custody")
    assert custody.unwrap(1, wrapped, AAD) == KEY


def test_a_region_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    custody = FileCustody(tmp_path)
    custody.create()
    (tmp_path / "1.key").chmod(0o640)
    with pytest.raises(Misconfigured, match=r"custody\.exposed"):
        custody.wrap(1, KEY, AAD)


def test_a_folder_holds_the_key_of_one_region(tmp_path: Path) -> None:
    ours = FileCustody(tmp_path, "eu's root")
    wrapped = ours.wrap(ours.create(), KEY, AAD)
    with pytest.raises(Misconfigured, match=r"custody\.foreign"):
        FileCustody(tmp_path, "cn's root").create()
    with pytest.raises(Misconfigured, match=r"custody\.foreign"):
        FileCustody(tmp_path, "cn's root").versions()
    assert {file.name for file in ours.files()} == {"region", "1.key"}
    assert ours.unwrap(1, wrapped, AAD) == KEY


def test_the_key_does_not_leave_its_token(token: SoftToken) -> None:
    pkcs11 = pytest.importorskip("pkcs11")
    custody = token.custody("eu")
    custody.create()
    key = custody._key(1)
    assert key[pkcs11.Attribute.EXTRACTABLE] is False
    with pytest.raises(pkcs11.exceptions.AttributeSensitive):
        key[pkcs11.Attribute.VALUE]
    assert custody.files() == []


def test_regions_on_one_token_do_not_see_each_others_keys(token: SoftToken) -> None:
    eu, cn = token.custody("eu"), token.custody("cn")
    wrapped = eu.wrap(eu.create(), KEY, AAD)
    assert cn.versions() == []
    assert cn.create() == 1
    with pytest.raises(Corrupt, match=r"custody\.wrap"):
        cn.unwrap(1, wrapped, AAD)
    assert eu.unwrap(1, wrapped, AAD) == KEY


def new_session(custody: Pkcs11Custody) -> None:
    """As after some seconds."""
    custody._opened_s = float("-inf")


def test_the_holder_cuts_access_and_gives_it_back(token: SoftToken) -> None:
    custody = token.custody("eu")
    wrapped = custody.wrap(custody.create(), KEY, AAD)
    token.cut()
    new_session(custody)
    with pytest.raises(Unavailable, match=r"custody\.refused: the token refuses the PIN"):
        custody.unwrap(1, wrapped, AAD)
    with pytest.raises(Unavailable, match=r"custody\.refused: .* tried again when the PIN file is written"):
        custody.unwrap(1, wrapped, AAD)
    token.allow()
    assert custody.unwrap(1, wrapped, AAD) == KEY


def test_a_token_pulled_out_is_down_and_comes_back(token: SoftToken) -> None:
    custody = token.custody("eu")
    wrapped = custody.wrap(custody.create(), KEY, AAD)
    token.unplug()
    new_session(custody)
    with pytest.raises(Unavailable, match=r"custody\.down"):
        custody.unwrap(1, wrapped, AAD)
    token.plug()
    assert custody.unwrap(1, wrapped, AAD) == KEY


def test_wrong_settings_of_a_token_say_what_is_wrong(token: SoftToken, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"custody\.library"):
        Pkcs11Custody(str(tmp_path / "no.so"), "t", token.pin_file, "eu").versions()
    with pytest.raises(Unavailable, match=r"custody\.down: .*NoSuchToken"):
        Pkcs11Custody(token.library, "no such", token.pin_file, "eu").versions()
    with pytest.raises(Unavailable, match=r"custody\.refused: no PIN"):
        Pkcs11Custody(token.library, "held elsewhere", tmp_path / "none", "eu").versions()
    token.pin_file.chmod(0o644)
    with pytest.raises(Misconfigured, match=r"custody\.exposed"):
        token.custody("eu").versions()
