"""Every file of the folder of a dealer agent that has been in use, and what a turned bit in it does; docs/disks.md is this table."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.agents.dealer.conftest import QUICK, Hub, until
from tests.agents.dealer.test_dropping import rows
from tests.turned_bits import Kind, said_of_all, turn_bits

from rocade.agents.dealer import last_settings
from rocade.agents.dealer import settings as configured
from rocade.agents.dealer.agent import Dealer
from rocade.agents.dealer.believing import Believing
from rocade.agents.dealer.exporting import marks_of
from rocade.agents.dealer.keyring import Keyring, read_marks
from rocade.agents.dealer.lan_identity import LanIdentity
from rocade.agents.dealer.reporting import read
from rocade.core.errors import Refused
from rocade.core.ports import SystemClock
from rocade.trust.identity.certificates import verify_leaf
from rocade.trust.identity.directory import load_issuers, load_leaf, load_root
from rocade.trust.identity.envelope import seal
from rocade.trust.identity.keys import read_private
from rocade.wire.exchange import REVOCATIONS_TYPE
from rocade.wire.exchange.keys import RevocationList

LIST = "parts"
IDENTITY = "tests/trust/identity/test_directory.py"


def _settings(place: Path, _: Path) -> object:
    """Told at the next start, if it can be read at all."""
    settings = configured.load(place)
    if found := last_settings.changed(place, settings):
        raise Refused("dealer.settings.changed", ", ".join(found))
    return settings


def _root(_: Path, file: Path) -> object:
    return load_root(file).tbs_certificate_bytes, load_issuers(file.parent).version


def _leaf(_: Path, file: Path) -> object:
    leaf = load_leaf(file.parent).public_bytes(Encoding.DER)
    return verify_leaf(leaf, load_issuers(file.parent), SystemClock().now_us(), {"dealer"})


def _encryption(_: Path, file: Path) -> object:
    return Keyring(file.parent, SystemClock()).public_keys()


def _believing(_: Path, file: Path) -> object:
    """As a start takes it, but for passing over what is refused: the hub says it anew at each connection."""
    believing = Believing(file.parent / "nothing", lambda: load_issuers(file.parent))
    believing._take_signers((file.parent / "signers.json").read_bytes())
    believing._take_revocations((file.parent / "revocations.json").read_bytes())
    return believing._signers.keys(), believing._number, believing._revoked


def _page(place: Path, _: Path) -> object:
    """By what is signed: a signature may say that its last bits are none, and holds all the same."""
    LanIdentity(place, configured.load(place).lan, SystemClock()).context()
    return load_root(place / "lan/certificate.pem").tbs_certificate_bytes


KINDS_OF_FILES = (
    Kind("dealer.toml", _settings, r"dealer\.settings"),
    Kind("settings.last", _settings, r"dealer\.settings\.record", always=True),
    Kind("hubs/*/issuers.json", lambda _, file: load_issuers(file.parent).table, r"trust\.(envelope|issuers)\."),
    Kind("hubs/*/trust.pem", _root, r"trust\.(root|issuers|envelope)\."),
    Kind("hubs/*/certificate.pem", _leaf, r"trust\.(certificate|directory|identity)\."),
    Kind("hubs/*/key.pem", lambda _, file: read_private(file).private_numbers(), r"trust\.key\.unreadable"),
    Kind("hubs/*/next.pem", None, "trust.directory.unreadable", tested=IDENTITY),
    Kind("hubs/*/waiting.pem", None, "trust.key.unreadable", tested="as every private key"),
    Kind("hubs/*/encryption.json", _encryption, r"dealer\.keyring\.unreadable"),
    Kind("hubs/*/marks.json", lambda _, file: marks_of(file.parent, LIST), r"dealer\.export\.unmarked", always=True),
    Kind("hubs/*/marks.sha256", lambda _, file: marks_of(file.parent, LIST), r"dealer\.export\.unmarked", always=True),
    Kind("hubs/*/signers.json", _believing, r"trust\.|dealer\.signers\."),
    Kind("hubs/*/revocations.json", _believing, r"trust\.|exchange\.revocations\."),
    Kind("lan/*.pem", _page, r"dealer\.lan\.certificate"),
    Kind("prices/*.sqlite3*", None, "prices.store.*", tested="tests/agents/dealer/prices/test_turned_bits.py"),
    Kind("prices/loading-*", None, "prices.blob.swapped", tested="tests/hostile/dealers/test_price_files.py"),
    Kind("agent.sqlite3*", None, "dealer.damaged", tested="tests/agents/dealer/test_turned_bits.py"),
    Kind("state.json", None, "", tested="below"),
    Kind("drop/*", None, "", tested="others' files, and the answers to them: read once, within seconds"),
    Kind(".lock", None, "", tested="held, never read"),
)


@pytest.fixture
async def used(hub: Hub, place: Path) -> Path:
    """A folder that a list, marks, signers, revocations and dropped messages have come to, with a page."""
    settings = place / "dealer.toml"
    lan = '[lan]\naddresses = ["127.0.0.1"]\nport = -1\nnetworks = ["127.0.0.0/8"]\n'
    settings.write_text(f'{lan}{settings.read_text()}\n[[folder]]\ndirectory = "drop"\n')
    hub.publish(parts=50)
    dealer = Dealer.open(place, backoff=QUICK)
    task = asyncio.create_task(dealer.run())
    await until(lambda: hub.told("ack"))
    revoked = RevocationList("eu", 3, SystemClock().now_us(), (("0a" * 8, SystemClock().now_us()),))
    await hub.send("revocations", seal(REVOCATIONS_TYPE, msgspec.json.encode(revoked), hub.signing_key))
    (place / "drop" / "message-1.csv").write_bytes(rows("order-1"))
    await until((place / "drop" / "message-1.csv.answer.csv").exists)
    await until((place / "hubs/eu/revocations.json").exists)
    await until((place / "hubs/eu/marks.sha256").exists)
    said_of_all(KINDS_OF_FILES, place)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    dealer.close()
    return place


async def test_of_every_file_of_an_agent_it_is_said_what_a_turned_bit_in_it_does(used: Path) -> None:
    said_of_all(KINDS_OF_FILES, used)
    (used / "hubs/eu/more").write_text("nobody spoke of it")
    with pytest.raises(AssertionError, match="more"):
        said_of_all(KINDS_OF_FILES, used)


@pytest.mark.parametrize("bits", [40, pytest.param(1_000, marks=pytest.mark.slow)])
async def test_a_turned_bit_is_refused_or_changes_nothing(used: Path, bits: int) -> None:
    for kind in KINDS_OF_FILES:
        if kind.judge:
            await asyncio.to_thread(turn_bits, KINDS_OF_FILES, kind, used, bits)


async def test_state_of_a_running_agent_is_written_anew_and_that_of_a_stopped_one_is_said_to_be_of_then(
    used: Path,
) -> None:
    assert not read(used).is_running
    (used / "state.json").write_bytes(b"\xff" + (used / "state.json").read_bytes()[1:])
    with pytest.raises(Refused, match=r"dealer\.state\.missing"):
        read(used)


async def test_a_setting_that_nobody_changed_is_told_by_name_on_the_page_too(used: Path) -> None:
    settings = used / "dealer.toml"
    settings.write_text(settings.read_text().replace("est_port = 1", "est_port = 3"))
    for told in (True, False):
        dealer = Dealer.open(used, backoff=QUICK)
        codes = [(code, text) for _, hub, code, text in dealer.store.troubles() if not hub]
        dealer.close()
        assert codes == [("dealer.settings.changed", "hub.eu.est_port 1 -> 3")], told


async def test_marks_and_keys_of_an_earlier_version_are_taken_up(used: Path) -> None:
    directory = used / "hubs/eu"
    keys = msgspec.json.decode((directory / "encryption.json").read_bytes())
    for key in keys:
        del key["digest"]
    (directory / "encryption.json").write_bytes(msgspec.json.encode(keys))
    before = Keyring(directory, SystemClock()).public_keys()
    assert all(key["digest"] for key in msgspec.json.decode((directory / "encryption.json").read_bytes()))
    assert Keyring(directory, SystemClock()).public_keys() == before
    marks = read_marks(directory / "marks.json")
    (directory / "marks.sha256").unlink()
    with pytest.raises(Refused, match="unmarked"):  # until the letter of the next connection
        marks_of(directory, LIST)
    assert marks
