"""A drop folder at the point of sale: what an old program writes goes into the outbox once, signed, with an answer beside it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.agents.dealer.conftest import QUICK, until

from rocade.agents.dealer.agent import Dealer
from rocade.wire.resources import MESSAGE, Message, to_csv


def rows(*ids: str) -> bytes:
    return to_csv(
        [
            Message(
                id=id, brand="lune", service="orders", content_class="technical", content_type="text/xml",
                created_us=1_763_000_000_000_000, body=b"<order/>",
            )
            for id in ids
        ],
        MESSAGE,
    )  # fmt: skip


async def test_a_dropped_file_goes_into_the_outbox_once(place: Path) -> None:
    settings = place / "dealer.toml"
    settings.write_text(settings.read_text() + '\n[[folder]]\ndirectory = "drop"\n')
    dealer = Dealer.open(place, backoff=QUICK)
    task = asyncio.create_task(dealer.run())
    try:
        await asyncio.wait_for(dealer.is_serving.wait(), 30)
        drop = place / "drop"
        await until(drop.is_dir)
        for name in ("message-1.csv", "message-again.csv"):
            (drop / f"{name}.part").write_bytes(rows("order-1", "order-2"))
            (drop / f"{name}.part").rename(drop / name)
        await until((drop / "message-1.csv.answer.csv").exists)
        await until((drop / "message-again.csv.answer.csv").exists)
        for name in ("message-1.csv", "message-again.csv"):
            answer = (drop / f"{name}.answer.csv").read_text().splitlines()
            assert answer[1:] == ["2;taken;;;order-1", "3;taken;;;order-2"]
        assert sum(dealer.outbox.counts("eu").values()) == 2
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        dealer.close()
