"""The peer: a central system built as the examples of the package `ocpp` are, on its `ChargePoint` and the library `websockets`.

`python charging_ocpp_peer.py [--validate-in-loop]` says its port and serves until it is killed. It keeps nothing: every answer comes
from memory. Handlers for the messages of the load are added to the example's; its logging of every message is left out, which
makes it faster. `--validate-in-loop` checks schemas in the event loop instead of in threads (a setting of the package).
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import websockets
from ocpp import messages
from ocpp.routing import on
from ocpp.v16 import ChargePoint, call_result

type Handler = Callable[..., Any]
answers: Callable[[str], Callable[[Handler], Handler]] = on
_numbers = itertools.count(1)


class CentralSystem(ChargePoint):  # type: ignore[misc]  # the package has no types
    @answers("BootNotification")
    def booted(self, **_: Any) -> Any:
        return call_result.BootNotification(current_time=datetime.now(UTC).isoformat(), interval=10, status="Accepted")

    @answers("Heartbeat")
    def alive(self, **_: Any) -> Any:
        return call_result.Heartbeat(current_time=datetime.now(UTC).isoformat())

    @answers("StartTransaction")
    def begun(self, **_: Any) -> Any:
        return call_result.StartTransaction(transaction_id=next(_numbers), id_tag_info={"status": "Accepted"})

    @answers("MeterValues")
    def metered(self, **_: Any) -> Any:
        return call_result.MeterValues()

    @answers("StopTransaction")
    def ended(self, **_: Any) -> Any:
        return call_result.StopTransaction()


async def serve() -> None:
    async def connected(socket: Any) -> None:
        await CentralSystem(socket.request.path.rpartition("/")[2], socket).start()

    async with websockets.serve(connected, "127.0.0.1", 0, subprotocols=["ocpp1.6"]) as server:  # type: ignore[list-item]
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    messages.ASYNC_VALIDATION = "--validate-in-loop" not in sys.argv
    asyncio.run(serve())
