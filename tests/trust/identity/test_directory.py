"""Identity directories, keys on disk and the roll of a server's certificate on a live context."""

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.clocks import TurnedClock

from rocade.core.errors import Misconfigured
from rocade.core.ports import SystemClock, SystemRandom
from rocade.trust.authority.region import DAY_US, Region, create_region, issue_directory, renew_server, roll
from rocade.trust.identity import directory as directories
from rocade.trust.identity import keys, tls, verify_leaf
from rocade.trust.identity.directory import load_identity, load_leaf
from rocade.trust.identity.issuers import IssuerTable


@pytest.fixture
def clock() -> TurnedClock:
    """Set back five days, so that what is issued is old when a test turns it to now."""
    return TurnedClock(-5 * DAY_US)


@pytest.fixture
def region(tmp_path: Path, clock: TurnedClock) -> Region:
    return create_region(tmp_path / "trust", "eu", "rocade.test", clock, SystemRandom())


@pytest.fixture
def server(tmp_path: Path, region: Region) -> Path:
    issue_directory(
        region, tmp_path / "server", region.identity("service", "gateway"), hosts=["localhost", "127.0.0.1"]
    )
    return tmp_path / "server"


@pytest.fixture
def car(tmp_path: Path, region: Region) -> Path:
    issue_directory(region, tmp_path / "car", region.identity("vehicle", "VR3UPHNKSKT101604"))
    return tmp_path / "car"


def shake(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A whole handshake in memory: (server side, client side)."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    here, there = server.wrap_bio(up, down, server_side=True), client.wrap_bio(down, up, server_hostname="localhost")
    for _ in range(4):
        for side in (there, here):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return here, there


def test_a_certificate_that_names_nobody_is_said_to_be_unreadable(region: Region, car: Path) -> None:
    """One bit turned in what says which extension the name is."""
    whole = load_leaf(car).public_bytes(Encoding.DER)
    turned = whole.replace(bytes.fromhex("0603551d11"), bytes.fromhex("0603551d51"))
    assert turned != whole
    (car / "certificate.pem").write_text(ssl.DER_cert_to_PEM_cert(turned))
    for read in (load_identity, lambda directory: renew_server(region, directory, SystemClock())):
        with pytest.raises(Misconfigured, match=r"trust\.directory\.unreadable"):
            read(car)


def test_private_files_are_mode_0600_and_an_exposed_key_is_refused(car: Path, tmp_path: Path) -> None:
    private = [*tmp_path.glob("**/key.pem"), *tmp_path.glob("trust/issuers/*.pem")]
    assert len(private) == 3 + 7
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}
    (car / "key.pem").chmod(0o640)
    with pytest.raises(Misconfigured, match=r"trust\.key\.exposed"):
        directories.load_key(car)


def test_both_sides_prove_themselves_in_tls_1_3(region: Region, server: Path, car: Path, clock: TurnedClock) -> None:
    context = tls.ServerIdentity(server).context
    here, there = shake(context, tls.client_context(car))
    assert here.version() == "TLSv1.3"
    assert there.session is None or not there.session.has_ticket, "a resumed session would show no certificate"
    now_us = clock.now_us()
    issuers = directories.load_issuers(car)
    assert (
        verify_leaf(tls.peer_leaf(here) or b"", region.issuers, now_us, {"vehicle"}).identity.id == "VR3UPHNKSKT101604"
    )
    assert verify_leaf(tls.peer_leaf(there) or b"", issuers, now_us, {"service"}).identity.id == "gateway"
    old = tls.client_context(car)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError) as failed:
        shake(context, old)
    assert tls.handshake_refusal(failed.value).code == "trust.handshake.version"


def test_the_server_certificate_rolls_on_the_live_context(
    region: Region, server: Path, car: Path, clock: TurnedClock
) -> None:
    live = tls.ServerIdentity(server)
    first = shake(live.context, tls.client_context(car))[1]
    assert not renew_server(region, server, clock)
    clock.ahead_us = 0
    assert renew_server(region, server, clock)
    assert live.reload()
    assert not live.reload()
    second = shake(live.context, tls.client_context(car))[1]
    assert tls.peer_leaf(first) != tls.peer_leaf(second)


async def test_keep_renews_and_reloads_by_itself(region: Region, server: Path, car: Path, clock: TurnedClock) -> None:
    live = tls.ServerIdentity(server)
    before = tls.peer_leaf(shake(live.context, tls.client_context(car))[1])
    clock.ahead_us = 0
    task = asyncio.create_task(live.keep(lambda: renew_server(region, server, clock), every_s=0.01))
    async with asyncio.timeout(30):
        while tls.peer_leaf(shake(live.context, tls.client_context(car))[1]) == before:
            await asyncio.sleep(0.01)
    task.cancel()


def test_a_broken_pair_leaves_the_old_certificate_in_use(server: Path, car: Path) -> None:
    live = tls.ServerIdentity(server)
    before = tls.peer_leaf(shake(live.context, tls.client_context(car))[1])
    (server / "certificate.pem").write_text("half a file")
    with pytest.raises(Misconfigured, match=r"trust\.server\.pair"):
        live.reload()
    assert tls.peer_leaf(shake(live.context, tls.client_context(car))[1]) == before


def test_an_intermediate_rolls_without_cutting_off_those_before(
    tmp_path: Path, region: Region, server: Path, car: Path, clock: TurnedClock
) -> None:
    live, followed = tls.ServerIdentity(server), directories.LiveIssuers(server)
    assert followed.table.version == 1
    roll(tmp_path / "trust", ["vehicle", "service"], clock, SystemRandom())
    region.reload()
    issue_directory(region, tmp_path / "new-car", region.identity("vehicle", "NEWCAR"))
    assert renew_server(region, server, clock), "a roll renews the server at once"
    live.reload()
    assert followed.table.version == 2
    signers = set()
    for one in (car, tmp_path / "new-car"):
        here, _ = shake(live.context, tls.client_context(one))
        signers.add(verify_leaf(tls.peer_leaf(here) or b"", followed.table, clock.now_us(), {"vehicle"}).issuer_key_id)
    assert len(signers) == 2
    clock.ahead_us = 56 * DAY_US + 1_000_000
    assert len(list(region.issuers)) == 9
    after = roll(tmp_path / "trust", ["dealer"], clock, SystemRandom())
    assert len(list(after)) == 8, "both rolled intermediates have ended, one dealer was added"


def test_a_broken_issuer_table_leaves_the_one_before_in_use(car: Path, region: Region) -> None:
    followed = directories.LiveIssuers(car)
    for broken in (b"half a file", region.issuers.sealed.replace(b'"payload":"', b'"payload":"AAAA')):
        (car / "issuers.json").write_bytes(broken)
        assert followed.table.version == 1


def test_a_withdrawn_intermediate_ends_its_leaves_at_once(
    tmp_path: Path, region: Region, car: Path, clock: TurnedClock
) -> None:
    leaf = directories.leaf_der((car / "certificate.pem").read_bytes())
    issuers = roll(tmp_path / "trust", ["vehicle"], clock, SystemRandom(), withdraw=True)
    verify_leaf(leaf, region.issuers, clock.now_us(), {"vehicle"})
    with pytest.raises(Exception, match=r"trust\.certificate\.issuer_unknown"):
        verify_leaf(leaf, issuers, clock.now_us(), {"vehicle"})
    with pytest.raises(Exception, match=r"trust\.issuers\.version"):
        IssuerTable.load(region.issuers.sealed, region.issuers.root, issuers.version)


def test_keys_may_live_where_no_file_is(tmp_path: Path, clock: TurnedClock) -> None:
    """As in a PKCS#11 token: the authority only ever asks the key object to sign."""

    class Token:
        def __init__(self) -> None:
            self.held: dict[bytes, keys.PrivateKey] = {}

        def create(self) -> keys.PrivateKey:
            key = keys.new_key()
            self.held[keys.key_id(key.public_key())] = key
            return key

        def find(self, wanted: bytes) -> keys.PrivateKey | None:
            return self.held.get(wanted)

    token, root_key, random = Token(), keys.new_key(), SystemRandom()
    folder = tmp_path / "tokens"
    region = create_region(folder, "eu", "rocade.test", clock, random, custody=token, root_key=root_key)
    roll(folder, ["vehicle"], clock, random, custody=token, root_key=root_key)
    region.reload()
    issued = region.issue(keys.new_key().public_key(), region.identity("vehicle", "X"))
    assert verify_leaf(issued.leaf_der, region.issuers, clock.now_us(), {"vehicle"}).identity.id == "X"
    assert {path.name for path in folder.rglob("*.pem")} == {"trust.pem", "key.pem"}, "only the audit key is a file"
    with pytest.raises(Misconfigured, match=r"trust\.key\.missing"):
        roll(folder, ["vehicle"], clock, random, custody=token)


def test_an_altered_issuer_table_is_refused(region: Region) -> None:
    sealed = region.issuers.sealed
    for old, new in ((b'"payload":"', b'"payload":"AAAA'), (b"issuers+json", b"issuers-json")):
        with pytest.raises(Exception, match=r"trust\.envelope\."):
            IssuerTable.load(sealed.replace(old, new), region.issuers.root)


@pytest.mark.parametrize("at", ["before the key", "between key and certificate", "before the tidying"])
def test_a_crash_while_replacing_a_pair_leaves_a_pair(car: Path, region: Region, at: str) -> None:
    fresh = region.credential(region.identity("vehicle", "VR3UPHNKSKT101604"))
    keys.write_private(car / "next.pem", fresh.key_pem + fresh.chain_pem)
    if at != "before the key":
        keys.write_private(car / "key.pem", fresh.key_pem)
    if at == "before the tidying":
        (car / "certificate.pem").write_bytes(fresh.chain_pem)
    tls.client_context(car)
    assert (car / "certificate.pem").read_bytes() == fresh.chain_pem
    assert not (car / "next.pem").exists()


@pytest.mark.parametrize("at", [0.1, 0.3, 0.5])
def test_a_pair_that_was_damaged_before_it_was_in_place_replaces_nothing(region: Region, car: Path, at: float) -> None:
    """A crash left `next.pem`, and a bit of it turned, in the key or in the certificate."""
    old, leaf = (car / "key.pem").read_bytes(), load_leaf(car)
    other = region.credential(region.identity("vehicle", "VR3UPHNKSKT101604"))
    both = bytearray(other.key_pem + other.chain_pem)
    both[int(len(both) * at)] ^= 2
    (car / "next.pem").write_bytes(both)
    directories.settle(car)
    assert not (car / "next.pem").exists()
    assert ((car / "key.pem").read_bytes(), load_leaf(car)) == (old, leaf)
    (car / "next.pem").write_bytes(both)
    (car / "key.pem").write_bytes(other.key_pem)  # the crash came later: half of it was in place
    with pytest.raises(Misconfigured, match=r"next\.pem"):
        directories.settle(car)
    (car / "next.pem").write_bytes(other.key_pem + other.chain_pem)
    directories.settle(car)
    assert (car / "key.pem").read_bytes() == other.key_pem
