"""The exchange role: the dealers' permanent line, the record of messages, what goes down by itself, other hubs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from rocade.agents.link import Link
from rocade.agents.renewal import Renewal
from rocade.app import wiring
from rocade.app.configuration import Configuration
from rocade.app.pricing import price_lists
from rocade.core.errors import Refused, RocadeError
from rocade.doors.mqtt import Door, Settings
from rocade.fabric.database.connection import DOWN
from rocade.services.dealers import Orders, SiteTable
from rocade.services.exchange import (
    SIGNER,
    TAILS,
    Downstream,
    Evidence,
    Exchange,
    ExchangeIntake,
    KeyBook,
    Line,
    Presence,
    Question,
    Questions,
    Quota,
    Recorder,
    Revocations,
    RouteTable,
    Signer,
    Upward,
    Verdict,
)
from rocade.services.exchange.heads import HeadPush
from rocade.services.exchange.housekeeping import Keeping, keep_house
from rocade.services.exchange.peers import Address, Keep, Peer, Peers
from rocade.services.prices import Lists, Said
from rocade.services.vehicles.sessions import GatewaySessions
from rocade.trust.authority import Authority, DenySet, Region
from rocade.trust.identity import est_client
from rocade.trust.identity.directory import LiveIssuers
from rocade.trust.identity.tls import ServerIdentity
from rocade.wire.exchange import UNREADABLE
from rocade.wire.prices import ACK_TYPE

SESSION = "exchange:"
"""Before a party's name among the claims of connections, which vehicles' gateways share."""


async def open_signer(parts: wiring.Common) -> Signer:
    """The hub's signing key; made here where the region's issuing keys are."""
    trust, authority = parts.configuration.trust, None
    if (trust / "issuers").is_dir():
        region = Region(trust, parts.clock, parts.random)
        authority = Authority(region, parts.database, parts.audit, parts.clock, parts.random)
    return await Signer.of_hub(parts.configuration.root / SIGNER, parts.database, parts.clock, authority)


def open_recorder(parts: wiring.Common, signer: Signer) -> Recorder:
    prefix = f"spiffe://{parts.configuration.trust_domain}/{parts.configuration.region}/"
    return Recorder(parts.database, signer, parts.audit, parts.clock, prefix)


SWEEP_S = 3_600.0


class LineSessions:
    """Claims of parties' connections beside those of vehicles, under names that cannot meet."""

    def __init__(self, below: GatewaySessions) -> None:
        self._below = below

    async def claim(self, party: str, /) -> int:
        return await self._below.claim(SESSION + party)

    async def release(self, party: str, claim: int, /) -> None:
        await self._below.release(SESSION + party, claim)


@contextlib.asynccontextmanager
async def exchange(configuration: Configuration) -> AsyncIterator[wiring.Part]:
    """MQTT door -> intake -> record and receipts; logs, heads and revocations down; other hubs dialled."""
    async with wiring.common(configuration, 8) as parts:
        database, clock, settings = parts.database, parts.clock, configuration.exchange
        server, issuers = ServerIdentity(configuration.server), LiveIssuers(configuration.trust)
        denied, places = await DenySet.open(database, clock), await SiteTable.open(database, clock)
        routes, signer = await RouteTable.open(database, places, clock), await open_signer(parts)
        keys, line, evidence = KeyBook(database, clock), Line(), Evidence(database)
        intake = ExchangeIntake(
            places=places, keys=keys, evidence=evidence, audit=parts.audit, clock=clock,
            quota=Quota(messages_per_s=settings.messages_per_s, bytes_per_s=settings.kib_per_s * 1024),
        )  # fmt: skip
        recorder = open_recorder(parts, signer)
        work = Exchange(database, recorder, signer, routes, clock, line=line, intake=intake)
        downstream = Downstream(database, intake, line, signer, work.trees)
        revocations = Revocations(database, signer, clock, configuration.region)
        process = os.environ.get("ROCADE_PROCESS", f"exchange@{socket.gethostname()}")
        presence = Presence(database, clock, process)
        questions = Questions(line)
        lists = price_lists(parts, places)
        heads = HeadPush(database, line, lists)
        peers = Peers(configuration.root / "hubs", database, work, _dial, renewing(parts))
        _listen(intake, work, questions, presence, line, lists)
        _answer(questions, work, downstream, revocations, heads)
        intake.on_change.append(lambda context, is_here: presence.changed(context, is_here=is_here))
        sessions = GatewaySessions(database, parts.random)
        door = Door(
            intake,
            server.context,
            wiring.verifier(issuers, clock, tuple(TAILS), denied),
            parts.audit,
            is_revoked=denied.is_revoked,
            sessions=LineSessions(sessions),
            tails=TAILS,
            settings=Settings(
                tick_max_ms=settings.tick_ms,
                max_connections=settings.max_connections,
                max_down_in_flight=64,
                reuse_port=settings.processes > 1,
            ),
            clock=clock,
        )
        line.over(door)
        for watcher in (door.revoked, keys.revoked, revocations.revoked):
            await denied.watch(watcher)

        def push(tail: str, body: bytes) -> None:
            for party in line.connected():
                line.send(party, tail, body)

        async def tell_signers() -> None:
            push("signers", await _signers(work))

        signer.changed = tell_signers
        meter = door.meter

        def status() -> dict[str, Any]:
            return {
                "connections": meter.connections,
                "handshakes": meter.handshakes_done,
                "publishes": meter.publishes,
                "acknowledged": meter.acknowledged,
                "ack_p50_ms": meter.ack_latency.quantile_us(0.5) / 1000,
                "ack_p99_ms": meter.ack_latency.quantile_us(0.99) / 1000,
                "ticks": meter.ticks,
                "accept_retries": meter.accept_retries,
                "down_sent": meter.down_sent,
                "down_acknowledged": meter.down_acknowledged,
                "routes": routes.version,
                "refusals": dict(meter.refusals),
                "refused": dict(intake.counters.refused),
            }

        def taken_over(party: str, claim: int) -> None:
            if party.startswith(SESSION):
                door.taken_over(party.removeprefix(SESSION), claim)

        part = wiring.Part(database, clock, status)
        await door.open(settings.host, settings.port)
        kept = Keeping(settings.technical_days, settings.customer_days, settings.fiscal_days)
        for name, running in {
            "door": door.failed(),
            "sessions": sessions.listen(taken_over),
            "roll": server.keep(),
            "signer": signer.keep(),
            "logs": downstream.run(),
            "revocations": revocations.run(push),
            "presence": presence.run(),
            "evidence": evidence.run(),
            "heads": heads.run(),
            "hubs": peers.run(),
            "orders": Orders(database, parts.audit, clock).deliver(line.is_connected, line.send),
            "house": keep_house(database, recorder, questions, kept, clock),
        }.items():
            part.spawn(running, name)
        if lists is not None:
            part.spawn(_sweep_for_ever(lists), "sweep")
        try:
            yield part
        finally:
            await door.drain()
            await work.close()
            await part.end()
            with contextlib.suppress(Exception):
                await evidence.write()
            await presence.end()
            await routes.close()
            await places.close()
            await denied.close()


async def _sweep_for_ever(lists: Lists) -> None:
    """Price files that nothing names (of a release that failed) go after a day."""
    while True:
        await asyncio.sleep(SWEEP_S)
        with contextlib.suppress(RocadeError, OSError, *DOWN):
            await lists.sweep()


def _listen(
    intake: ExchangeIntake, work: Exchange, questions: Questions, presence: Presence, line: Line, lists: Lists | None
) -> None:
    """Who takes what under each tail."""
    intake.on("message", work.take)
    intake.on("decision", work.take_decisions)
    intake.on("ask", questions.take)
    intake.on("state", presence.take)
    if lists is not None:
        intake.on("ack", Acknowledgements(work, lists).take)
        work.on_keys = partial(_announced, lists, line)
    intake.on("keys", work.take_keys)


async def _announced(lists: Lists, line: Line, site: str, keys: Sequence[tuple[bytes, int]]) -> None:
    """New encryption keys: the letters to them follow at once, for what was asked before could not be answered."""
    if await lists.announce_keys(site, keys):
        for letter in await lists.letters(site):
            line.send(site, "epoch", letter)


class Ack(msgspec.Struct, frozen=True, rename={"list_id": "list"}):
    """What a point of sale says about a release, sealed as `ACK_TYPE`."""

    list_id: str
    seq: int
    state: str
    state_root: str = ""
    code: str = ""
    at_us: int = 0


class Acknowledgements:
    """`up/ack` -> price lists: signed by the site, all of a moment in one statement."""

    def __init__(self, work: Exchange, lists: Lists) -> None:
        self._work = work
        self._lists = lists

    async def take(self, batch: Sequence[Upward]) -> list[Verdict]:
        verdicts: list[Verdict] = []
        found: list[Said] = []
        for upward in batch:
            try:
                ack = msgspec.json.decode(await self._work.opened(ACK_TYPE, upward), type=Ack)
            except UNREADABLE:
                verdicts.append(Refused("exchange.ack.malformed", "this is no acknowledgement of a price list"))
            except Refused as refusal:
                verdicts.append(refusal)
            else:
                found.append(Said(upward.site, ack.list_id, ack.seq, ack.state, ack.code, ack.at_us))
                verdicts.append(None)
        await self._lists.acknowledge(found)
        return verdicts


def _answer(
    questions: Questions, work: Exchange, downstream: Downstream, revocations: Revocations, heads: HeadPush
) -> None:
    """Who answers what is asked on the line."""

    async def replay(party: str, question: Question) -> list[tuple[str, bytes]]:
        downstream.replay(party, question.after)
        return []

    async def receipts(party: str, question: Question) -> list[tuple[str, bytes]]:
        return [("receipt", body) for body in await work.bundles(party, question.ids)]

    async def revoked(_party: str, _question: Question) -> list[tuple[str, bytes]]:
        return [("revocations", await revocations.body())]

    async def signers(_party: str, _question: Question) -> list[tuple[str, bytes]]:
        return [("signers", await _signers(work))]

    async def current_heads(party: str, _question: Question) -> list[tuple[str, bytes]]:
        return [("revocations", await revocations.body()), *(("head", head) for head in await heads.of(party))]

    async def epochs(party: str, _question: Question) -> list[tuple[str, bytes]]:
        return [("epoch", letter) for letter in await heads.letters(party)]

    for want, answer in {
        "replay": replay, "receipts": receipts, "revocations": revoked, "signers": signers, "heads": current_heads,
        "epochs": epochs,
    }.items():  # fmt: skip
        questions.on(want, answer)


async def _signers(work: Exchange) -> bytes:
    return msgspec.json.encode({"chains": [chain.decode() for chain in await work.chains()]})


def renewing(parts: wiring.Common) -> Keep:
    """Our identities at other hubs are renewed as agents renew theirs."""

    async def keep(folder: Path, address: Address, renewed: Callable[[], None]) -> None:
        server = est_client.Server(address.host, address.est_port, parts.clock)
        await Renewal(folder, server, renewed, parts.clock, parts.random).run()

    return keep


async def _dial(host: str, port: int, context: ssl.SSLContext, id: str, peer: Peer) -> Link:
    """A line to another hub: the link that agents use."""
    return await Link.open(host, port, context, id, peer, window=32)
