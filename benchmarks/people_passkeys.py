"""Passkeys alone: answers checked per second, whole sign-ins through PostgreSQL, sessions recognised.

`measure()` gives the rows that benchmarks/people.py joins into build/bench/people.json; `python benchmarks/people_passkeys.py`
prints them. Checks are counted per second of CPU (user + system) of this process, so that neighbours on the machine do not
count; the others by the clock. The peer is the bare ECDSA verification of `cryptography`: the least a check can cost.
"""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from webauthn.helpers import encode_cbor

from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database, EmbeddedPostgres, migrate
from rocade.trust.authority.people import Passkey, People, Site, ceremonies
from sealed import keyed, unkeyed
from silent import Silent

type Figure = dict[str, object]
GOAL_PER_S = 5_000
SITE = Site()
PERSON = "person:00000000000000aa"
PACKAGES = (
    "rocade.fabric.database", "rocade.trust.authority", "rocade.trust.authority.sealing",
    "rocade.trust.authority.people",
)  # fmt: skip
VERIFIED, ATTESTED = 5, 64


def figure(name: str, value: float, goal: float | None = None, *, peer: str = "", peer_value: float = 0.0) -> Figure:
    return {
        "figure": name, "value": round(value), "unit": "1/s", "goal": goal, "met": None if goal is None else value >= goal,
        "peer": peer, "peer_value": round(peer_value) or None, "ratio": round(value / peer_value, 2) if peer_value else None,
    }  # fmt: skip


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Key:
    """A passkey in software, as one on a phone: its counter grows with each answer."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._count = 0
        public = self._key.public_key().public_numbers()
        self.public_key = encode_cbor({1: 2, 3: -7, -1: 1, -2: public.x.to_bytes(32), -3: public.y.to_bytes(32)})
        self.id = sha256(self.public_key).digest()

    def _data(self, flags: int) -> bytes:
        self._count += 1
        return sha256(SITE.host.encode()).digest() + bytes([flags]) + self._count.to_bytes(4)

    def _made(self, **response: str) -> dict[str, object]:
        named = {"id": text(self.id), "rawId": text(self.id), "type": "public-key", "clientExtensionResults": {}}
        return {**named, "response": response}

    def registered(self, challenge: str) -> dict[str, object]:
        data = self._data(VERIFIED | ATTESTED) + bytes(16) + len(self.id).to_bytes(2) + self.id + self.public_key
        attestation = encode_cbor({"fmt": "none", "attStmt": {}, "authData": data})
        client = json.dumps({"type": "webauthn.create", "challenge": challenge, "origin": SITE.origin}).encode()
        return self._made(clientDataJSON=text(client), attestationObject=text(attestation))

    def answer(self, challenge: str) -> tuple[dict[str, object], bytes, bytes]:
        """The answer, and its signature with what was signed, for the peer."""
        data = self._data(VERIFIED)
        client = json.dumps({"type": "webauthn.get", "challenge": challenge, "origin": SITE.origin}).encode()
        signed = data + sha256(client).digest()
        signature = self._key.sign(signed, ec.ECDSA(hashes.SHA256()))
        made = self._made(clientDataJSON=text(client), authenticatorData=text(data), signature=text(signature))
        return made, signature, signed

    def bare(self, signature: bytes, signed: bytes) -> None:
        self._key.public_key().verify(signature, signed, ec.ECDSA(hashes.SHA256()))


def per_cpu_second(work: Callable[[int], object], times: int) -> float:
    begin = time.process_time()
    for number in range(times):
        work(number)
    return times / (time.process_time() - begin)


def checks(times: int = 5_000) -> list[Figure]:
    key = Key()
    stored = Passkey(
        1, key.id, PERSON, key.public_key, 0, "bench", is_synced=False, added_us=0, used_us=None, ended_us=None
    )
    answers = [key.answer(text(number.to_bytes(32))) for number in range(times)]

    def check(number: int) -> None:
        answer = ceremonies.parse_sign_in(answers[number][0])
        ceremonies.check_counter(stored, ceremonies.verify_sign_in(SITE, answer, stored))

    bare = per_cpu_second(lambda number: key.bare(*answers[number][1:]), times)
    ours = per_cpu_second(check, times)
    return [
        figure(
            "passkey verification, per CPU second", ours, GOAL_PER_S, peer="bare ECDSA verification", peer_value=bare
        )
    ]


async def _in_parallel(work: Callable[[int], Awaitable[object]], times: int, width: int = 16) -> float:
    async def lane(first: int) -> None:
        for number in range(first, times, width):
            await work(number)

    begin = time.perf_counter()
    await asyncio.gather(*(lane(first) for first in range(width)))
    return times / (time.perf_counter() - begin)


async def sign_ins(database: Database, times: int = 1_600) -> list[Figure]:
    people = People(database, Silent(), SystemClock(), SystemRandom(), SITE)
    keys, secrets = [Key() for _ in range(16)], []
    for key in keys:
        person = await people.add("Bench")
        secret = await people.redeem_link(await people.link(person.id, "bench"))
        session = await people.session(secret)
        assert session is not None
        options = await people.passkeys.register_options(session, secret)
        secrets.append(
            (await people.passkeys.register(session, secret, key.registered(options["challenge"]), "Key"))[0]
        )

    async def sign_in(number: int) -> None:
        browser, peer = f"browser {number}", f"peer:{number}"
        options = await people.passkeys.sign_in_options(browser, peer)
        await people.passkeys.sign_in(browser, keys[number % 16].answer(options["challenge"])[0], peer)

    async def recognise(number: int) -> None:
        assert await people.session(secrets[number % 16])

    return [
        figure("whole sign-in, challenge to session, through PostgreSQL", await _in_parallel(sign_in, times)),
        figure("session recognised, as every request asks", await _in_parallel(recognise, 100_000)),
    ]


async def _on_database() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="rocade-bench-") as directory:
        server = EmbeddedPostgres(Path(directory))
        url = await asyncio.to_thread(server.start)
        try:
            await asyncio.to_thread(migrate, url, PACKAGES)
            database = keyed(await Database.connect(url, 16), Path(directory))
            try:
                return await sign_ins(database)
            finally:
                await unkeyed(database)
                await database.close()
        finally:
            await asyncio.to_thread(server.stop)


def measure() -> list[Figure]:
    """All rows."""
    return [*checks(), *asyncio.run(_on_database())]


if __name__ == "__main__":
    for row in measure():
        print(json.dumps(row))
