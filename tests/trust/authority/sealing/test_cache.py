"""What the keyring forgets is nowhere else in the process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rocade.trust.authority.sealing import Group, aad, seal
from rocade.trust.authority.sealing.cache import KeyCache
from rocade.trust.authority.sealing.seals import cipher

CAR = 2**62 + 5


@pytest.mark.parametrize(
    "forget", [lambda cache: cache.drop([CAR]), lambda cache: cache.forget()], ids=["destroyed", "lease over"]
)
def test_no_cipher_of_a_forgotten_key_is_kept(forget: Callable[[KeyCache], None]) -> None:
    cache, key = KeyCache(10), bytes(range(32))
    cache.remember({(CAR, int(Group.ROAD)): key})
    seal(key, b"48.8584, 2.2945", aad(CAR, "telemetry", 1, 1))
    forget(cache)
    assert cache.get((CAR, int(Group.ROAD))) is None
    assert cipher.cache_info().currsize == 0
