"""What goes down to parties by itself: the entries of their logs, from the cursor each one names, in order.

Flow: a party that has connected asks for its log behind its cursor (`replay`) -> pages of it are put on its line -> once it is through,
new entries follow as they are committed, by any process (notification and poll). Its cursor is what it has on its own disk: what
got lost with a connection comes again with the next `replay`. A party that never asks is sent nothing.
An entry is a message on its way to the party (with the hub's signature beside the sender's) or the DECIDED receipt of one it sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence

import asyncpg
import msgspec

from rocade.core.errors import RocadeError
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.fabric.database.following import follow
from rocade.services.exchange import ledger
from rocade.services.exchange.intake import ExchangeIntake
from rocade.services.exchange.ledger import Commit, Entry
from rocade.services.exchange.line import Line
from rocade.services.exchange.model import MESSAGE_ENTRY
from rocade.services.exchange.signing import Signer
from rocade.trust.authority.sealing.columns import Columns
from rocade.wire.exchange import Delivery, Tree, bundle_of

PAGE = 64
_MOST_TREES = 256
_PACE_S = 0.05
_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class Trees:
    """Trees of commits, those used lately kept."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: dict[int, tuple[bytes, Tree]] = {}

    def keep(self, commit: Commit, tree: Tree) -> None:
        if len(self._kept) >= _MOST_TREES:
            self._kept.pop(next(iter(self._kept)))
        self._kept[commit.number] = commit.signed, tree

    async def load(self, numbers: Iterable[int]) -> dict[int, tuple[bytes, Tree]]:
        """(signed root, tree) of each commit."""
        wanted = set(numbers)
        found = {number: self._kept[number] for number in wanted & self._kept.keys()}
        if missing := wanted - found.keys():
            async with self._database.pool.acquire() as connection:
                for number, commit in (await ledger.read_commits(connection, list(missing))).items():
                    tree = Tree(leaves_of(commit.leaves))
                    found[number] = commit.signed, tree
                    self.keep(commit, tree)
        return found


def leaves_of(joined: bytes) -> list[bytes]:
    """The leaf hashes of a commit."""
    return [joined[at : at + 32] for at in range(0, len(joined), 32)]


class Downstream:
    """`run` follows the logs for the parties connected here."""

    def __init__(self, database: Database, intake: ExchangeIntake, line: Line, signer: Signer, trees: Trees) -> None:
        self._database = database
        self._intake = intake
        self._line = line
        self._signer = signer
        self._trees = trees
        self._behind: set[str] = set()
        self._newest = 0
        self._wake = asyncio.Event()

    def replay(self, party: str, cursor: int) -> None:
        """The party has everything up to `cursor` and wants what follows."""
        context = self._intake.connected.get(party)
        if context is not None:
            context.following = cursor
            self._behind.add(party)
            self._wake.set()

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follow(self._database, ledger.CHANNEL, self._hear))
            tasks.create_task(self._send_for_ever())

    async def _hear(self, connection: asyncpg.Connection) -> None:
        """Note who has news."""
        following = [party for party, one in self._intake.connected.items() if one.following >= 0]
        self._newest, parties = await ledger.read_news(connection, self._newest, following)
        if parties:
            self._behind |= parties
            self._wake.set()

    async def _send_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                is_more = await self._send()
            except (RocadeError, TimeoutError, *DOWN, asyncpg.PostgresError) as error:
                _log.warning("logs of parties cannot be read: %s", type(error).__name__)
                is_more = True
            if is_more:
                await asyncio.sleep(_PACE_S)
                self._wake.set()

    async def _send(self) -> bool:
        """One page for everybody who is behind and has room; whether there is more to do."""
        behind, self._behind = self._behind, set()
        readers, full = [], set()
        for party in behind:
            context = self._intake.connected.get(party)
            if context is None or context.following < 0:
                continue
            if self._line.room(party) >= PAGE:
                readers.append((party, context.following))
            else:
                full.add(party)
        self._behind |= full
        if not readers:
            return bool(self._behind)
        try:
            async with self._database.pool.acquire() as connection:
                entries = await ledger.read_log(connection, Columns(self._database), readers, PAGE)
            await self._put(entries)
        except BaseException:
            self._behind |= {party for party, _ in readers}
            raise
        counts: dict[str, int] = {}
        for entry in entries:
            counts[entry.party] = counts.get(entry.party, 0) + 1
        self._behind |= {party for party, count in counts.items() if count == PAGE}
        return bool(self._behind)

    async def _put(self, entries: Sequence[Entry]) -> None:
        decided = [
            one.decided_commit for one in entries if one.kind != MESSAGE_ENTRY and one.decided_commit is not None
        ]
        trees = await self._trees.load(decided)
        for entry in entries:
            context = self._intake.connected.get(entry.party)
            if context is None or entry.number <= context.following:
                continue
            context.following = entry.number
            if (made := self._body(entry, trees)) is not None:
                self._line.send(entry.party, *made)

    def _body(self, entry: Entry, trees: dict[int, tuple[bytes, Tree]]) -> tuple[str, bytes] | None:
        """Tail and body of one entry; None if there is nothing left to send."""
        if entry.kind == MESSAGE_ENTRY:
            if entry.envelope is None:
                return None
            signed = self._signer.countersign(entry.envelope)
            return "message", _encode(Delivery(entry.number, msgspec.Raw(signed), entry.recorded_us))
        if entry.decided is None or entry.decided_commit is None or entry.decided_commit not in trees:
            return None
        root, tree = trees[entry.decided_commit]
        return "receipt", bundle_of(root, tree, [(entry.decided_index or 0, entry.decided)], entry.number)
