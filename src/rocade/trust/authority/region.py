"""A region's certificate authority on disk: offline root, one intermediate per kind, the signed issuer table.

    root/key.pem                          the root's key; needed by `create_region` and `roll` only, to be kept elsewhere
    issuers/<key id>.pem                  keys of the intermediates
    audit/                                key and kept hashes of the audit log (`heads`)
    issuers.json, trust.pem               what every party gets: signed table and root certificate

`Region` signs leaves in process, about ten thousand a second, and needs no database; `Authority` adds the rules.
A roll adds a new intermediate to the table and signs it; the old one stays in it until its last leaf has ended, so
nobody is cut off. Profile and lifetimes: docs/decisions/0007-certificates.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rocade.core.errors import Misconfigured, Refused
from rocade.core.identifiers import KINDS, Identity
from rocade.core.ports import Clock, Random
from rocade.trust.authority.heads import create_key
from rocade.trust.identity.directory import Credential, load_leaf, names_of, renewal_due_us, stamp_of
from rocade.trust.identity.issuers import Entry, Issuer, IssuerTable, Purpose, Table, pem_of, seal_table, to_us
from rocade.trust.identity.keys import (
    Custody,
    FileCustody,
    PrivateKey,
    PublicKey,
    create_private,
    new_key,
    read_private,
    to_pem,
    write_atomically,
)
from rocade.trust.identity.names import read_name

DAY_US = 86_400_000_000
BACKDATED_US = 300_000_000
"""A leaf begins five minutes ago: a car's clock may be behind."""
ROOT_LIFE_US = 25 * 365 * DAY_US
ISSUER_LIFE_US = {"operational": 5 * 365 * DAY_US, "birth": 24 * 365 * DAY_US}
LEAF_LIFE_US = {
    "vehicle": 60 * DAY_US,
    "dealer": 90 * DAY_US,
    "partner": 7 * DAY_US,
    "operator": 7 * DAY_US,
    "service": 7 * DAY_US,
    "station": 180 * DAY_US,
}
BIRTH_LIFE_US = 20 * 365 * DAY_US
_EVERY_ISSUER: tuple[tuple[str, Purpose], ...] = (*((kind, "operational") for kind in KINDS), ("vehicle", "birth"))


class Issued(msgspec.Struct, frozen=True):
    """A new certificate and what identifies it."""

    serial: int
    not_before_us: int
    not_after_us: int
    issuer_key_id: bytes
    leaf_der: bytes
    chain_pem: bytes


class Region:
    """The running side of the authority: signs leaves with the current intermediates."""

    def __init__(self, directory: Path, clock: Clock, random: Random, custody: Custody | None = None) -> None:
        self._directory = directory
        self._clock = clock
        self._random = random
        self._custody = custody or FileCustody(directory / "issuers")
        self._stamp = (0, 0)
        self.reload()

    def reload(self) -> None:
        """Read table and keys again if the table changed, as after a roll.

        Raises: Misconfigured `trust.region.missing`; Refused as `IssuerTable.load`.
        """
        try:
            stamp = stamp_of(self._directory / "issuers.json")
            if stamp == self._stamp:
                return
            self.trust_pem = (self._directory / "trust.pem").read_bytes()
            sealed = (self._directory / "issuers.json").read_bytes()
        except FileNotFoundError:
            raise Misconfigured("trust.region.missing", "no region here; run `rocade init` first") from None
        self.issuers = IssuerTable.load(sealed, x509.load_pem_x509_certificate(self.trust_pem))
        self._signers = self._load_signers()
        self._stamp = stamp
        self.region = next(iter(self.issuers)).region
        self.trust_domain = self.issuers.trust_domain

    def _load_signers(self) -> dict[tuple[str, str], tuple[Issuer, PrivateKey, x509.AuthorityKeyIdentifier]]:
        """The newest intermediate of each kind and purpose whose key is here; later entries are newer."""
        signers: dict[tuple[str, str], tuple[Issuer, PrivateKey, x509.AuthorityKeyIdentifier]] = {}
        for issuer in self.issuers:
            if key := self._custody.find(issuer.key_id):
                identifier = x509.AuthorityKeyIdentifier(issuer.key_id, None, None)
                signers[issuer.kind, issuer.purpose] = issuer, key, identifier
        return signers

    def signer_name(self, kind: str) -> x509.Name:
        """Subject of the intermediate that issues for `kind` now."""
        return self._signers[kind, "operational"][0].certificate.subject

    def identity(self, kind: str, party_id: str) -> Identity:
        return Identity.parse(Identity(self.trust_domain, self.region, kind, party_id).uri)

    def issue(
        self,
        key: PublicKey,
        identity: Identity,
        *,
        hosts: Sequence[str] = (),
        purpose: Purpose = "operational",
        life_us: int | None = None,
    ) -> Issued:
        """Sign a leaf for `key`; `hosts` are names and addresses of a service.

        Raises: Refused `trust.authority.place` (another region's identity), `trust.authority.hosts`.
        """
        Identity.parse(identity.uri)
        if (identity.trust_domain, identity.region) != (self.trust_domain, self.region):
            raise Refused("trust.authority.place", f"this authority issues for {self.trust_domain}/{self.region} only")
        if hosts and identity.kind != "service":
            raise Refused("trust.authority.hosts", "only a service certificate may carry host names")
        if (identity.kind, purpose) not in self._signers:
            raise Refused("trust.authority.signer", f"no {purpose} issuer for {identity.kind} on this machine")
        issuer, signer, identifier = self._signers[identity.kind, purpose]
        now_us = self._clock.now_us()
        life_us = life_us or (BIRTH_LIFE_US if purpose == "birth" else LEAF_LIFE_US[identity.kind])
        begin = datetime.fromtimestamp((now_us - BACKDATED_US) // 1_000_000, UTC)
        end = datetime.fromtimestamp(min(now_us + life_us, issuer.not_after_us) // 1_000_000, UTC)
        serial = new_serial(self._random)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity.uri), *map(_host_name, hosts)]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_common_name(identity.id))
            .issuer_name(issuer.certificate.subject)
            .public_key(key)
            .serial_number(serial)
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_LEAF_USAGE, critical=True)
            .add_extension(_SERVICE_PURPOSE if identity.kind == "service" else _CLIENT_PURPOSE, critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(identifier, critical=False)
            .sign(signer, hashes.SHA256())
        )
        leaf = certificate.public_bytes(Encoding.DER)
        chain = certificate.public_bytes(Encoding.PEM) + issuer.pem.encode()
        return Issued(
            serial, to_us(certificate.not_valid_before_utc), to_us(certificate.not_valid_after_utc),
            issuer.key_id, leaf, chain,
        )  # fmt: skip

    def credential(
        self, identity: Identity, *, hosts: Sequence[str] = (), purpose: Purpose = "operational",
        life_us: int | None = None,
    ) -> Credential:  # fmt: skip
        """A new key with its certificate, all in memory."""
        key = new_key()
        issued = self.issue(key.public_key(), identity, hosts=hosts, purpose=purpose, life_us=life_us)
        return self.packed(key, issued)

    def packed(self, key: PrivateKey, issued: Issued) -> Credential:
        """What a party keeps: its key and chain, the root and the issuer table."""
        return Credential(to_pem(key), issued.chain_pem, self.trust_pem, self.issuers.sealed)


def issue_directory(region: Region, out: Path, identity: Identity, *, hosts: Sequence[str] = ()) -> None:
    """Write a ready identity directory. For services of this machine, tests and benchmarks; others enrol."""
    region.credential(identity, hosts=hosts).write(out)


def renew_server(region: Region, directory: Path, clock: Clock) -> bool:
    """Give the service in `directory` a new key and certificate when two thirds of its life are over, or after a roll.

    Its copy of the issuer table is kept current too. Returns whether the certificate is new.
    """
    region.reload()
    if (directory / "issuers.json").read_bytes() != region.issuers.sealed:
        write_atomically(directory / "issuers.json", region.issuers.sealed)
    leaf = load_leaf(directory)
    names = names_of(leaf)
    identity = read_name(names, "service")
    is_rolled = leaf.issuer != region.signer_name(identity.kind)
    if clock.now_us() < renewal_due_us(leaf) and not is_rolled:
        return False
    hosts = [str(name) for kind in (x509.DNSName, x509.IPAddress) for name in names.get_values_for_type(kind)]
    region.credential(identity, hosts=hosts).write(directory)
    return True


def create_region(
    directory: Path, region: str, trust_domain: str, clock: Clock, random: Random, *,
    custody: Custody | None = None, root_key: PrivateKey | None = None,
) -> Region:  # fmt: skip
    """Make root, intermediates and issuer table of a new region.

    `custody` keeps the intermediates' keys and `root_key` signs them, where files in `directory` are not wanted.
    Raises: Misconfigured `trust.region.exists`; Refused `trust.identity.malformed` for impossible names.
    """
    Identity.parse(Identity(trust_domain, region, "service", "probe").uri)
    if (directory / "root").exists() or (directory / "issuers.json").exists():
        raise Misconfigured("trust.region.exists", "there is a region here already; it is never overwritten")
    custody = custody or FileCustody(directory / "issuers")
    root_key = root_key or create_private(directory / "root" / "key.pem")
    now_us = clock.now_us()
    root = _authority(root_key.public_key(), f"Rocade {region} root", None, root_key, now_us, ROOT_LIFE_US, random)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(directory / "trust.pem", pem_of(root).encode())
    entries = tuple(
        _new_entry(custody, region, kind, purpose, root, root_key, clock, random) for kind, purpose in _EVERY_ISSUER
    )
    table = Table(trust_domain, 1, now_us, entries)
    write_atomically(directory / "issuers.json", seal_table(table, root_key))
    create_key(directory / "audit", root_key)
    return Region(directory, clock, random, custody)


def roll(
    directory: Path, kinds: Iterable[str], clock: Clock, random: Random, *, withdraw: bool = False,
    custody: Custody | None = None, root_key: PrivateKey | None = None,
) -> IssuerTable:  # fmt: skip
    """Give each of `kinds` a new intermediate; needs the root's key, from its folder or as `root_key`.

    The old ones stay in the table until their last leaf has ended (then the next roll drops them); `withdraw` drops
    them at once, for a key that leaked: their leaves are refused from then on.
    """
    root = x509.load_pem_x509_certificate((directory / "trust.pem").read_bytes())
    custody = custody or FileCustody(directory / "issuers")
    root_key = root_key or read_private(directory / "root" / "key.pem")
    old = IssuerTable.load((directory / "issuers.json").read_bytes(), root)
    rolled = {(kind, "operational") for kind in kinds}
    kept = [
        entry
        for issuer, entry in zip(old, old.table.issuers, strict=True)
        if not (withdraw and (entry.kind, entry.purpose) in rolled) and not _ended(issuer, old, clock.now_us())
    ]
    region = old.table.issuers[0].region
    fresh = [
        _new_entry(custody, region, kind, "operational", root, root_key, clock, random) for kind, _ in sorted(rolled)
    ]
    entries = (*kept, *fresh)
    sealed = seal_table(Table(old.trust_domain, old.version + 1, clock.now_us(), entries), root_key)
    write_atomically(directory / "issuers.json", sealed)
    return IssuerTable.load(sealed, root, old.version)


def new_serial(random: Random) -> int:
    """158 random bits with the next one set: positive, 20 octets, never repeated. Source: RFC 5280 4.1.2.2."""
    return 1 << 158 | random.bits(158)


def _ended(issuer: Issuer, table: IssuerTable, now_us: int) -> bool:
    """Whether a successor (later in the table) has issued for longer than any leaf of this issuer lives."""
    if issuer.purpose == "birth":
        return False
    issuers = list(table)
    return any(
        (later.kind, later.purpose) == (issuer.kind, issuer.purpose)
        and later.not_before_us + BACKDATED_US + LEAF_LIFE_US[issuer.kind] < now_us
        for later in issuers[issuers.index(issuer) + 1 :]
    )


def _new_entry(
    custody: Custody, region: str, kind: str, purpose: Purpose, root: x509.Certificate, root_key: PrivateKey,
    clock: Clock, random: Random,
) -> Entry:  # fmt: skip
    """A new intermediate, its key in custody."""
    key = custody.create()
    now_us = clock.now_us()
    name = f"Rocade {region} {kind}{' birth' if purpose == 'birth' else ''} {random.bits(32):08x}"
    certificate = _authority(key.public_key(), name, root, root_key, now_us, ISSUER_LIFE_US[purpose], random)
    return Entry(region, kind, purpose, pem_of(certificate))


def _authority(
    key: PublicKey, name: str, root: x509.Certificate | None, root_key: PrivateKey, now_us: int, life_us: int,
    random: Random,
) -> x509.Certificate:  # fmt: skip
    """A root (`root` None) or an intermediate of path length 0."""
    begin = datetime.fromtimestamp((now_us - BACKDATED_US) // 1_000_000, UTC)
    end = datetime.fromtimestamp((now_us + life_us) // 1_000_000, UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_common_name(name))
        .issuer_name(root.subject if root else _common_name(name))
        .public_key(key)
        .serial_number(new_serial(random))
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0 if root else 1), critical=True)
        .add_extension(_AUTHORITY_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
    )
    return builder.sign(root_key, hashes.SHA256())


def _usage(*, leaf: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=leaf, key_cert_sign=not leaf, crl_sign=not leaf, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


_LEAF_USAGE, _AUTHORITY_USAGE = _usage(leaf=True), _usage(leaf=False)
_CLIENT_PURPOSE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
_SERVICE_PURPOSE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
