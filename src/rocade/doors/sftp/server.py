"""SFTP at the hub: a folder for each point of sale, entered with the key of its own certificate.

The user name is the site, the key one that the region certified for it (OpenSSH reads `key.pem` as it is): no second
kind of credential, and a revoked certificate closes this door too. There is no shell, no forwarding, no other folder, no
link and no directory to make. A file counts as whole when its writer closes it; one whose connection broke stays behind as
`.part` and is removed when a new one of that name comes.
"""

from __future__ import annotations

import asyncio
import logging
from base64 import b64decode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn

import asyncssh
from cryptography.hazmat.primitives.serialization import load_der_public_key

from rocade.core.errors import Misconfigured, RocadeError
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.doors.sftp.folder import DropFolder, is_own_name

_log = logging.getLogger(__name__)

FILES_LIMIT = 200
FILE_LIMIT_BYTES = 64 << 20
LOGIN_S = 20

type Proves = Callable[[str, Any], Awaitable[str]]
"""(user name, public key) -> the identity URI it proves. Raises: Refused."""


def own_key(pem: str) -> asyncssh.SSHKey:
    """The door's own key, if the public half that stands beside it is its own. Raises: Misconfigured `sftp.host_key`."""
    try:
        key = asyncssh.import_private_key(pem)
        is_whole = key.public_data in b64decode("".join(line for line in pem.splitlines() if not line.startswith("-")))
    except Exception:  # the parser raises many types on turned bits; every one of them means refused
        is_whole = False
    if not is_whole:
        raise Misconfigured(
            "sftp.host_key", "sftp/host_key.pem is damaged; take it from a backup, or remove it and another is made"
        )
    return key


class SftpDoor:
    """`await start(host, port)` gives the port, `await close()` ends it."""

    def __init__(
        self,
        directory: Path,
        host_key: str,
        proves: Proves,
        folder: Callable[[str, str, Path], DropFolder],
        audit: Audit,
        clock: Clock,
    ) -> None:
        """`folder(site, identity URI, directory)` makes the drop folder of a site; `host_key` is PEM.

        Raises: Misconfigured `sftp.host_key`.
        """
        self._directory = directory
        self._host_key = own_key(host_key)
        self.proves = proves
        self._folder = folder
        self.audit = audit
        self.clock = clock
        self._folders: dict[str, DropFolder] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._acceptor: asyncssh.SSHAcceptor | None = None

    async def start(self, host: str, port: int, *, shared: bool = False) -> int:
        """Listen, on a port `shared` with other processes or alone."""
        self._acceptor = await asyncssh.create_server(
            lambda: _Login(self),
            host,
            port,
            server_host_keys=[self._host_key],
            sftp_factory=lambda channel: _Site(channel, self),
            allow_scp=False,
            allow_pty=False,
            agent_forwarding=False,
            x11_forwarding=False,
            login_timeout=LOGIN_S,
            encoding=None,
            reuse_port=shared,
        )
        return int(self._acceptor.get_port())

    async def close(self) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
            await self._acceptor.wait_closed()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    def place(self, site: str) -> Path:
        place = self._directory / site
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        return place

    def resume(self, identity_of: Callable[[str], str]) -> None:
        """Take what was whole when this program ended last."""
        for place in self._directory.iterdir() if self._directory.is_dir() else ():
            for file in place.iterdir() if place.is_dir() else ():
                if is_own_name(file.name) and file.is_file():
                    self.finished(place.name, identity_of(place.name), file.name)

    def finished(self, site: str, identity: str, name: str) -> None:
        """A file was written to its end: take it."""
        folder = self._folders.get(site)
        if folder is None:
            folder = self._folders[site] = self._folder(site, identity, self.place(site))
        task = asyncio.get_running_loop().create_task(folder.take(name, is_whole=True))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def refused(self, peer: str, code: str) -> None:
        entry = AuditEntry(self.clock.now_us(), f"peer:{peer}", "sftp.access", "door:sftp", "refused", code)
        self.audit.note(entry)


class _Login(asyncssh.SSHServer):
    """Public keys only; whom they prove is asked of the door."""

    def __init__(self, door: SftpDoor) -> None:
        self._door = door
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002 - as the library calls it
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return False

    def kbdint_auth_supported(self) -> bool:
        return False

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        assert self._connection is not None
        peer = str((self._connection.get_extra_info("peername") or ("unknown",))[0])
        try:
            public = load_der_public_key(key.export_public_key("pkcs8-der"))
            identity = await self._door.proves(username, public)
        except (RocadeError, ValueError, asyncssh.KeyExportError) as error:
            self._door.refused(peer, getattr(error, "code", "sftp.key"))
            return False
        self._connection.set_extra_info(rocade_site=username, rocade_identity=identity)
        return True


class _Site(asyncssh.SFTPServer):
    """One session in one folder. Names are single: there are no directories below."""

    def __init__(self, channel: Any, door: SftpDoor) -> None:
        connection = channel.get_connection()
        self._door = door
        self._site = str(connection.get_extra_info("rocade_site"))
        self._identity = str(connection.get_extra_info("rocade_identity"))
        self._writing: dict[Any, Path] = {}
        self._is_over = False
        super().__init__(channel, chroot=str(door.place(self._site)).encode())

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:  # noqa: ARG002 - as called
        """Reading opens the file; writing opens `NAME.part` in its place, whatever flags came."""
        if not pflags & (asyncssh.FXF_WRITE | asyncssh.FXF_APPEND):
            return super().open(path, asyncssh.FXF_READ, asyncssh.SFTPAttrs())
        name = self._own_name(path)
        place = self._door.place(self._site)
        if sum(1 for _ in place.iterdir()) >= FILES_LIMIT:
            raise asyncssh.SFTPFailure(f"a folder may hold {FILES_LIMIT} files; remove answered ones")
        file = (place / f"{name}.part").open("wb", buffering=0)
        self._writing[file] = place / name
        return file

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        if offset + len(data) > FILE_LIMIT_BYTES:
            raise asyncssh.SFTPFailure(f"a file may have {FILE_LIMIT_BYTES} bytes")
        return super().write(file_obj, offset, data)  # type: ignore[return-value]  # plain files answer at once

    def close(self, file_obj: Any) -> None:
        """The writer's own close finishes a file; the one at the end of a broken session comes just before `exit`."""
        file_obj.close()
        if file_obj in self._writing:
            asyncio.get_running_loop().call_soon(self._finish, self._writing.pop(file_obj))

    def exit(self) -> None:
        self._is_over = True

    def _finish(self, path: Path) -> None:
        if self._is_over:
            return
        path.with_name(f"{path.name}.part").replace(path)
        if is_own_name(path.name):
            self._door.finished(self._site, self._identity, path.name)

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """The old way to say that a file is whole: written as `.part` or `.tmp`, then renamed."""
        old, new = self._own_name(oldpath), self._own_name(newpath)
        place = self._door.place(self._site)
        try:
            (place / old).replace(place / new)
        except FileNotFoundError:
            raise asyncssh.SFTPNoSuchFile("no such file") from None
        if is_own_name(new):
            self._door.finished(self._site, self._identity, new)

    posix_rename = rename

    def _own_name(self, path: bytes) -> str:
        """A file name of the folder's top level, no other."""
        name = path.decode("utf-8", "replace").removeprefix("/").removeprefix("./")
        if not name.isprintable() or "/" in name or name.startswith(".") or not 0 < len(name.encode()) <= 120:
            raise asyncssh.SFTPPermissionDenied("files have simple names of up to 120 bytes; there are no directories")
        return name

    def setstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """Times and permissions that clients wish for are not kept."""

    def fsetstat(self, file_obj: object, attrs: asyncssh.SFTPAttrs) -> None:
        """The same."""

    def _deny(self, *_: object) -> NoReturn:
        raise asyncssh.SFTPPermissionDenied("this door takes and gives files, nothing else")

    _denied: Any = _deny
    mkdir = rmdir = symlink = link = readlink = statvfs = fstatvfs = lsetstat = lock = unlock = _denied
    open56 = _denied
    """Version 3 of the protocol is what is spoken."""
