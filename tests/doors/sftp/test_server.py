"""The SFTP door with a client of its own library and with OpenSSH's: keys of certificates open it, nothing else does."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import asyncssh
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.notebook import Notebook

from rocade.core.errors import Misconfigured, Refused
from rocade.core.ports import SystemClock
from rocade.doors.sftp import Accepted, DropFolder, Given
from rocade.doors.sftp.server import SftpDoor, own_key

SITE = "FR-00123-1"
HEADER = "list;seq;ref;currency;price_minor;valid_from\n"
LINE = "acme-fr-retail;7;1610001234;EUR;1999;2025-10-09T08:53:20Z\n"


class Stand:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.given: list[tuple[str, Given]] = []
        self.audit = Notebook()
        host_key = asyncssh.generate_private_key("ssh-ed25519").export_private_key("openssh").decode()
        self.door = SftpDoor(directory, host_key, self.proves, self.folder, self.audit, SystemClock())
        self.port = 0

    async def proves(self, user: str, key: Any) -> str:
        if user != SITE or key != self.key.public_key():
            raise Refused("sftp.key", "this key is not one of a certificate of that site")
        return f"spiffe://test.rocade/eu/dealer/{user}"

    def folder(self, site: str, identity: str, place: Path) -> DropFolder:
        async def accept(given: Given) -> Sequence[Accepted]:
            self.given.append((identity, given))
            return [Accepted(row.ref) for row in given.rows]

        return DropFolder(place, accept, SystemClock(), settle_s=0)

    def connect(self, user: str = SITE, key: ec.EllipticCurvePrivateKey | None = None) -> Any:
        own = asyncssh.import_private_key(
            (key or self.key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        return asyncssh.connect(
            "127.0.0.1", self.port, username=user, client_keys=[own], known_hosts=None, config=None, agent_path=None
        )

    async def until(self, name: str) -> bytes:
        file = self.directory / SITE / name
        async with asyncio.timeout(30):
            while not file.exists():
                await asyncio.sleep(0.02)
        return file.read_bytes()


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    made = Stand(tmp_path)
    made.port = await made.door.start("127.0.0.1", 0)
    yield made
    await made.door.close()


async def test_a_file_put_is_taken_and_its_answer_fetched(stand: Stand, tmp_path: Path) -> None:
    async with stand.connect() as connection, connection.start_sftp_client() as sftp:
        async with sftp.open("price-change.csv", "wb") as file:
            await file.write((HEADER + LINE).encode())
        await stand.until("price-change.csv.answer.csv")
        await sftp.get("price-change.csv.answer.csv", str(tmp_path / "answer.csv"))
        assert b"2;taken;;;1610001234" in (tmp_path / "answer.csv").read_bytes()
        assert stand.given[0][0].endswith(f"/dealer/{SITE}")


async def test_a_rename_finishes_a_file(stand: Stand) -> None:
    async with stand.connect() as connection, connection.start_sftp_client() as sftp:
        async with sftp.open("price-change.csv.tmp", "wb") as file:
            await file.write((HEADER + LINE).encode())
        assert stand.given == []
        await sftp.rename("price-change.csv.tmp", "price-change.csv")
        await stand.until("price-change.csv.taken")


async def test_a_broken_connection_leaves_nothing_that_is_taken(stand: Stand) -> None:
    """Cut at a line's end, so that no reader of the file itself could tell."""
    connection = await stand.connect()
    sftp = await connection.start_sftp_client()
    file = await sftp.open("price-change.csv", "wb")
    await file.write((HEADER + LINE).encode())
    connection.abort()
    await connection.wait_closed()
    await stand.until("price-change.csv.part")
    async with stand.connect() as again, again.start_sftp_client() as sftp:
        assert "price-change.csv" not in await sftp.listdir(".")
        async with sftp.open("price-change.csv", "wb") as whole:
            await whole.write((HEADER + LINE + LINE.replace("1610", "1611")).encode())
        await stand.until("price-change.csv.taken")
    assert [len(given.rows) for _, given in stand.given] == [2]


async def test_other_keys_and_other_names_are_refused_and_audited(stand: Stand) -> None:
    for user, key in ((SITE, ec.generate_private_key(ec.SECP256R1())), ("FR-00999-1", stand.key)):
        with pytest.raises(asyncssh.PermissionDenied):
            async with stand.connect(user, key):
                pass
    assert [entry.reason for entry in stand.audit.entries] == ["sftp.key", "sftp.key"]


@pytest.mark.parametrize(
    "act",
    [
        lambda sftp: sftp.mkdir("sub"),
        lambda sftp: sftp.symlink("/etc", "etc"),
        lambda sftp: sftp.open("../../escape.csv", "wb"),
        lambda sftp: sftp.open("sub/escape.csv", "wb"),
        lambda sftp: sftp.open(".hidden", "wb"),
        lambda sftp: sftp.rename("a.csv", "../b.csv"),
        lambda sftp: sftp.open("/etc/hostname", "rb"),
    ],
)
async def test_there_is_one_folder_and_nothing_else(stand: Stand, act: Any) -> None:
    async with stand.connect() as connection, connection.start_sftp_client() as sftp:
        with pytest.raises(asyncssh.SFTPError):
            await act(sftp)
    assert {path.parent for path in stand.directory.rglob("*") if path.is_file()} <= {stand.directory / SITE}


async def test_there_is_no_shell_and_no_tunnel(stand: Stand) -> None:
    async with stand.connect() as connection:
        with pytest.raises((asyncssh.ChannelOpenError, asyncssh.ProcessError, asyncssh.Error)):
            await connection.run("id", check=True)
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection("127.0.0.1", 1)


@pytest.mark.skipif(shutil.which("sftp") is None, reason="needs OpenSSH's client")
async def test_openssh_puts_a_file_with_the_key_of_the_certificate(stand: Stand, tmp_path: Path) -> None:
    key, content, batch = tmp_path / "key.pem", tmp_path / "price-change.csv", tmp_path / "batch"
    key.write_bytes(stand.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key.chmod(0o600)
    content.write_text(HEADER + LINE)
    batch.write_text(f"put {content}\n")
    command = [
        "sftp", "-q", "-b", str(batch), "-i", str(key), "-P", str(stand.port), "-F", "none",
        "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes",
        f"{SITE}@127.0.0.1",
    ]  # fmt: skip
    environment = {**os.environ, "SSH_AUTH_SOCK": ""}
    process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode == 0, said
    assert b"taken" in await stand.until("price-change.csv.answer.csv")


def test_an_own_key_with_a_turned_bit_is_refused_or_the_same() -> None:
    whole = asyncssh.generate_private_key("ssh-ed25519").export_private_key("openssh")
    good, refused, dice = own_key(whole.decode()).public_data, 0, Random(3)
    for bit in dice.sample(range(len(whole) * 8), 300):
        turned = bytearray(whole)
        turned[bit // 8] ^= 1 << bit % 8
        try:
            assert own_key(turned.decode("latin-1")).public_data == good, bit
        except Misconfigured:
            refused += 1
    assert refused > 100
