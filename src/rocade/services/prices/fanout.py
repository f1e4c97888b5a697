"""The files and the head of a release: made, sealed and on disk before anybody is told.

Files of a head: the delta from the number before; skips from the last number of a day, a week and a month ago, so that who
was away fetches one small file; a snapshot, renewed when it is a month old or what came after it outgrows a quarter of it,
with a skip from it, so that a new holder fetches two files at most.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from rocade.core.ports import Random
from rocade.services.prices.model import PriceList
from rocade.services.prices.shelf import Shelf
from rocade.services.prices.signing import Signing
from rocade.services.prices.state import State
from rocade.wire.prices import Blob, Delta, Head, pack, seal_blob

DAY_US = 86_400_000_000
SKIPS_US = (DAY_US, 7 * DAY_US, 30 * DAY_US)
SNAPSHOT_GROWTH = 4
"""The skip from the snapshot may grow to this part of the snapshot's size."""
SMALL_SNAPSHOT_BYTES = 64 << 10
"""A list this small is sent whole rather than in two pieces."""
FOREVER_US = (1 << 62) - 1


@dataclass(frozen=True)
class Past:
    """What a new head stands on. `released_us`: when each number was released, 1 first."""

    head: Head | None
    released_us: Sequence[int]
    snapshot_us: int


@dataclass(frozen=True)
class Made:
    """What a release consists of, ready to be committed."""

    head: Head
    signed: bytes
    blobs: tuple[Blob, ...]
    """New files; the snapshot only where it is new."""

    @property
    def signed_sha256(self) -> str:
        return hashlib.sha256(self.signed).hexdigest()


class Press:
    """Makes files and heads."""

    def __init__(self, shelf: Shelf, signing: Signing, random: Random) -> None:
        self._shelf = shelf
        self._signing = signing
        self._random = random

    def make(self, about: PriceList, state: State, past: Past, key: bytes, epoch: int, now_us: int) -> Made:
        """Write the files of the state's last release and sign its head. Blocks; cost: see docs/decisions/0041-publishing.md."""
        sealed: dict[int, Blob] = {}

        def file(from_seq: int) -> Blob:
            if from_seq not in sealed:
                sealed[from_seq] = self._seal(state.since(from_seq), state, key, epoch)
            return sealed[from_seq]

        blob = file(state.seq - 1)
        skips = {from_seq: file(from_seq) for from_seq in _skips(state.seq, past.released_us, now_us)}
        snapshot = past.head.snapshot if past.head else None
        if snapshot is not None and snapshot.to_seq < state.seq:
            since = file(snapshot.to_seq)
            skips[snapshot.to_seq] = since
            is_old = now_us - past.snapshot_us > SKIPS_US[-1]
            if is_old or snapshot.size < SMALL_SNAPSHOT_BYTES or since.size * SNAPSHOT_GROWTH > snapshot.size:
                snapshot = None
        if snapshot is None:
            snapshot = file(0)
        skips.pop(state.seq - 1, None)
        skips.pop(0, None)
        release = state.releases[-1]
        head = Head(
            about.id, about.brand, about.country, release.currency, about.kind, state.seq,
            past.head.id if past.head else "", release.effective_us, now_us, state.tree.root.hex(), state.parts, epoch,
            blob, snapshot, tuple(skips[from_seq] for from_seq in sorted(skips, reverse=True)),
        )  # fmt: skip
        return Made(head, self._signing.sign(head), tuple(sealed.values()))

    def _seal(self, delta: Delta, state: State, key: bytes, epoch: int) -> Blob:
        packed = pack(delta, state.prices_at(FOREVER_US, delta.from_seq))
        nonce = self._random.bits(96).to_bytes(12)
        span = delta.from_seq, delta.to_seq
        blob, content = seal_blob(packed, key, nonce, state.list_id, span, epoch)
        self._shelf.put(blob.sha256, content)
        return blob


def _skips(seq: int, released_us: Sequence[int], now_us: int) -> set[int]:
    """Numbers that were the last ones a day, a week and a month ago."""
    found = set()
    for age_us in SKIPS_US:
        base = max((at for at, us in enumerate(released_us[: seq - 1], 1) if us <= now_us - age_us), default=0)
        if 0 < base < seq - 1:
            found.add(base)
    return found
