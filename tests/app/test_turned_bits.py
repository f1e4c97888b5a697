"""Every file of a running region, and what a turned bit in it does: refused with a code, detected by whom, or harmless and why.

A file that no line of the table speaks of fails the test: whoever adds one says what protects it. docs/disks.md is this table.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import asyncpg
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.app.stand import Region
from tests.turned_bits import Kind, files_of, kind_of, said_of_all, turn_bits

from rocade.agents.dealer.prices.heads import open_signer
from rocade.app import last_settings
from rocade.core.identifiers import KINDS
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import EmbeddedPostgres
from rocade.fabric.history.disk import check_key, settings_file
from rocade.trust.authority.erasure import read_ledger
from rocade.trust.authority.heads import load_public_key
from rocade.trust.authority.machines.keyring import Seal
from rocade.trust.authority.sealing import FileCustody
from rocade.trust.identity.certificates import verify_leaf
from rocade.trust.identity.directory import load_issuers, load_leaf, load_root
from rocade.trust.identity.keys import read_private, read_secret

BITS = 24


def _issuers(_: Path, file: Path) -> object:
    return load_issuers(file.parent).table


def _root(_: Path, file: Path) -> object:
    """By what it signs: its signature may say that its last bit is none, and holds all the same."""
    return load_root(file).tbs_certificate_bytes, load_issuers(file.parent).version


def _private(_: Path, file: Path) -> object:
    return read_private(file).private_numbers()


def _leaf(_: Path, file: Path) -> object:
    leaf = load_leaf(file.parent).public_bytes(Encoding.DER)
    return verify_leaf(leaf, load_issuers(file.parent), SystemClock().now_us(), KINDS)


def _audit_key(place: Path, file: Path) -> object:
    return load_public_key(file.parent, load_root(place / "trust" / "trust.pem")).public_numbers()


def _price_key(place: Path, file: Path) -> object:
    root = load_root(place / "trust" / "trust.pem").public_key()
    return open_signer(file.read_bytes(), root)[0]  # type: ignore[arg-type]  # the root's key is on P-256


def _wrapping(place: Path, file: Path) -> object:
    row = Seal((place / "wrapping.whole").read_bytes()).new_row(0, SystemRandom())[0]
    return Seal.load(file.parent).open(row).begins_us


def _custody(place: Path, file: Path) -> object:
    return FileCustody(file.parent).unwrap(int(file.stem), (place / "wrapped").read_bytes(), b"bucket")


def _mark(place: Path, file: Path) -> object:
    return FileCustody(file.parent, (place / "custody.whole").read_text()).current()


def _ledger(place: Path, file: Path) -> object:
    return read_ledger(file.parent, load_root(place / "trust" / "trust.pem")).entries


def _engine(_: Path, file: Path) -> object:
    return settings_file(file.parent).read_text()


def _digest(_: Path, file: Path) -> object:
    return check_key(file.parent, bytes(32))


def _last(place: Path, _: Path) -> object:
    return last_settings.changed(place)


SETTINGS = "tests/app/test_last_settings.py"
COMMIT_LOG = "tests/fabric/database/test_commit_log.py"
FAULTS = "tests/faults/test_disk_faults.py"
PRICES = "tests/services/prices/test_turned_bits.py"
KINDS_OF_FILES = (
    Kind("*/issuers.json", _issuers, r"trust\.(envelope|issuers)\."),
    Kind("*trust.pem", _root, r"trust\.(root|issuers|envelope)\."),
    Kind("sftp/host_key.pem", None, "sftp.host_key", tested="tests/doors/sftp/test_server.py"),
    Kind("*key.pem", _private, r"trust\.key\.unreadable"),
    Kind("trust/issuers/*.pem", _private, r"trust\.key\.unreadable"),
    Kind("*/certificate.pem", _leaf, r"trust\.(certificate|directory|identity)\."),
    Kind("trust/audit/key.json", _audit_key, r"audit\.key"),
    Kind("trust/audit/heads", None, "audit.heads", tested="tests/trust/authority/test_heads.py"),
    Kind("trust/audit/heads.*.damaged", None, "", tested="set aside by rocade audit mend, for people"),
    Kind("trust/audit/leaves", None, "audit.altered", tested=FAULTS),
    Kind(
        "trust/audit/witnesses/*.pem", None, "audit.cosignature", tested="tests/trust/authority/proofs/test_witness.py"
    ),
    Kind("prices/drafts/*.delta", None, "prices.draft.corrupt", tested=PRICES),
    Kind("prices/states/*.npz", None, "passed over", tested=PRICES),
    Kind("prices/files/*", None, "prices.blob.swapped", tested="tests/hostile/dealers/test_price_files.py"),
    Kind("trust/prices/key.json", _price_key, r"prices\.signer"),
    Kind("trust/prices/secret", lambda _, file: read_secret(file), r"trust\.secret\.damaged", always=True),
    Kind("stations.key", lambda _, file: read_secret(file), r"trust\.secret\.damaged", always=True),
    Kind("webhooks.key", lambda _, file: read_secret(file), r"trust\.secret\.damaged", always=True),
    Kind("trust/tokens/wrapping.key", _wrapping, r"trust\.tokens\.seal", always=True),
    Kind("custody/*.key", _custody, r"custody\.wrap", always=True),
    Kind("custody/region", _mark, r"custody\.foreign", always=True),
    Kind("erasures/ledger", None, "erasure.ledger.broken", tested="tests/trust/authority/erasure/test_ledger.py"),
    Kind("erasures/head", _ledger, r"erasure\.ledger\.broken"),
    Kind("erasures/signers", _ledger, r"erasure\.ledger\.broken"),
    Kind("history/engine.xml", _engine, "nothing: written anew at each start"),
    Kind("history/key.digest", _digest, r"history\.key", always=True),
    Kind("rocade.toml", None, "app.configuration.invalid", tested=SETTINGS),
    Kind("settings.last", _last, r"app\.settings\.record", always=True),
    Kind("postgres/password", None, "nobody is let in", tested="below"),
    Kind("postgres/commit_log.sums", None, "database.commit_log.record", tested=COMMIT_LOG),
    Kind("postgres/data/pg_xact/*", None, "database.commit_log", tested=COMMIT_LOG),
    Kind("postgres/data/pg_multixact/*", None, "database.commit_log", tested=COMMIT_LOG),
    Kind("postgres/data/*", None, "PostgreSQL's checksums", tested=FAULTS),
    Kind("history/chdb/*", None, "the engine's checksums", tested=FAULTS),
    Kind("history/sealed/*", None, "the engine's checksums", tested=FAULTS),
    Kind("blobs/*", None, "archive.corrupt", tested="tests/faults/test_blob_faults.py"),
    Kind("logs/*", None, "", tested="for people; nothing reads it"),
    Kind("postgres/server.log", None, "", tested="for people; nothing reads it"),
    Kind("*lock", None, "", tested="held, never read"),
    Kind("run/*", None, "", tested="sockets and numbers of processes that run now"),
)


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    """One that nobody has used: its keys are the first ones."""
    region = Region(tmp_path_factory.mktemp("cli") / "eu")
    region.init()
    with region.serving():
        yield region


@pytest.fixture(scope="module")
def place(region: Region, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The small files of the region in a folder of their own, and what is needed to try keys."""
    place = tmp_path_factory.mktemp("turned") / "eu"
    for name in files_of(region.directory):
        if kind_of(KINDS_OF_FILES, name).judge is not None or name in {"erasures/ledger", "rocade.toml"}:
            (place / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copy2(region.directory / name, place / name)
    (place / "history" / "key.digest").unlink()
    check_key(place / "history", bytes(32))
    (place / "wrapped").write_bytes(FileCustody(place / "custody").wrap(1, b"plain", b"bucket"))
    (place / "wrapping.whole").write_bytes((place / "trust/tokens/wrapping.key").read_bytes())
    (place / "custody.whole").write_bytes((place / "custody/region").read_bytes())
    yield place
    shutil.rmtree(place)


def test_of_every_file_of_a_region_it_is_said_what_a_turned_bit_in_it_does(region: Region) -> None:
    said_of_all(KINDS_OF_FILES, region.directory)


@pytest.mark.parametrize("bits", [BITS, pytest.param(1_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [kind for kind in KINDS_OF_FILES if kind.judge], ids=lambda kind: kind.files)
def test_a_turned_bit_is_refused_or_changes_nothing(place: Path, kind: Kind, bits: int) -> None:
    turn_bits(KINDS_OF_FILES, kind, place, bits)


async def test_a_turned_bit_in_the_database_password_lets_nobody_in_who_was_not(region: Region, tmp_path: Path) -> None:
    url = EmbeddedPostgres.url_of_running(region.directory / "postgres")
    assert url is not None
    content, dice, outcomes = (region.directory / "postgres/password").read_bytes(), Random(2), Counter[str]()
    file = tmp_path / "password"
    turned_url = url.replace(str(region.directory / "postgres" / "password"), str(file))
    assert turned_url != url
    for bit in [None, *dice.sample(range(len(content) * 8), 10)]:
        turned = bytearray(content)
        if bit is not None:
            turned[bit // 8] ^= 1 << bit % 8
        await asyncio.to_thread(file.write_bytes, turned)
        file.chmod(0o600)
        try:
            await (await asyncpg.connect(turned_url)).close()
            outcomes["in"] += 1
        except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError):
            outcomes["refused"] += 1
    assert outcomes == {"in": 1, "refused": 10}


def test_a_damaged_head_of_a_running_region_is_named_then_mended_on_the_record(region: Region) -> None:
    heads = region.directory / "trust/audit/heads"
    content = bytearray(heads.read_bytes())
    content[len(content) // 2] ^= 4
    with heads.open("r+b") as file:  # its writer goes on meanwhile
        file.seek(len(content) // 2)
        file.write(content[len(content) // 2 :][:1])
    assert '"audit.heads"' in region.rocade("audit", "verify", code=1)
    assert "what was damaged is in" in region.rocade("audit", "mend")
    assert "nothing was done" in region.rocade("audit", "mend")
    assert '"ok": true' in region.rocade("audit", "verify")
    assert "audit.heads.mended" in region.rocade("audit", "tail", "-n", "20")
    assert len(list(heads.parent.glob("heads.*.damaged"))) == 1
