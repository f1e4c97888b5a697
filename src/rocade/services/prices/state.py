"""A price list whole, in columns, as a publisher holds it: every part, every entry ever, and the tree of leaves.

Entries and descriptions stand in the order of their releases, so that what came after a number is the end of each column.
Rebuilt from the database, or from the file beside it that `save` wrote; either is checked by the state root of the last head.
Memory: about 250 bytes a part.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import msgspec
import numpy as np
from numpy.typing import NDArray

from rocade.core.prices import WITHDRAWN
from rocade.trust.identity.keys import write_atomically
from rocade.wire.prices.leaves import changed_leaves
from rocade.wire.prices.model import Delta, Descriptions, Entries, Ints, Release
from rocade.wire.prices.tree import Tree

NONE = WITHDRAWN
"""No price: withdrawn, or not yet."""


@dataclass
class State:
    """One list at number `seq`."""

    list_id: str
    seq: int = 0
    releases: tuple[Release, ...] = ()
    descriptions: Descriptions = field(default_factory=Descriptions)
    entries: Entries = field(default_factory=Entries)
    tree: Tree = field(default_factory=Tree)

    @property
    def parts(self) -> int:
        return len(self.tree.leaves)

    @cached_property
    def latest(self) -> Ints:
        """Row of `descriptions` that says how each part is described now, by index."""
        rows = np.zeros(self.parts, np.int64)
        rows[self.descriptions.index] = np.arange(len(self.descriptions))  # of equal indices the last assignment stands
        return rows

    @cached_property
    def index_of(self) -> dict[str, int]:
        return dict(zip(self.descriptions.ref, self.descriptions.index.tolist(), strict=True))

    def prices_at(self, at_us: int, known_seq: int | None = None) -> Ints:
        """The price of every part at an instant, `NONE` where there is none, by index."""
        e = self.entries
        wanted = e.valid_from_us <= at_us
        if known_seq is not None:
            wanted &= e.seq <= known_seq
        rows = np.flatnonzero(wanted)
        rows = rows[np.lexsort((e.seq[rows], e.valid_from_us[rows]))]
        prices = np.full(self.parts, NONE, np.int64)
        prices[e.index[rows]] = e.price_minor[rows]
        return prices

    def later_than(self, at_us: int) -> Ints:
        """Indices of parts with an entry that begins after this instant."""
        return np.unique(self.entries.index[self.entries.valid_from_us > at_us])

    def since(self, from_seq: int) -> Delta:
        """What the releases after a number did, as a delta; 0 = all of it."""
        d, e = self.descriptions, self.entries
        texts = np.arange(int(np.searchsorted(d.seq, from_seq, "right")), len(d))
        texts = texts[np.lexsort((d.seq[texts], d.index[texts]))]
        at = slice(int(np.searchsorted(e.seq, from_seq, "right")), len(e))
        order = np.lexsort((e.valid_from_us[at], e.seq[at], e.index[at]))
        rows = texts.tolist()
        return Delta(
            self.list_id, from_seq, self.seq, tuple(one for one in self.releases if one.seq > from_seq),
            Descriptions(
                d.index[texts], d.seq[texts], *([column[row] for row in rows] for column in
                                                (d.ref, d.family, d.label, d.superseded_by)),
            ),
            Entries(e.index[at][order], e.seq[at][order], e.valid_from_us[at][order], e.price_minor[at][order]),
        )  # fmt: skip

    def applied(self, delta: Delta) -> State:
        """The state after a delta of one release; this one stays as it is."""
        d, e = self.descriptions, self.entries
        more_d, more_e = delta.descriptions, delta.entries
        tree = self.tree.copy()
        tree.update(*changed_leaves(delta, tree.leaves))
        return State(
            self.list_id, delta.to_seq, (*self.releases, *delta.releases),
            Descriptions(
                np.r_[d.index, more_d.index], np.r_[d.seq, more_d.seq], d.ref + more_d.ref, d.family + more_d.family,
                d.label + more_d.label, d.superseded_by + more_d.superseded_by,
            ),
            Entries(*(np.r_[a, b] for a, b in zip(_columns(e), _columns(more_e), strict=True))),
            tree,
        )  # fmt: skip

    def save(self, path: Path) -> None:
        """Write it beside the database; the file may be lost at any time."""
        d, e = self.descriptions, self.entries
        file = io.BytesIO()
        np.savez(
            file, d_index=d.index, d_seq=d.seq, entries=np.stack(_columns(e)), leaves=self.tree.leaves,
            releases=np.frombuffer(msgspec.json.encode(self.releases), np.uint8), ref=_bytes(d.ref),
            family=_bytes(d.family), label=_bytes(d.label), superseded_by=_bytes(d.superseded_by),
        )  # fmt: skip
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, file.getvalue(), 0o600)

    @classmethod
    def load(cls, path: Path, list_id: str) -> State | None:
        """What `save` wrote; None if it is not there or not whole."""
        try:
            with np.load(path, allow_pickle=False) as held:
                releases = msgspec.json.decode(held["releases"].tobytes(), type=tuple[Release, ...])
                texts = [_texts(held[name]) for name in ("ref", "family", "label", "superseded_by")]
                entries = Entries(*(column.copy() for column in held["entries"]))
                d = Descriptions(held["d_index"], held["d_seq"], *texts)
                return cls(list_id, releases[-1].seq, releases, d, entries, Tree(held["leaves"]))
        except (OSError, ValueError, KeyError, IndexError, EOFError, RuntimeError, BadZipFile, msgspec.MsgspecError):
            return None  # RuntimeError: a bit turned into another compression, or into "encrypted"


def _columns(entries: Entries) -> tuple[Ints, Ints, Ints, Ints]:
    return entries.index, entries.seq, entries.valid_from_us, entries.price_minor


def _bytes(texts: list[str]) -> NDArray[np.uint8]:
    return np.frombuffer("\n".join(texts).encode(), np.uint8)


def _texts(column: NDArray[np.uint8]) -> list[str]:
    return column.tobytes().decode().split("\n")
