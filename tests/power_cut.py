"""What a power cut leaves of a write that was not flushed: each sector of it reached the disk, or did not."""

from __future__ import annotations

from random import Random

SECTOR = 512


def torn(before: bytes, after: bytes, dice: Random, share: float = 0.05) -> bytes:
    """`after`, but for this share of its sectors, which stand as they did before or are empty."""
    changed, before = bytearray(after), before + bytes(max(0, len(after) - len(before)))
    for at in range(0, len(after), SECTOR):
        if dice.random() < share:
            changed[at : at + SECTOR] = before[at : at + SECTOR]
    return bytes(changed)
