"""Every file of the folder of a vehicle's agent that has been in use, and what a turned bit in it does; docs/disks.md is this table."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.turned_bits import Kind, said_of_all, turn_bits

from rocade.agents.vehicle.journal import ROOMY, Journal
from rocade.agents.vehicle.replay import JOURNAL
from rocade.core.ports import SystemClock, SystemRandom
from rocade.trust.authority.region import create_region
from rocade.trust.identity.certificates import verify_leaf
from rocade.trust.identity.directory import load_issuers, load_leaf, load_root, replace_pair
from rocade.trust.identity.keys import read_private

VIN = "VR3UPHNKSKT101604"
WRITE_AHEAD = "tests/agents/vehicle/test_write_ahead.py"


def _root(_: Path, file: Path) -> object:
    return load_root(file).tbs_certificate_bytes, load_issuers(file.parent).version


def _leaf(_: Path, file: Path) -> object:
    leaf = load_leaf(file.parent, file.name).public_bytes(Encoding.DER)
    purpose = "birth" if file.name.startswith("birth.") else "operational"
    return verify_leaf(leaf, load_issuers(file.parent), SystemClock().now_us(), {"vehicle"}, purpose=purpose)


KINDS_OF_FILES = (
    Kind("issuers.json", lambda place, _: load_issuers(place).table, r"trust\.(envelope|issuers)\."),
    Kind("trust.pem", _root, r"trust\.(root|issuers|envelope)\."),
    Kind("*certificate.pem", _leaf, r"trust\.(certificate|directory|identity)\."),
    Kind("*key.pem", lambda _, file: read_private(file).private_numbers(), r"trust\.key\.unreadable"),
    Kind("*next.pem", None, "trust.directory.unreadable", tested="tests/trust/identity/test_directory.py"),
    Kind("*waiting.pem", None, "trust.key.unreadable", tested="as every private key"),
    Kind("journal.sqlite3", None, "journal.damaged", tested="tests/agents/vehicle/test_journal.py"),
    Kind("journal.sqlite3-wal", None, "journal.damaged", tested=WRITE_AHEAD),
    Kind("journal.sqlite3-shm", None, "", tested="made anew by SQLite from the write-ahead file at each first opening"),
)


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """As enrolment leaves it, with a birth certificate, and the journal that the agent keeps in it."""
    clock, random = SystemClock(), SystemRandom()
    region = create_region(tmp_path / "trust", "eu", "rocade.test", clock, random)
    car, place = region.identity("vehicle", VIN), tmp_path / "car"
    region.credential(car).write(place)
    birth = region.credential(car, purpose="birth")
    replace_pair(place, birth.key_pem, birth.chain_pem, "birth.")
    with Journal(place / JOURNAL, clock, random, ROOMY):
        said_of_all(KINDS_OF_FILES, place)
        assert (place / f"{JOURNAL}-wal").exists()
    return place


def test_of_every_file_of_a_vehicle_it_is_said_what_a_turned_bit_in_it_does(used: Path) -> None:
    said_of_all(KINDS_OF_FILES, used)
    (used / "more").write_text("nobody spoke of it")
    with pytest.raises(AssertionError, match="more"):
        said_of_all(KINDS_OF_FILES, used)


@pytest.mark.parametrize("bits", [40, pytest.param(1_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [kind for kind in KINDS_OF_FILES if kind.judge], ids=lambda kind: kind.files)
def test_a_turned_bit_is_refused_or_changes_nothing(used: Path, kind: Kind, bits: int) -> None:
    turn_bits(KINDS_OF_FILES, kind, used, bits)
