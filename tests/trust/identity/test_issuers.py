"""The issuer table: what may stand in it, and who may write it."""

from pathlib import Path

import msgspec
import pytest
from cryptography import x509

from rocade.core.errors import Refused
from rocade.core.ports import SystemClock, SystemRandom
from rocade.trust.authority.region import DAY_US, Region, _authority, create_region
from rocade.trust.identity.issuers import Entry, IssuerTable, Table, pem_of, seal_table
from rocade.trust.identity.keys import FileCustody, PrivateKey, new_key

NOW_US = SystemClock().now_us()


@pytest.fixture
def region(tmp_path: Path) -> Region:
    return create_region(tmp_path / "trust", "eu", "rocade.test", SystemClock(), SystemRandom())


@pytest.fixture
def root_key(region: Region, tmp_path: Path) -> PrivateKey:
    assert region.trust_domain
    return FileCustody(tmp_path / "trust" / "root").load("key")


def middle(root: x509.Certificate | None, signer: PrivateKey) -> str:
    """An intermediate by `signer` below `root`, or a self-signed root if None."""
    return pem_of(_authority(new_key().public_key(), "middle", root, signer, NOW_US, DAY_US, SystemRandom()))


def refused(region: Region, root_key: PrivateKey, entry: Entry) -> str:
    sealed = seal_table(Table("rocade.test", 2, NOW_US, (entry,)), root_key)
    with pytest.raises(Refused) as found:
        IssuerTable.load(sealed, region.issuers.root)
    return found.value.code


def test_only_intermediates_of_the_root_may_stand_in_the_table(region: Region, root_key: PrivateKey) -> None:
    root = region.issuers.root
    leaf = region.issue(new_key().public_key(), region.identity("vehicle", "X")).chain_pem.decode()
    wrong = {
        "signed by another": Entry("eu", "vehicle", "operational", middle(root, new_key())),
        "a leaf": Entry("eu", "vehicle", "operational", leaf),
        "the root itself (path length 1)": Entry("eu", "vehicle", "operational", pem_of(root)),
        "no certificate": Entry("eu", "vehicle", "operational", "nothing"),
        "an unknown kind": Entry("eu", "emperor", "operational", middle(root, root_key)),
    }
    assert {name: refused(region, root_key, entry) for name, entry in wrong.items()} == dict.fromkeys(
        wrong, "trust.issuers.entry"
    )


def test_only_the_root_writes_the_table(region: Region) -> None:
    table = region.issuers.table
    assert seal_refused(region, seal_table(table, new_key())) == "trust.envelope.signer"
    assert seal_refused(region, b"{}") == "trust.envelope.malformed"
    other = create_other_root(region)
    with pytest.raises(Refused, match=r"trust\.envelope\.signer"):
        IssuerTable.load(region.issuers.sealed, other)


def test_a_table_of_a_later_version_of_rocade_is_refused_not_half_read(region: Region, root_key: PrivateKey) -> None:
    from rocade.trust.identity import envelope, issuers

    content = {**msgspec.to_builtins(region.issuers.table), "new_rule": True}
    sealed = envelope.seal(issuers.PAYLOAD_TYPE, msgspec.json.encode(content), root_key)
    assert seal_refused(region, sealed) == "trust.issuers.malformed"


def seal_refused(region: Region, sealed: bytes) -> str:
    with pytest.raises(Refused) as found:
        IssuerTable.load(sealed, region.issuers.root)
    return found.value.code


def create_other_root(region: Region) -> x509.Certificate:
    """A root of the same name with another key."""
    name = region.issuers.root.subject.rfc4514_string().removeprefix("CN=")
    key = new_key()
    return _authority(key.public_key(), name, None, key, NOW_US, DAY_US, SystemRandom())
