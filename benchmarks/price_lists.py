"""Price lists to try with: 500,000 seeded parts in families as makers have them, and a press that makes their heads and files.

References look like those of European makers (a family's stem, a running number, a suffix), labels are French, prices fall off as in a real
list: many small parts, few dear ones, ending in 0 or 5 cents. `day` changes some parts at random or some whole families by one factor.
The press is a publisher without a database: what the hub does about files and heads, for tests and figures of points of sale.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property

import msgspec
import numpy as np

from rocade.core.prices import WITHDRAWN
from rocade.trust.identity import envelope
from rocade.trust.identity.keys import PrivateKey
from rocade.wire.prices import (
    HEAD_TYPE,
    Blob,
    Delta,
    Descriptions,
    Entries,
    Head,
    Ints,
    Release,
    Tree,
    changed_leaves,
    pack,
    seal_blob,
)

DAY_US = 86_400_000_000
BEGIN_US = 1_767_225_600_000_000
"""2026-01-01 UTC: number 1 of every list made here."""
FAMILIES = 2000
_NOUNS = ("FILTRE", "JOINT", "PLAQUETTE", "DISQUE", "COURROIE", "CAPTEUR", "FAISCEAU", "VIS", "AGRAFE", "PARE-CHOCS", "PHARE",
          "ROTULE", "POMPE", "SONDE", "VERIN", "BIELLETTE", "DURITE", "CALCULATEUR", "SUPPORT", "ROULEMENT")  # fmt: skip
_PLACES = ("AV", "AR", "AVG", "AVD", "ARG", "ARD", "SUP", "INF", "MOTEUR", "BOITE", "HABITACLE", "")


def references(parts: int) -> list[str]:
    """References in order of index, all different."""
    each = max(parts // FAMILIES, 1)
    return [
        f"{16 + at // each % 84}{at // each:04d}{7919 * at % 10_000:04d}{'80'[at % 2]}{at % 10}{at % each:03d}"
        for at in range(parts)
    ]


def snapshot(list_id: str = "fr-retail", parts: int = 500_000, seed: int = 1, currency: str = "EUR") -> Delta:
    """Number 1 of a list."""
    rng = np.random.default_rng(seed)
    each = max(parts // FAMILIES, 1)
    families = [f"{at // each:04d}{'ABCDEFGH'[at // each % 8]}" for at in range(parts)]
    words = rng.integers(0, len(_NOUNS) * len(_PLACES), parts).tolist()
    labels = [f"{_NOUNS[w % len(_NOUNS)]} {_PLACES[w // len(_NOUNS)]} {at % each:03d}" for at, w in enumerate(words)]
    refs = references(parts)
    replaced = [""] * parts
    for at in rng.choice(parts, parts // 50, replace=False).tolist():
        replaced[at] = refs[at + 1] if at + 1 < parts else ""
    index, ones = np.arange(parts), np.ones(parts, np.int64)
    prices = 5 * np.exp(rng.normal(6.0, 1.6, parts)).astype(np.int64).clip(5, 4_000_000)
    entries = Entries(index, ones, np.full(parts, BEGIN_US), prices)
    return Delta(
        list_id,
        0,
        1,
        (Release(1, BEGIN_US, currency, "first"),),
        Descriptions(index, ones, refs, families, labels, replaced),
        entries,
    )


def day(
    prices: Ints, seq: int, changes: int = 10_000, seed: int = 1, *, by_family: bool = False
) -> tuple[Release, Entries]:
    """A day's changes: of parts drawn at random, or of whole families."""
    rng = np.random.default_rng((seed, seq))
    if by_family:
        each = max(len(prices) // FAMILIES, 1)
        starts = np.sort(rng.choice(len(prices) // each, max(changes // each, 1), replace=False)) * each
        index = (starts[:, None] + np.arange(each)).ravel()[:changes]
        factor = np.repeat(rng.uniform(0.97, 1.06, len(starts)), each)[: len(index)]
    else:
        index = np.sort(rng.choice(len(prices), changes, replace=False))
        factor = rng.uniform(0.97, 1.06, len(index))
    effective_us = BEGIN_US + (seq - 1) * DAY_US
    new = (np.maximum(prices[index], 5) * factor / 5).astype(np.int64) * 5
    columns = (index, np.full(len(index), seq), np.full(len(index), effective_us), new.clip(5))
    return Release(seq, effective_us, "EUR", f"day {seq}"), Entries(*columns)


@dataclass
class Press:
    """Publishes one list: call `publish` with each release; `head`, `signed` and `files` are what a point of sale gets."""

    signing: PrivateKey
    list_id: str = "fr-retail"
    brand: str = "vespelle"
    skips: tuple[int, ...] = (7, 31)
    """Deltas over so many numbers are in each head; with none, the snapshot is not made anew either."""
    epoch: int = 1
    key: bytes = bytes(32)
    deltas: list[Delta] = field(default_factory=list)
    tree: Tree = field(default_factory=Tree)
    files: dict[str, bytes] = field(default_factory=dict)
    heads: list[Head] = field(default_factory=list)
    signed: list[bytes] = field(default_factory=list)

    def publish(self, release: Release, entries: Entries, descriptions: Descriptions | None = None) -> bytes:
        """The signed head of the next number."""
        seq = len(self.deltas) + 1
        delta = Delta(self.list_id, seq - 1, seq, (release,), descriptions or Descriptions(), entries)
        self.deltas.append(delta)
        self.tree.update(*changed_leaves(delta, self.tree.leaves))
        self.__dict__.pop("whole", None)
        blobs = {base: self.file(base) for base in {seq - 1, *(seq - n for n in self.skips if 1 < n < seq)}}
        if 0 not in blobs:
            blobs[0] = self.file(0) if self.skips else self.heads[-1].snapshot
        return self.sign(self.make(release, blobs))

    def follow(self, days: int, changes: int = 10_000, *, by_family: bool = False) -> bytes:
        """Publish so many days; return the last signed head."""
        for _ in range(days):
            signed = self.publish(*day(self.prices(), len(self.deltas) + 1, changes, by_family=by_family))
        return signed

    def make(self, release: Release, blobs: dict[int, Blob]) -> Head:
        seq = len(self.deltas)
        previous = self.heads[-1].id if self.heads else ""
        skips = tuple(blob for base, blob in sorted(blobs.items(), reverse=True) if base not in {0, seq - 1})
        return Head(
            self.list_id, self.brand, "FR", release.currency, "retail", seq, previous, release.effective_us,
            release.effective_us, self.tree.root.hex(), len(self.tree.leaves), self.epoch, blobs[seq - 1], blobs[0], skips,
        )  # fmt: skip

    def sign(self, head: Head) -> bytes:
        self.heads.append(head)
        self.signed.append(envelope.seal(HEAD_TYPE, msgspec.json.encode(head), self.signing))
        return self.signed[-1]

    def file(self, from_seq: int) -> Blob:
        """Seal what came after a number."""
        packed = pack(self.since(from_seq), self.prices(from_seq))
        return self.seal(packed, (from_seq, len(self.deltas)))

    def seal(self, packed: bytes, span: tuple[int, int]) -> Blob:
        blob, content = seal_blob(packed, self.key, os.urandom(12), self.list_id, span, self.epoch)
        self.files[blob.sha256] = content
        return blob

    def since(self, from_seq: int) -> Delta:
        deltas = self.deltas[from_seq:]
        if len(deltas) == 1:
            return deltas[0]
        d = Descriptions.joined([delta.descriptions for delta in deltas])
        e = Entries.joined([delta.entries for delta in deltas])
        texts = np.lexsort((d.seq, d.index))
        order = np.lexsort((e.valid_from_us, e.seq, e.index))
        columns = ([column[at] for at in texts.tolist()] for column in (d.ref, d.family, d.label, d.superseded_by))
        return Delta(
            self.list_id, from_seq, len(self.deltas), tuple(release for delta in deltas for release in delta.releases),
            Descriptions(d.index[texts], d.seq[texts], *columns),
            Entries(*(column[order] for column in (e.index, e.seq, e.valid_from_us, e.price_minor))),
        )  # fmt: skip

    def prices(self, known_seq: int | None = None) -> Ints:
        """By index: the price of the entry with the greatest (valid_from, seq) up to a number; 0 for none."""
        e = self.whole
        rows = np.flatnonzero(e.seq <= (len(self.deltas) if known_seq is None else known_seq))
        rows = rows[np.lexsort((e.seq[rows], e.valid_from_us[rows]))]
        prices = np.zeros(len(self.tree.leaves), np.int64)
        prices[e.index[rows]] = e.price_minor[rows]
        prices[prices == WITHDRAWN] = 0
        return prices

    @cached_property
    def whole(self) -> Entries:
        return Entries.joined([delta.entries for delta in self.deltas])


def press_with(parts: int, signing: PrivateKey, list_id: str = "fr-retail", key: bytes = bytes(32)) -> Press:
    """A press that has published number 1 of a list."""
    press = Press(signing, list_id, key=key)
    first = snapshot(list_id, parts)
    press.publish(first.releases[0], first.entries, first.descriptions)
    return press
