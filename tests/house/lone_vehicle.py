"""A vehicle's program in an environment without the server's engines: import all of the agent, sense, journal, send, be acknowledged.

Run by test_packaging in an empty environment; prints `acknowledged <batches> <points>`. Uses no test library.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import pkgutil
import sys
import tempfile
from pathlib import Path

import numpy as np

import rocade.agents.vehicle
from rocade.agents.vehicle.agent import Agent
from rocade.agents.vehicle.batching import cut
from rocade.agents.vehicle.journal import Journal
from rocade.agents.vehicle.series import Series
from rocade.core.catalogue import standard
from rocade.core.ports import SystemClock, SystemRandom
from rocade.wire.batch import check_many
from rocade.wire.mqtt import Connack, Connect, Decoder, Puback, Publish, Suback, Subscribe, encode

VEHICLE = "VF1AAAAA000000001"
MINUTES = 5


async def platform(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The smallest thing that acknowledges."""
    decoder = Decoder(None)
    while data := await reader.read(65536):
        for packet in decoder.feed(data):
            match packet:
                case Connect():
                    writer.write(encode(Connack()))
                case Subscribe():
                    writer.write(encode(Suback(packet_id=packet.packet_id, reasons=(1,))))
                case Publish():
                    assert check_many([packet.payload]).reasons == [None]
                    writer.write(encode(Puback(packet_id=packet.packet_id, reason=0)))


async def drive() -> None:
    server = await asyncio.start_server(platform, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    at_us = 1_700_000_040_000_000 + np.arange(MINUTES * 60, dtype=np.int64) * 1_000_000
    speed = Series(standard().by_name("Vehicle.Speed"), at_us, np.arange(MINUTES * 60, dtype=np.int64) % 5000, -2)
    with tempfile.TemporaryDirectory() as folder:
        clock, random = SystemClock(), SystemRandom()
        with Journal(Path(folder) / "journal.sqlite3", clock, random) as journal:
            journal.append(cut([speed]))
            agent = Agent(VEHICLE, "127.0.0.1", port, journal, lambda: None, clock, random)
            running = asyncio.create_task(agent.run())
            await asyncio.wait_for(agent.drained(), 30)
            await agent.stop()
            await running
            print("acknowledged", journal.acknowledged_batches, journal.acknowledged_points)


if __name__ == "__main__":
    for found in pkgutil.walk_packages(rocade.agents.vehicle.__path__, "rocade.agents.vehicle."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    present = [name for name in sys.argv[1:] if importlib.util.find_spec(name)]
    assert not present, f"a vehicle must not need {present}"
    asyncio.run(drive())
