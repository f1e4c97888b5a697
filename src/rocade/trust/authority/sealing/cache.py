"""Keys in memory: the latest used ones, and which of those that are just being read may have been destroyed meanwhile.

What is forgotten here is forgotten in `seals.cipher` too, which keeps ciphers by their keys.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from rocade.trust.authority.sealing.model import Group, Name
from rocade.trust.authority.sealing.seals import cipher

REMEMBERED = 2_000
"""Destroyed owners that are told apart; when there are more, all keys that are being read are in doubt."""


class KeyCache:
    """At most `limit` keys. An epoch ends with each destruction: a key that was read in an earlier one may be doubtful."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._keys: OrderedDict[Name, bytes] = OrderedDict()
        self._floor = 0
        self._dropped: dict[int, int] = {}
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, name: Name) -> bytes | None:
        return self._keys.get(name)

    def use(self, name: Name) -> bytes | None:
        """As `get`; the key is among the last to be pushed out."""
        if (key := self._keys.get(name)) is not None:
            self._keys.move_to_end(name)
        return key

    def remember(self, keys: dict[Name, bytes]) -> None:
        self._keys |= keys
        while len(self._keys) > self._limit:
            self._keys.popitem(last=False)

    def drop(self, owners: Iterable[int]) -> None:
        """Forget these owners' keys, also what is being read just now."""
        self.epoch += 1
        for owner in owners:
            self._dropped[owner] = self.epoch
            for group in Group:
                self._keys.pop((owner, group), None)
        cipher.cache_clear()
        if len(self._dropped) > REMEMBERED:
            self._dropped.clear()
            self._floor = self.epoch

    def forget(self) -> None:
        """Everything."""
        self.epoch += 1
        self._floor = self.epoch
        self._keys.clear()
        cipher.cache_clear()

    def is_doubtful(self, owner: int, epoch: int) -> bool:
        """Whether a key that was read in this epoch may have been destroyed since."""
        return epoch < self._floor or self._dropped.get(owner, 0) > epoch
