"""The issuer table: what may stand in it, and who may write it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from rocade.core.errors import Refused
from rocade.core.ports import SystemClock, SystemRandom
from rocade.trust.authority.region import DAY_US, Region, _authority, create_region
from rocade.trust.identity.issuers import Entry, IssuerTable, Table, pem_of, seal_table
from rocade.trust.identity.keys import PrivateKey, new_key, read_private

NOW_US = SystemClock().now_us()


@pytest.fixture
def region(tmp_path: Path) -> Region:
    return create_region(tmp_path / "trust", "eu", "rocade.test", SystemClock(), SystemRandom())


@pytest.fixture
def root_key(region: Region, tmp_path: Path) -> PrivateKey:
    assert region.trust_domain
    return read_private(tmp_path / "trust" / "root" / "key.pem")


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


def test_a_wrong_key_in_an_intermediate_is_refused(region: Region, root_key: PrivateKey) -> None:
    root = region.issuers.root
    other_curve, key, other = ec.generate_private_key(ec.SECP384R1()), new_key(), new_key()
    by_curve = built(other_curve.public_key(), root_key, root.subject, other_curve.public_key())
    by_name = built(key.public_key(), root_key, root.subject, other.public_key())
    for certificate in (by_curve, by_name):
        assert (
            refused(region, root_key, Entry("eu", "vehicle", "operational", pem_of(certificate)))
            == "trust.issuers.entry"
        )
    good = built(key.public_key(), root_key, root.subject, key.public_key())
    sealed = seal_table(
        Table("rocade.test", 2, NOW_US, (Entry("eu", "vehicle", "operational", pem_of(good)),)), root_key
    )
    assert IssuerTable.load(sealed, root).version == 2


def test_a_root_that_is_no_authority_or_has_an_odd_key_is_refused(region: Region) -> None:
    odd, key = ed25519.Ed25519PrivateKey.generate(), new_key()
    name = region.issuers.root.subject
    no_authority = built(key.public_key(), key, name, key.public_key(), ca=False, subject=name)
    odd_key = built(odd.public_key(), odd, name, key.public_key(), subject=name)
    not_its_own = built(key.public_key(), new_key(), name, key.public_key(), subject=name)
    for root in (no_authority, odd_key, not_its_own):
        with pytest.raises(Refused, match=r"trust\.issuers\.root"):
            IssuerTable.load(region.issuers.sealed, root)


def built(
    key: Any, signer: Any, issuer: x509.Name, named_key: Any, *, ca: bool = True, subject: x509.Name | None = None
) -> x509.Certificate:
    """A certificate whose subject key id is that of `named_key`."""
    begin = datetime.fromtimestamp(NOW_US // 1_000_000, UTC)
    usage = x509.KeyUsage(
        key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "middle")]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(named_key), critical=False)
    )
    return builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())


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
