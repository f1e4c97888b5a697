"""One good proof of each kind, and forgeries of it: the same table for the verifier in Python and the one in a browser."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rocade.core.identifiers import Identity
from rocade.core.ports import AuditEntry, SystemClock, SystemRandom
from rocade.trust.authority.heads import HEAD_TYPE, KEY_TYPE, Head
from rocade.trust.authority.region import create_region, issue_directory
from rocade.trust.identity import directory, envelope, proof_files, trees
from rocade.trust.identity.keys import PrivateKey, key_id, new_key
from rocade.trust.identity.tree_heads import COSIGNATURE_TYPE, Cosignature

ROOT_TYPE = "application/vnd.rocade.receipt-root+json"
AT_US = 1_790_000_000_000_000
SIZE, OLD, PLACE = 13, 6, 5
type Change = Callable[[dict[str, Any]], None]


def pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class Cases:
    """`files`: a good proof of each kind; `trust`: PEM of what each is checked with; `witness`: PEM of who signed tree heads too."""

    def __init__(self, folder: Path) -> None:
        self.root, self.key, self.seen_by = new_key(), new_key(), new_key()
        self.witness = pem(self.seen_by)
        facts = {"erasure": "e-7", "scope": "vehicle", "ledger": 4, "ordered_us": AT_US - 9, "rows": 12_000, "parts_before": 3,
                 "parts_after": 0, "log_records": 40, "archive_records": 2, "keys": 5}  # fmt: skip
        entries = [AuditEntry(AT_US, "operator:ada", "trust.revoke", f"certificate:{n}") for n in range(SIZE)]
        entries[PLACE] = AuditEntry(AT_US, "operator:ada", "telemetry.erased", "vehicle:4711", facts=facts)
        self.contents = [msgspec.json.encode((n, one)) for n, one in enumerate(entries)]
        self.leaves = [sha256(b"\x00" + content).digest() for content in self.contents]
        public = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.vouched = {
            "statements": [envelope.seal(KEY_TYPE, public, self.root)],
            "cosignatures": [self.cosignature(self.seen_by)],
        }
        self.files = {
            "audit entry": self.included("audit entry", 7),
            "erasure": self.included("erasure", PLACE),
            "consistency": proof_files.consistency_proof(
                self.head(OLD), self.head(SIZE), self.extension(), **self.vouched
            ),
            "fork": proof_files.fork_proof(
                self.head(SIZE), self.head(SIZE, "ab" * 32), statements=self.vouched["statements"]
            ),
            "receipt": self.receipt(folder),
        }
        self.trust = dict.fromkeys(self.files, pem(self.root)) | {"receipt": self.region_root}

    def root_over(self, size: int) -> str:
        return trees.root_of_all(self.leaves[:size]).hex()

    def head(self, size: int, root: str = "", at_us: int = AT_US, key: PrivateKey | None = None) -> bytes:
        return envelope.seal(
            HEAD_TYPE, msgspec.json.encode(Head(size, root or self.root_over(size), at_us)), key or self.key
        )

    def cosignature(self, key: PrivateKey, root: str = "") -> bytes:
        saw = Cosignature(SIZE, root or self.root_over(SIZE), AT_US + 60_000_000)
        return envelope.seal(COSIGNATURE_TYPE, msgspec.json.encode(saw), key)

    def included(self, what: Any, place: int, head: bytes = b"", **more: Any) -> bytes:
        path = trees.path_of(self.leaves, place)
        made = {**self.vouched, **more}
        return proof_files.inclusion_proof(what, self.contents[place], place, path, head or self.head(SIZE), **made)

    def extension(self) -> bytes:
        """From 6 to 13 leaves, as RFC 6962 2.1.2 draws it."""
        part = lambda low, high: trees.root_of_all(self.leaves[low:high])  # noqa: E731 - reads as the drawing
        return part(4, 6) + part(6, 8) + part(0, 4) + part(8, 13)

    def receipt(self, folder: Path) -> bytes:
        """Under the exchange's certificate; another service's is kept for a forgery."""
        region = create_region(folder / "trust", "eu", "example.test", SystemClock(), SystemRandom())
        content, chains, keys = b'{"message_id":"m-1","kind":"received"}', {}, {}
        for name in ("exchange", "telemetry"):
            issue_directory(region, folder / name, Identity("example.test", "eu", "service", name))
            keys[name] = directory.load_key(folder / name)
            chains[name] = directory.load_leaf(folder / name).public_bytes(Encoding.PEM).decode()
        root: x509.Certificate = directory.load_root(folder / "exchange/trust.pem")
        self.region_root = root.public_bytes(Encoding.PEM)
        payload = {"hub": "eu", "commit": 1, "size": 1, "root": sha256(b"\x00" + content).hexdigest(), "at_us": SystemClock().now_us()}  # fmt: skip
        issuers = (folder / "exchange/issuers.json").read_bytes()

        def made(by: str, chain: str, **changed: Any) -> bytes:
            head = envelope.seal(ROOT_TYPE, msgspec.json.encode(payload | changed), keys[by])
            return proof_files.inclusion_proof(
                "receipt", content, 0, b"", head, chains=[chains[chain]], issuers=issuers
            )

        self.receipts = {
            "of another service": made("telemetry", "telemetry"),
            "with another's certificate": made("telemetry", "exchange"),
            "before its certificate": made("exchange", "exchange", at_us=1),
            "before its certificate, in the root's name": named(
                made("exchange", "exchange", at_us=1), key_id(root.public_key()).hex()
            ),
        }
        return made("exchange", "exchange")

    def forged(self) -> dict[str, tuple[str, bytes]]:
        """By name: the kind it pretends to be, and the file."""
        found = {f"receipt {name}": ("receipt", file) for name, file in self.receipts.items()}
        found["erasure of what is none"] = "erasure", self.included("erasure", 7)
        found["entry under a head from the future"] = (
            "audit entry",
            self.included("audit entry", 7, self.head(SIZE, at_us=AT_US + 10**15)),
        )
        found["entry under another's head"] = (
            "audit entry",
            self.included("audit entry", 7, self.head(SIZE, key=self.root)),
        )
        found["entry under a stranger's head"] = (
            "audit entry",
            self.included("audit entry", 7, self.head(SIZE, key=new_key())),
        )
        found["entry without a witness"] = "audit entry", self.included("audit entry", 7, cosignatures=[])
        found["entry with another witness"] = (
            "audit entry",
            self.included("audit entry", 7, cosignatures=[self.cosignature(new_key())]),
        )
        found["entry whose witness saw another head"] = "audit entry", self.included("audit entry", 7, cosignatures=[self.cosignature(self.seen_by, "cd" * 32)])  # fmt: skip
        found["growth to another root"] = "consistency", proof_files.consistency_proof(
            self.head(OLD), self.head(SIZE, "ab" * 32), self.extension(), **self.vouched | {"cosignatures": [self.cosignature(self.seen_by, "ab" * 32)]}
        )  # fmt: skip
        found["growth from another root"] = (
            "consistency",
            proof_files.consistency_proof(self.head(OLD, "ab" * 32), self.head(SIZE), self.extension(), **self.vouched),
        )
        for name, (kind, change) in CHANGES.items():
            file = json.loads(self.files[kind])
            change(file)
            found[name] = kind, json.dumps(file).encode()
        return found


def named(file: bytes, keyid: str) -> bytes:
    """The proof with an id in front of its head's signatures that signed nothing, by an algorithm nobody checks."""
    made = json.loads(file)
    made["head"]["signatures"].insert(0, {"keyid": keyid, "sig": "", "algorithm": "none"})
    return json.dumps(made).encode()


def to(*where: Any, value: Any) -> Change:
    def change(file: dict[str, Any]) -> None:
        for step in where[:-1]:
            file = file[step]
        file[where[-1]] = value

    return change


def bytes_of(name: str, change: Callable[[bytes], bytes]) -> Change:
    def changed(file: dict[str, Any]) -> None:
        file[name] = base64.b64encode(change(base64.b64decode(file[name]))).decode()

    return changed


CHANGES: dict[str, tuple[str, Change]] = {
    "entry rewritten": ("audit entry", bytes_of("content", lambda b: b.replace(b"revoke", b"praise"))),
    "entry at another place": ("audit entry", to("position", value=6)),
    "entry outside": ("audit entry", to("position", value=13)),
    "entry before": ("audit entry", to("position", value=-1)),
    "entry with a shorter path": ("audit entry", bytes_of("path", lambda b: b[:-32])),
    "entry with a longer path": ("audit entry", bytes_of("path", lambda b: b + bytes(32))),
    "entry with a broken path": ("audit entry", bytes_of("path", lambda b: b[:-1])),
    "entry whose path is no base64": ("audit entry", to("path", value="%%%")),
    "entry whose position is a text": ("audit entry", to("position", value="7")),
    "entry without a head": ("audit entry", to("head", value={})),
    "entry whose statement is gone": ("audit entry", to("signers", value=[])),
    "entry with another signature": ("audit entry", to("head", "signatures", 0, "sig", value="MEUCIQ==")),
    "entry with another payload": ("audit entry", to("head", "payload", value="e30=")),
    "entry called a receipt": ("audit entry", to("what", value="receipt")),
    "entry called a miracle": ("audit entry", to("what", value="miracle")),
    "a proof of no kind": ("audit entry", to("type", value="rocade.miracle")),
    "erasure with other counts": ("erasure", bytes_of("content", lambda b: b.replace(b'"rows":12000', b'"rows":12'))),
    "erasure of another": ("erasure", bytes_of("content", lambda b: b.replace(b"vehicle:4711", b"vehicle:4712"))),
    "growth with a shorter path": ("consistency", bytes_of("path", lambda b: b[:-32])),
    "growth with a longer path": ("consistency", bytes_of("path", lambda b: b + bytes(32))),
    "growth with no path": ("consistency", to("path", value="")),
    "growth backwards": ("consistency", lambda file: file.update(old=file["new"], new=file["old"], cosignatures=[])),
    "growth called a fork": ("consistency", to("type", value="rocade.fork-proof")),
    "fork of one head": ("fork", lambda file: file.update(new=file["old"])),
    "fork called growth": ("fork", to("type", value="rocade.consistency-proof")),
    "receipt rewritten": ("receipt", bytes_of("content", lambda b: b.replace(b"m-1", b"m-2"))),
    "receipt without its chain": ("receipt", to("chains", value=[])),
    "receipt with a rewritten issuer table": ("receipt", to("issuers", "payload", value="e30=")),
    "receipt with a chain that is none": ("receipt", to("chains", value=["-----BEGIN CERTIFICATE-----"])),
}  # fmt: skip
