"""A point of sale with an empty price store, and a press that publishes for it."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.price_lists import BEGIN_US, DAY_US, Press, press_with
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.clocks import SetClock

from rocade.agents.dealer.prices import Applied, PriceStore
from rocade.core.prices import price_at
from rocade.trust.identity import envelope
from rocade.trust.identity.keys import PrivateKey, new_key
from rocade.wire.prices import KEY_TYPE, Entries, EpochLetter, Part, Priced, Release, WrappedKey, wrap_key, write_letter
from rocade.wire.prices.model import Descriptions

LIST = "fr-retail"
__all__ = ["BEGIN_US", "DAY_US", "LIST", "Stand", "statement_of"]


def statement_of(signing: PrivateKey, root: PrivateKey) -> str:
    public = signing.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return envelope.seal(KEY_TYPE, public, root).decode()


class Stand:
    """`press` has published number 1 of `LIST`; the store has keys, and nothing else."""

    def __init__(self, directory: Path, parts: int = 1500) -> None:
        self.root, self.signing, self.private = new_key(), new_key(), X25519PrivateKey.generate()
        self.private_keys = [X25519PrivateKey.generate(), self.private]
        self.key = os.urandom(32)
        self.press: Press = press_with(parts, self.signing, LIST, self.key)
        self.path = directory / "prices" / "hub.sqlite3"
        self.clock = SetClock(BEGIN_US + 400 * DAY_US)
        self.store = self.open()
        self.store.keep_epoch(self.letter(), self)
        self.fetched: list[str] = []

    def open(self) -> PriceStore:
        return PriceStore(self.path, self.root.public_key, self.clock)

    def reopen(self) -> None:
        self.store.close()
        self.store = self.open()

    def letter(self, list_id: str = LIST, epoch: int = 1, key: bytes | None = None) -> bytes:
        wrapped = wrap_key(key or self.key, self.private.public_key(), list_id, epoch)
        return write_letter(
            EpochLetter((WrappedKey(list_id, epoch, (wrapped,)),), (statement_of(self.signing, self.root),))
        )

    def fetch(self, name: str) -> bytes:
        self.fetched.append(name)
        return self.press.files[name]

    def apply(self, number: int = 0) -> Applied:
        """Apply a head by its number; 0 = the newest."""
        return self.store.apply(self.press.signed[number - 1 if number else -1], self.fetch)

    def publish(
        self, prices: list[tuple[int, int, int | None]] = (), parts: list[Part] = (), currency: str = "EUR"
    ) -> int:
        """The next number: (index, valid_from_us, price) and descriptions. Return the number."""
        seq = len(self.press.deltas) + 1
        entries = Entries.of(Priced(index, seq, start, price) for index, start, price in prices)
        texts = Descriptions.of(Part(p.index, seq, p.ref, p.family, p.label, p.superseded_by) for p in parts)
        self.press.publish(Release(seq, BEGIN_US + (seq - 1) * DAY_US, currency), entries, texts)
        return seq

    def ref(self, index: int) -> str:
        return self.press.deltas[0].descriptions.ref[index]

    def part(self, index: int, **other: str) -> Part:
        """A part of number 1 described anew."""
        row = self.press.deltas[0].descriptions.rows()[index]
        texts = {"family": row.family, "label": row.label, "superseded_by": row.superseded_by} | other
        return Part(index, 1, row.ref, **texts)

    def check(self) -> None:
        """The store answers as the press's own rows say, for each part at some instants and numbers."""
        newest = self.store.heads()[0].seq
        rows: dict[int, list[tuple[int, int, int | None]]] = {}
        for row in self.press.whole.rows():
            if row.seq <= newest:
                rows.setdefault(row.index, []).append((row.valid_from_us, row.seq, row.price_minor))
        first = len(self.press.deltas[0].descriptions)
        for index in [at for at in rows if at < first][:: max(len(rows) // 50, 1)]:
            for seq in {1, (newest + 1) // 2, newest}:
                for day in (0, newest // 2, newest + 2):
                    at_us = BEGIN_US + day * DAY_US
                    known = [one for one in rows[index] if one[0] <= at_us and one[1] <= seq]
                    if not known:
                        continue
                    found = self.store.price(LIST, self.ref(index), at_us, seq)
                    assert (found.valid_from_us, found.seq, found.price_minor) == max(known, key=lambda one: one[:2])
                    again = price_at(self.store.history(LIST, self.ref(index)), at_us, seq)
                    assert again is not None
                    assert again.seq == found.seq
        assert set(self.store.verify_all().values()) <= {""}
