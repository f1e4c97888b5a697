"""A witness of a region's audit log: somebody else's machine that keeps every signed head and signs it only if the log just grew.

It needs the region's root certificate and the published hashes, nothing else, and no entry's content ever reaches it. Flow of a
`look`: the newest head -> is it signed by a key the root vouches for, and not dated after now -> the proof that it holds all of
the last head kept here -> the head is written to `seen` and synced -> only then it is cosigned. `compare` reads every published
leaf hash besides, keeps it, and names the entry whose hash is not the one that was kept before.
Two heads over equally many entries that differ are the proof of a fork: kept as `fork-<size>.json`, which `rocade verify` takes.
What is refused stands in `refused`, one line each, with the head that was offered.

    key.pem        the witness's key                seen       accepted heads, one signed envelope a line
    witness.pem    its public half, to be given     leaves     32 bytes an entry, once `compare` has read them
                   to the region and to verifiers   refused    what was refused, when and why

Refuses: Refused `witness.head.malformed`, `.signer`, `.future`, `.shrunk`, `.forked`, `witness.entry.changed`; Corrupt `witness.seen`.
Source: RFC 6962 sections 2.1.2 and 5.3 (monitors); docs/decisions/0060-proofs.md.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rocade.core.errors import Corrupt, Refused
from rocade.core.ports import Clock
from rocade.trust.identity import envelope, proof, proof_files
from rocade.trust.identity.keys import create_private, read_private, write_atomically
from rocade.trust.identity.tree_heads import COSIGNATURE_TYPE, Cosignature, Head, is_ahead
from rocade.trust.identity.trees import HASH_BYTES, root_of_all

TILE = 256
type Fetch = Callable[[str], Awaitable[bytes]]
"""Reads a published path, such as /proofs/head. Raises what its transport raises; Refused where the region refuses."""


class Published(msgspec.Struct, frozen=True):
    """What stands under /proofs/head."""

    head: msgspec.Raw
    signers: tuple[msgspec.Raw, ...] = ()
    cosignatures: tuple[msgspec.Raw, ...] = ()


class Refusal(msgspec.Struct, frozen=True):
    """A line of `refused`."""

    at_us: int
    code: str
    message: str
    head: msgspec.Raw


class Witness:
    """One witness of one region. `directory` is made where it is missing; `root`: the region's root certificate."""

    def __init__(self, directory: Path, root: x509.Certificate, clock: Clock) -> None:
        self._directory = directory
        self._root = root
        self._clock = clock
        directory.mkdir(parents=True, exist_ok=True)
        if not (directory / "key.pem").exists():
            create_private(directory / "key.pem")
        self._key = read_private(directory / "key.pem")
        public = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        if not (directory / "witness.pem").exists():
            write_atomically(directory / "witness.pem", public)
        for name, record in (("seen", b"\n"), ("leaves", b"")):
            _cut(directory / name, record)

    async def look(self, fetch: Fetch) -> bytes:
        """Take the newest head and return what to publish: the cosignature. The same head again is signed again.

        Raises: Refused as above, noted in `refused`; what `fetch` raises.
        """
        content = await fetch("/proofs/head")
        try:
            published = msgspec.json.decode(content, type=Published)
        except envelope.UNREADABLE:
            raise Refused("witness.head.malformed", "the region published no tree head") from None
        signed = bytes(published.head)
        try:
            head = proof.open_tree_head(signed, [bytes(one) for one in published.signers], self._root)
            await self._check(fetch, published, head)
        except Refused as refusal:
            is_foreign = refusal.code == "proof.signer"
            refused = Refused("witness.head.signer", refusal.message) if is_foreign else refusal
            self._note(refused.code, refused.message, published.head)
            raise refused from None
        if signed != self.last_signed:
            _append(self._directory / "seen", signed + b"\n")
        seen = Cosignature(head.size, head.root, self._clock.now_us())
        return envelope.seal(COSIGNATURE_TYPE, msgspec.json.encode(seen), self._key)

    @property
    def last_signed(self) -> bytes | None:
        """The last head that was accepted, as it was signed; a line that a crash cut off was never cosigned."""
        path = self._directory / "seen"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return lines[-1] if lines else None

    @property
    def last(self) -> Head | None:
        """Raises: Corrupt `witness.seen`."""
        signed = self.last_signed
        try:
            return msgspec.json.decode(envelope.payload_of(signed), type=Head) if signed else None
        except (Refused, msgspec.MsgspecError):
            raise Corrupt("witness.seen", "the file of seen heads was changed; start from a copy of it") from None

    async def _check(self, fetch: Fetch, published: Published, head: Head) -> None:
        """Whether this head may follow the last one."""
        if is_ahead(head.at_us, self._clock.now_us()):
            raise Refused("witness.head.future", "the head is dated after now; one of the two clocks is wrong")
        last, signed = self.last, self.last_signed
        if last is None or signed is None or (last.size, last.root) == (head.size, head.root):
            return
        statements = [bytes(one) for one in published.signers]
        if head.size < last.size:
            raise Refused("witness.head.shrunk", f"the log had {last.size} entries and shows {head.size} now")
        if head.size == last.size:
            evidence = proof_files.fork_proof(signed, bytes(published.head), statements=statements)
            write_atomically(self._directory / f"fork-{head.size}.json", evidence)
            raise Refused("witness.head.forked", f"two signed heads of {head.size} entries differ; the proof is kept")
        try:
            answer = await fetch(f"/proofs/consistency?from={last.size}&to={head.size}")
            path = msgspec.json.decode(answer, type=proof_files.GrowthProof).path
            grown = proof_files.consistency_proof(signed, bytes(published.head), path, statements=statements)
            proof.verify(grown, self._root)
        except (Refused, *envelope.UNREADABLE):
            raise Refused(
                "witness.head.forked",
                f"the region cannot show that its {head.size} entries hold the {last.size} it signed before",
            ) from None

    async def compare(self, fetch: Fetch) -> int:
        """Read all published leaf hashes under the last head, compare them with those kept and with its root; how many there are.

        Raises: Refused `witness.entry.changed` (`position` in its facts), `witness.head.forked`.
        """
        head = self.last
        if head is None:
            return 0
        path = self._directory / "leaves"
        kept = path.read_bytes() if path.exists() else b""
        found = bytearray()
        for number in range((head.size + TILE - 1) // TILE):
            low = number * TILE * HASH_BYTES
            tile = (await fetch(f"/proofs/tile/0/{number}"))[: head.size * HASH_BYTES - low]
            for at in range(0, len(tile), HASH_BYTES):
                was = kept[low + at : low + at + HASH_BYTES]
                if was and was != tile[at : at + HASH_BYTES]:
                    raise self._changed((low + at) // HASH_BYTES)
            found += tile
        leaves = [bytes(found[at : at + HASH_BYTES]) for at in range(0, len(found), HASH_BYTES)]
        if len(leaves) != head.size or root_of_all(leaves).hex() != head.root:
            self._note("witness.head.forked", "leaf hashes do not have the head's root", msgspec.Raw(b"null"))
            raise Refused("witness.head.forked", "the published leaf hashes are not those the head was signed over")
        _append(path, bytes(found[len(kept) :]))
        return head.size

    def _changed(self, position: int) -> Refused:
        message = f"entry {position} is not what it was when its hash was read here first"
        self._note("witness.entry.changed", message, msgspec.Raw(b"null"))
        return Refused("witness.entry.changed", message, position=position)

    def _note(self, code: str, message: str, head: msgspec.Raw) -> None:
        line = msgspec.json.encode(Refusal(self._clock.now_us(), code, message, head))
        _append(self._directory / "refused", line + b"\n")


def _cut(path: Path, end: bytes) -> None:
    """Take away what a crash left of a record: nothing that was not synced was ever signed."""
    if path.exists():
        size = path.stat().st_size
        os.truncate(path, path.read_bytes().rfind(end) + 1 if end else size - size % HASH_BYTES)


def _append(path: Path, content: bytes) -> None:
    """Durable when it returns; the directory's entry too, where the file is new."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        while content:
            content = content[os.write(handle, content) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
