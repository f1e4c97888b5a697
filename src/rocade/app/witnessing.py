"""`rocade audit witness`: a witness's looks over HTTP, one after the other."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx

from rocade.core.errors import Corrupt, Misconfigured, Refused, RocadeError, Unavailable
from rocade.core.ports import SystemClock
from rocade.trust.identity.directory import load_root
from rocade.trust.identity.tls import client_context
from rocade.trust.identity.witness import Witness

MAX_BYTES = 1 << 20
TIMEOUT_S = 30


async def watch(
    url: str, directory: Path, root: Path | None, identity: Path | None, *, every_s: float | None, compare: bool,
    say: Callable[[str], object],
) -> bool:  # fmt: skip
    """Look for ever, or once (`every_s` None): whether nothing was refused. What is refused is said and looked at again.

    Raises: Misconfigured `witness.root`; Corrupt `witness.seen`.
    """
    pinned = root or (identity / "trust.pem" if identity else None)
    if pinned is None:
        raise Misconfigured(
            "witness.root", "name the region's root certificate with --root; what URL says of itself proves nothing"
        )
    witness = Witness(directory, load_root(pinned), SystemClock())
    say(f"witness {directory / 'witness.pem'}: give it to the region's operator and to verifiers")
    tls: ssl.SSLContext | bool = client_context(identity) if identity else True
    async with httpx.AsyncClient(base_url=url, verify=tls, timeout=TIMEOUT_S, trust_env=False) as client:
        while True:
            is_fine = await _look(client, witness, compare=compare, say=say)
            if every_s is None:
                return is_fine
            await asyncio.sleep(every_s)


async def _look(client: httpx.AsyncClient, witness: Witness, *, compare: bool, say: Callable[[str], object]) -> bool:
    async def fetch(path: str) -> bytes:
        return await _ask(client, "GET", path)

    try:
        signed = await witness.look(fetch)
        if compare:
            await witness.compare(fetch)
        head = witness.last
        assert head is not None
        await _ask(client, "POST", "/proofs/cosignatures", signed)
        say(f"{head.size} entries, root {head.root[:16]}: seen and signed")
    except Corrupt:
        raise
    except RocadeError as error:
        say(
            f"REFUSED {error.message}  [{error.code}]"
            if isinstance(error, Refused)
            else f"{error.message}  [{error.code}]"
        )
        return False
    return True


async def _ask(client: httpx.AsyncClient, method: str, path: str, body: bytes | None = None) -> bytes:
    """Raises: Refused with the region's own code, Unavailable `witness.unreachable`."""
    try:
        async with client.stream(method, path, content=body) as answer:
            content = b""
            async for part in answer.aiter_bytes():
                content += part
                if len(content) > MAX_BYTES:
                    raise Refused("witness.head.malformed", "the region answers more than any head or tile holds")
            if answer.is_success:
                return content
            if answer.status_code >= 500:
                raise Unavailable("witness.unreachable", f"the region answers {answer.status_code}")
            raise Refused("witness.denied", f"the region answers {answer.status_code} to {path.partition('?')[0]}")
    except httpx.HTTPError as error:
        raise Unavailable("witness.unreachable", f"the region cannot be asked: {type(error).__name__}") from None
