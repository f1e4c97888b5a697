"""The formats of the trade in the API process: SOAP, streams, webhooks, price changes, and drop folders over SFTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from rocade.app import wiring
from rocade.app.desk import HubDesk
from rocade.app.exchanging import open_recorder, open_signer
from rocade.app.pricing import price_lists
from rocade.console.application import Module
from rocade.core.errors import Misconfigured, Refused
from rocade.core.identifiers import Identity
from rocade.doors.sftp import DropFolder
from rocade.doors.soap import Authorities, RegionSigners, Verifier, door
from rocade.doors.soap.dispatch import Desk, Dispatcher
from rocade.doors.soap.signing import Credential
from rocade.fabric.database import Database
from rocade.services.dealers import SiteTable
from rocade.services.exchange import KeyBook, RouteTable
from rocade.services.exchange import streams as streams_api
from rocade.services.exchange.keyring import check_time
from rocade.services.exchange.news import Log, Newsroom, Source
from rocade.services.exchange.vouching import Vouching
from rocade.services.exchange.webhooks import Webhooks
from rocade.services.exchange.webhooks import api as webhooks_api
from rocade.services.prices import changes as changes_api
from rocade.trust.authority import DenySet
from rocade.trust.identity.directory import LiveIssuers, load_key, load_leaf, stamp_of
from rocade.trust.identity.keys import key_id, write_private


@dataclass
class Trading:
    """`modules` for the application; `run` what follows the database; `close` ends it."""

    modules: Sequence[Module]
    newsroom: Newsroom
    webhooks: Webhooks
    vouching: Vouching
    routes: RouteTable
    sftp: Any = None
    keys: KeyBook | None = None

    @classmethod
    async def open(
        cls,
        parts: wiring.Common,
        table: SiteTable,
        issuers: LiveIssuers,
        denied: DenySet,
        over: Callable[[HubDesk], Desk] = lambda desk: desk,
        newsroom_of: Callable[[Database, Sequence[Source]], Newsroom] = Newsroom,
    ) -> Self:
        """`over` puts something before the desk, `newsroom_of` makes the newsroom: the sandbox watches there."""
        configuration, database, clock = parts.configuration, parts.database, parts.clock
        lists, signer = price_lists(parts, table), await open_signer(parts)
        routes = await RouteTable.open(database, table, clock)
        vouching = Vouching(database, open_recorder(parts, signer), signer, routes, clock)
        desk = HubDesk(lists, table, vouching, clock)
        signers = RegionSigners(
            lambda: issuers.table, ("dealer", "partner"), denied.is_revoked, _authorities(configuration.root, parts)
        )
        dispatcher = Dispatcher(
            Verifier(signers, clock),
            over(desk),
            LiveCredential(configuration.server),
            clock,
            parts.random,
            vouching.is_new,
        )
        sources: list[Source] = [Log(database)]
        if lists is not None:
            sources.append(changes_api.Releases(lists))
        newsroom = newsroom_of(database, sources)
        place = Identity(configuration.trust_domain, configuration.region, "service", "api")
        webhooks = Webhooks(
            database, newsroom, place, configuration.root / "webhooks.key", parts.audit, clock, parts.random
        )
        modules = [
            Module(
                door.HANDLERS,
                {"soap": dispatcher, "described": door.Described(configuration.issuer, version("rocade"))},
            ),
            Module(streams_api.HANDLERS, {"news": newsroom}),
            Module(webhooks_api.HANDLERS, {"webhooks": webhooks}),
            *([Module(changes_api.HANDLERS, {"lists": lists})] if lists else ()),
        ]
        opened = cls(modules, newsroom, webhooks, vouching, routes)
        if configuration.sftp.port:
            opened.keys = KeyBook(database, clock)
            opened.sftp = await _open_sftp(parts, table, desk, opened.keys)
            await denied.watch(opened.keys.revoked)
        return opened

    async def run(self) -> None:
        """Wake readers, tell webhooks, forget evidence in time, for ever."""
        await asyncio.gather(self.newsroom.run(), self.webhooks.run(), self.vouching.keep_house())

    async def close(self) -> None:
        if self.sftp is not None:
            await self.sftp.close()
        await self.routes.close()


def _authorities(root: Path, parts: wiring.Common) -> Authorities:
    """Raises: Misconfigured `soap.authorities`."""
    name = parts.configuration.soap.authorities
    if not name:
        return Authorities()
    try:
        return Authorities.read((root / name).read_bytes())
    except OSError as error:
        raise Misconfigured("soap.authorities", f"soap.authorities cannot be read: {error.strerror}") from error


class LiveCredential:
    """The hub's own key and certificate as they are at the moment: what answers are signed with."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stamp = (0, 0)
        self._credential: Credential

    def __call__(self) -> Credential:
        stamp = stamp_of(self._directory / "certificate.pem")
        if stamp != self._stamp:
            leaf = load_leaf(self._directory).public_bytes(Encoding.DER)
            self._credential, self._stamp = Credential(load_key(self._directory), leaf), stamp
        return self._credential


async def _open_sftp(parts: wiring.Common, table: SiteTable, desk: HubDesk, keys: KeyBook) -> Any:
    """Raises: Misconfigured `sftp.extra` where the library is not installed."""
    try:
        from rocade.doors.sftp.server import SftpDoor
    except ImportError as error:
        raise Misconfigured("sftp.extra", "sftp.port needs the extra: pip install 'rocade[sftp]'") from error
    configuration, clock = parts.configuration, parts.clock

    def identity_of(site: str) -> Identity:
        return Identity(configuration.trust_domain, configuration.region, "dealer", site)

    async def proves(user: str, key: Any) -> str:
        now_us = clock.now_us()
        table.check_site(user, now_us)
        identity = identity_of(user).uri
        found = (await keys.keys(identity)).get(key_id(key).hex())
        if found is None:
            raise Refused("sftp.key", "this key is not one of a certificate of that site")
        check_time(found, now_us, now_us)
        if now_us >= found.not_after_us:
            raise Refused("sftp.key", "the certificate of this key has ended")
        return identity

    def folder(site: str, _identity: str, place: Path) -> DropFolder:
        return DropFolder(
            place,
            lambda given: desk.drop(identity_of(site), given),
            clock,
            encoding=configuration.sftp.encoding,
            settle_s=0,
            resources=("message",),
            keeps=False,
        )

    root = configuration.root / "sftp"
    opened = SftpDoor(root / "sites", _host_key(root / "host_key.pem"), proves, folder, parts.audit, clock)
    await opened.start(configuration.sftp.host, configuration.sftp.port, shared=configuration.http.processes > 1)
    opened.resume(lambda site: identity_of(site).uri)
    return opened


def _host_key(file: Path) -> str:
    """The door's own SSH key; made at its first opening."""
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = ed25519.Ed25519PrivateKey.generate()
        write_private(file, made.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return file.read_text()
