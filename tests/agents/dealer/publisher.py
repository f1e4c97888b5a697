"""A list as a hub publishes it, made with the formats alone: releases in, signed heads, sealed files and letters out."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rocade.trust.identity.envelope import seal
from rocade.trust.identity.keys import PrivateKey, new_key
from rocade.wire.prices import (
    HEAD_TYPE,
    KEY_TYPE,
    Blob,
    Delta,
    Descriptions,
    Entries,
    EpochLetter,
    Head,
    Mark,
    Part,
    Priced,
    Release,
    Tree,
    WrappedKey,
    changed_leaves,
    pack,
    seal_blob,
    seal_marks,
    wrap_key,
    write_letter,
)

START_US = 1_750_000_000_000_000
DAY_US = 86_400_000_000
EPOCH = 1


class Publisher:
    """One list; `files` by name are what the hub serves."""

    def __init__(
        self, root_key: PrivateKey, name: str = "parts", parts: int = 0, files: dict[str, bytes] | None = None
    ) -> None:
        self.name, self.files = name, {} if files is None else files
        self._root_key, self._key, self._epoch_key = root_key, new_key(), secrets.token_bytes(32)
        self._tree, self._prices = Tree(), np.empty(0, np.int64)
        self._described: list[Descriptions] = []
        self._entries: list[Entries] = []
        self._releases: list[Release] = []
        self._last = ""
        self.heads: list[bytes] = []
        self._parts = 0
        if parts:
            self.release({f"REF-{at:06}": 1000 + at for at in range(parts)})

    @property
    def seq(self) -> int:
        return len(self._releases)

    @property
    def head(self) -> bytes:
        return self.heads[-1]

    def release(self, prices: dict[str, int], at_us: int | None = None) -> bytes:
        """New prices; the first release names the parts, later ones change those of the same references."""
        seq = self.seq + 1
        at_us = START_US + (seq - 1) * DAY_US if at_us is None else at_us
        refs = list(prices)
        if seq == 1:
            self._refs = {ref: index for index, ref in enumerate(refs)}
        index = [self._refs[ref] for ref in refs]
        described = Descriptions.of(
            [Part(at, seq, ref, "family", f"part {ref}") for at, ref in zip(index, refs, strict=True)]
            if seq == 1
            else []
        )
        priced = Entries.of(Priced(at, seq, at_us, prices[ref]) for at, ref in zip(index, refs, strict=True))
        release = Release(seq, at_us, "EUR")
        delta = Delta(self.name, seq - 1, seq, (release,), described, priced)
        before = self._prices
        blob = self._file(delta, before)
        touched, leaves = changed_leaves(delta, self._tree.leaves)
        root = self._tree.update(touched, leaves)
        self._prices = np.append(before, np.zeros(max(0, len(self._refs) - len(before)), np.int64))
        self._prices[priced.index] = priced.price_minor
        self._described.append(described)
        self._entries.append(priced)
        self._releases.append(release)
        snapshot = blob if seq == 1 else self._snapshot()
        head = Head(
            self.name, "lune", "FR", "EUR", "retail", seq, self._last, at_us, at_us, root.hex(), len(self._refs), EPOCH,
            blob, snapshot,
        )  # fmt: skip
        self._last = head.id
        self.heads.append(seal(HEAD_TYPE, msgspec.json.encode(head), self._key))
        return self.heads[-1]

    def letter(self, keys: Sequence[bytes], site: str) -> bytes:
        """The epoch's key for these encryption keys, who signs the list, and the site's marks."""
        public = [X25519PublicKey.from_public_bytes(key) for key in keys]
        wrapped = WrappedKey(
            self.name, EPOCH, tuple(wrap_key(self._epoch_key, key, self.name, EPOCH) for key in public)
        )
        der = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        statement = seal(KEY_TYPE, der, self._root_key).decode()
        marks = seal_marks([Mark(f"REF-M{site}", "family", "mark", 4711)], public, self.name, site)
        return write_letter(EpochLetter((wrapped,), (statement,), (marks,)))

    def _snapshot(self) -> Blob:
        described = Descriptions.joined(self._described)
        rows = [row for entries in self._entries for row in entries.rows()]
        return self._file(
            Delta(self.name, 0, self.seq, tuple(self._releases), described, Entries.of(rows)), np.empty(0, np.int64)
        )

    def _file(self, delta: Delta, previous: np.ndarray) -> Blob:
        packed = pack(delta, previous)
        blob, content = seal_blob(
            packed, self._epoch_key, secrets.token_bytes(12), self.name, (delta.from_seq, delta.to_seq), EPOCH
        )
        self.files[blob.sha256] = content
        return blob
