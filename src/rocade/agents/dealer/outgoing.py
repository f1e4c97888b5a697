"""What one line sees of the outbox: the messages for its hub, signed again with the key of the moment where that is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rocade.agents.dealer.line import Waiting
from rocade.agents.dealer.outbox import Outbox
from rocade.trust.identity.keys import PrivateKey


class HubOutbox:
    """What one line sees of the outbox."""

    def __init__(self, outbox: Outbox, hub: str, key: Callable[[], PrivateKey]) -> None:
        self._outbox, self._hub, self._key = outbox, hub, key
        self.taken_too: Callable[[str, list[str]], None] = lambda _hub, _ids: None
        """Told which messages the hub has taken."""

    def waiting(self, after: int, count: int) -> Sequence[Waiting]:
        return self._outbox.waiting(self._hub, after, count)

    def taken(self, numbers: Sequence[int]) -> None:
        self._outbox.taken(numbers)
        self.taken_too(self._hub, self._outbox.ids_of(numbers))

    def set_aside(self, number: int, code: str) -> None:
        self._outbox.set_aside(number, code, self._key())

    def sign_again(self, number: int) -> None:
        self._outbox.sign_again(number, self._key())
