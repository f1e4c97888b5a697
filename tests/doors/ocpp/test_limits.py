"""What the door does with what nobody should send: sizes, rates, nonsense, silence, too much; and while the database is away."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import websockets
from ocpp_stand import Stand, standing, until

from rocade.core.errors import Unavailable
from rocade.doors.ocpp import Settings
from rocade.doors.ocpp.contract import Asked
from rocade.fabric.database import Database

BEAT: list[Any] = [2, "1", "Heartbeat", {}]


@contextlib.asynccontextmanager
async def connected(stand: Stand, id: str = "CP-1", version: str = "ocpp1.6", **more: Any) -> AsyncIterator[Any]:
    if id not in stand.passwords:
        await stand.register(id)
    address, headers = stand.address(id), stand.headers(id)
    async with websockets.connect(address, subprotocols=[version], additional_headers=headers, **more) as socket:  # type: ignore[list-item]
        yield socket


async def said(socket: Any, message: object) -> list[Any]:
    """Send it; the answer that is no call of the central system's."""
    await socket.send(message if isinstance(message, str) else json.dumps(message))
    return await heard(socket)


async def heard(socket: Any) -> list[Any]:
    async with asyncio.timeout(30):
        while (found := json.loads(await socket.recv()))[0] == 2:
            pass
    return found  # type: ignore[no-any-return]


MALFORMED: list[tuple[str, object, str, str]] = [
    ("no JSON", "{", "-1", "ProtocolError"),
    ("no array", "{}", "-1", "ProtocolError"),
    ("an empty array", "[]", "-1", "ProtocolError"),
    ("a deep array", "[" * 5000 + "]" * 5000, "-1", "ProtocolError"),
    ("an unknown type", [9, "7", "x"], "7", "ProtocolError"),
    ("a call without payload", [2, "7", "Heartbeat"], "7", "FormationViolation"),
    ("a payload that is a list", [2, "7", "Heartbeat", []], "7", "FormationViolation"),
    ("an id that is too long", [2, "7" * 37, "Heartbeat", {}], "-1", "ProtocolError"),
    ("an action nobody knows", [2, "7", "MakeCoffee", {}], "7", "NotImplemented"),
    ("an action of the central system", [2, "7", "Reset", {"type": "Hard"}], "7", "NotSupported"),
    ("a field too many", [2, "7", "Heartbeat", {"a": 1}], "7", "FormationViolation"),
    ("a field too few", [2, "7", "BootNotification", {"chargePointModel": "M"}], "7", "OccurenceConstraintViolation"),
    ("a number for a text", [2, "7", "Authorize", {"idTag": 7}], "7", "TypeConstraintViolation"),
    ("a text too long", [2, "7", "Authorize", {"idTag": "x" * 21}], "7", "PropertyConstraintViolation"),
    ("a value that is no number", [2, "7", "MeterValues", {"connectorId": 1, "meterValue": [
        {"timestamp": "2026-01-01T00:00:00Z", "sampledValue": [{"value": "many"}]}]}], "7", "PropertyConstraintViolation"),
    ("a connector nobody has", [2, "7", "StatusNotification", {"connectorId": 2**40, "errorCode": "NoError", "status": "Available"}],
     "7", "PropertyConstraintViolation"),
    ("a text with NUL", '[2,"7","Authorize",{"idTag":"a\\u0000b"}]', "-1", "ProtocolError"),
    ("a value no meter shows", [2, "7", "MeterValues", {"connectorId": 1, "meterValue": [
        {"timestamp": "2026-01-01T00:00:00Z", "sampledValue": [{"value": "1e400"}]}]}], "7", "PropertyConstraintViolation"),
]  # fmt: skip


async def test_nonsense_is_answered_with_what_is_wrong_and_the_line_goes_on(stand: Stand) -> None:
    async with connected(stand) as socket:
        for what, message, id, kind in MALFORMED:
            answer = await said(socket, message)
            assert (answer[0], answer[1], answer[2]) == (4, id, kind), what
            assert (await said(socket, BEAT))[0] == 3, what


async def test_too_much_nonsense_ends_the_line(stand: Stand) -> None:
    async with connected(stand) as socket:
        with pytest.raises(websockets.ConnectionClosed):
            for _ in range(40):
                await said(socket, "nonsense")
    await until(lambda: "ocpp.malformed" in stand.audit.refusals)


async def test_a_message_beyond_the_size_ends_the_line(stand: Stand) -> None:
    async with connected(stand) as socket:
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await said(socket, [2, "1", "DataTransfer", {"vendorId": "x", "data": "x" * (300 << 10)}])
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009


async def test_fragments_and_compression_are_read(stand: Stand) -> None:
    async with connected(stand, compression="deflate") as socket:
        text = json.dumps(BEAT)
        await socket.send([text[:4], text[4:9], text[9:]])
        assert (await heard(socket))[0] == 3


async def test_binary_is_not_ocpp(stand: Stand) -> None:
    async with connected(stand) as socket:
        await socket.send(json.dumps(BEAT).encode())
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await heard(socket)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1003


@pytest.mark.parametrize("offered", [["ocpp1.5"], None])
async def test_no_common_version_is_a_handshake_and_a_goodbye(stand: Stand, offered: Any) -> None:
    await stand.register("CP-1")
    async with websockets.connect(
        stand.address("CP-1"), subprotocols=offered, additional_headers=stand.headers("CP-1")
    ) as socket:
        assert socket.subprotocol is None
        with pytest.raises(websockets.ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 30)


async def test_the_newest_version_both_speak_is_taken(stand: Stand) -> None:
    await stand.register("CP-1")
    async with websockets.connect(
        stand.address("CP-1"),
        subprotocols=["ocpp1.6", "ocpp2.0.1", "ocpp2.1"],  # type: ignore[list-item]
        additional_headers=stand.headers("CP-1"),
    ) as socket:
        assert socket.subprotocol == "ocpp2.1"


async def test_the_newest_line_of_a_station_wins(stand: Stand) -> None:
    async with connected(stand) as older:
        assert (await said(older, BEAT))[0] == 3
        async with connected(stand) as newer:
            assert (await said(newer, BEAT))[0] == 3
            with pytest.raises(websockets.ConnectionClosed):
                while True:
                    await asyncio.wait_for(older.recv(), 30)
            assert stand.door.stations == ["CP-1"]
    await until(lambda: not stand.intake.connected)


async def test_messages_over_the_rate_are_answered_and_a_flood_is_ended(database: Database, tmp_path: Path) -> None:
    settings = Settings(messages_per_s=0.001, burst_s=5_000, max_refused=10)
    async with standing(database, tmp_path, settings) as stand, connected(stand) as socket:
        answers = [await said(socket, BEAT) for _ in range(9)]
        assert [one[0] for one in answers] == [3] * 5 + [4] * 4
        assert answers[-1][2:] == ["GenericError", "too many messages; send more slowly", {"code": "ocpp.rate"}]
        with pytest.raises(websockets.ConnectionClosed):
            for _ in range(20):
                await said(socket, BEAT)
        assert {"ocpp.rate", "ocpp.flood"} <= set(stand.audit.refusals)


async def test_one_address_does_not_take_all_the_places(database: Database, tmp_path: Path) -> None:
    async with standing(database, tmp_path, Settings(max_opening_per_peer=3)) as stand:
        silent = [await asyncio.open_connection("127.0.0.1", stand.port) for _ in range(6)]
        gone = [reader for reader, _ in silent]
        await until(lambda: stand.audit.refusals.count("ocpp.crowded") == 3)
        assert await asyncio.wait_for(gone[5].read(), 30) == b""
        for _, writer in silent:
            writer.close()


async def test_who_dawdles_at_the_door_is_dropped(database: Database, tmp_path: Path) -> None:
    async with standing(database, tmp_path, Settings(opening_s=0.05)) as stand:
        reader, writer = await asyncio.open_connection("127.0.0.1", stand.port)
        assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()
        await until(lambda: "ocpp.late" in stand.audit.refusals)


async def test_a_line_that_brings_nothing_not_even_a_pong_is_dropped(database: Database, tmp_path: Path) -> None:
    async with standing(database, tmp_path, Settings(ping_s=0.1, silent_s=1.0)) as stand:
        reader, writer = await raw(stand)
        await reader.read()  # until it is hung up on
        await until(lambda: stand.door.refusals["ocpp.silent"] >= 1)
        writer.close()


async def test_a_line_that_only_answers_pings_stays(database: Database, tmp_path: Path) -> None:
    async with standing(database, tmp_path, Settings(ping_s=0.1, silent_s=1.0)) as stand:
        async with asyncio.timeout(60):
            while True:  # until this machine has not stood still for a second, which is a silence too
                with contextlib.suppress(websockets.ConnectionClosed):
                    async with connected(stand) as socket:
                        await asyncio.sleep(2.5)
                        assert (await said(socket, BEAT))[0] == 3
                        break


async def raw(stand: Stand) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A station that upgrades and never says a word, not even a pong."""
    await stand.register("CP-2")
    reader, writer = await asyncio.open_connection("127.0.0.1", stand.port)
    proof = stand.headers("CP-2")["Authorization"]
    writer.write(
        "GET /ocpp/CP-2 HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: ocpp1.6\r\nAuthorization: {proof}\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def test_while_the_database_is_away_stations_are_told_to_send_again(database: Database, tmp_path: Path) -> None:
    async with standing(database, tmp_path, Settings(hold_s=0.2)) as stand, connected(stand) as socket:
        accept = stand.intake.accept
        is_down = True

        async def down(asked: list[Asked]) -> Any:
            if is_down:
                raise Unavailable("database.down", "away")
            return await accept(asked)

        stand.intake.accept = down  # type: ignore[method-assign, assignment]
        answer = await said(socket, BEAT)
        assert (answer[0], answer[2], answer[4]) == (4, "InternalError", {"code": "ocpp.unavailable"})
        is_down = False
        async with asyncio.timeout(30):  # a machine that takes longer than `hold_s` says once more to send again
            while (await said(socket, BEAT))[0] != 3:
                pass


async def test_a_message_that_breaks_the_handler_costs_the_others_nothing(stand: Stand) -> None:
    accept = stand.intake.accept

    async def breaking(asked: list[Asked]) -> Any:
        if any(one.action == "DataTransfer" for one in asked):
            raise RuntimeError("broken")
        return await accept(asked)

    stand.intake.accept = breaking  # type: ignore[method-assign, assignment]
    async with connected(stand, "CP-1") as one, connected(stand, "CP-2") as two:
        await one.send(json.dumps([2, "1", "DataTransfer", {"vendorId": "x"}]))
        assert (await said(two, BEAT))[0] == 3
        answer = await heard(one)
        assert (answer[2], answer[4]) == ("InternalError", {"code": "ocpp.unforeseen"})


async def test_what_a_station_says_twice_counts_once(stand: Stand, database: Database) -> None:
    begun = [
        2,
        "1",
        "StartTransaction",
        {"connectorId": 1, "idTag": "A", "meterStart": 5, "timestamp": "2026-11-01T00:00:00Z"},
    ]
    async with connected(stand) as socket:
        first, second = await said(socket, begun), await said(socket, begun)
        assert first[2]["transactionId"] == second[2]["transactionId"]
        value = {"timestamp": "2026-11-01T00:01:00Z", "sampledValue": [{"value": "10"}]}
        meter = [
            2,
            "2",
            "MeterValues",
            {"connectorId": 1, "transactionId": first[2]["transactionId"], "meterValue": [value]},
        ]
        for _ in range(2):
            assert (await said(socket, meter))[0] == 3
        end = [
            2,
            "3",
            "StopTransaction",
            {"transactionId": first[2]["transactionId"], "meterStop": 20, "timestamp": "2026-11-01T01:00:00Z"},
        ]
        for _ in range(2):
            assert (await said(socket, end))[0] == 3
    assert await database.pool.fetchval("SELECT count(*) FROM station_transaction") == 1
    assert await database.pool.fetchval("SELECT count(*) FROM station_meter") == 1
    kept = await stand.stations.transaction(first[2]["transactionId"])
    assert kept is not None
    assert kept.energy_kwh == pytest.approx(0.015)


async def test_the_end_of_a_transaction_nobody_knows_is_kept(stand: Stand) -> None:
    end = [2, "3", "StopTransaction", {"transactionId": 4711, "meterStop": 20, "timestamp": "2026-11-01T01:00:00Z"}]
    async with connected(stand) as socket:
        assert (await said(socket, end))[0] == 3
    [kept] = await stand.stations.transactions("CP-1")
    assert (kept.ended_wh, kept.began_wh, kept.energy_kwh) == (20, None, None)


async def test_tags_say_who_may_charge_and_no_table_or_log_names_them(stand: Stand, database: Database) -> None:
    await stand.register("CP-1", is_open=False)
    await stand.stations.put_tag("GOOD-TAG", "test", vehicle=5)  # type: ignore[arg-type]
    await stand.stations.put_tag("BAD-TAG", "test", is_blocked=True)
    await stand.stations.put_tag("OLD-TAG", "test", ends_us=1)
    wanted = {
        "GOOD-TAG": "Accepted",
        "good-tag": "Accepted",
        "BAD-TAG": "Blocked",
        "OLD-TAG": "Expired",
        "NO-TAG": "Invalid",
    }
    async with connected(stand) as socket:
        for tag, status in wanted.items():
            assert (await said(socket, [2, "1", "Authorize", {"idTag": tag}]))[2]["idTagInfo"]["status"] == status
        begun = {"connectorId": 1, "idTag": "NO-TAG", "meterStart": 5, "timestamp": "2026-11-01T00:00:00Z"}
        answer = await said(socket, [2, "1", "StartTransaction", begun])
        assert answer[2]["idTagInfo"]["status"] == "Invalid"
        assert answer[2]["transactionId"] > 0
    everything = str(
        [await database.pool.fetch(f"SELECT * FROM {name}") for name in ("station_tag", "station_transaction")]
    )
    assert "GOOD-TAG" not in everything
    assert "GOOD-TAG" not in str(stand.audit.entries)
