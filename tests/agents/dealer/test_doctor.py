"""What the agent finds wrong around it, each with what to do; and whom it does not take for a hub."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tests.agents.dealer.conftest import QUICK, Hub, until
from tests.chance import Seeded
from tests.clocks import TurnedClock

from rocade.agents.dealer import settings as configured
from rocade.agents.dealer.agent import Dealer
from rocade.agents.dealer.catalogue import texts
from rocade.agents.dealer.doctor import examine, examine_prices
from rocade.agents.dealer.joining import join
from rocade.agents.renewal import Renewal
from rocade.core.errors import Refused
from rocade.core.languages import CODES
from rocade.core.ports import SystemClock
from rocade.trust.identity.est_client import Server


async def levels(place: Path, clock: SystemClock | None = None) -> dict[str, str]:
    found = await examine(place, configured.load(place), clock or SystemClock())
    for one in found:
        for code in CODES:
            assert texts(code)[f"test.{one.check}"]
            assert not one.advice or texts(code)[f"advice.{one.advice}"]
    return {one.check: f"{one.level} {one.advice}".strip() for one in found}


async def test_a_sound_line_is_called_sound_step_by_step(hub: Hub, place: Path) -> None:
    found = await levels(place)
    for check in ("name", "port_line", "port_files", "tls_line", "tls_files", "certificate", "permissions", "writable"):
        assert found[check].startswith("ok"), check
    assert found["port_enrolment"] == "fail port"  # this hub has none
    assert found["clock"] == "ok clock"


async def test_rows_of_a_price_list_that_were_altered_are_found(hub: Hub, place: Path) -> None:
    hub.publish(parts=50)
    agent = Dealer.open(place, backoff=QUICK)
    task = asyncio.create_task(agent.run())
    await until(lambda: hub.told("ack"))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    agent.close()

    def found() -> list[tuple[str, str]]:
        return [(one.level, one.seen) for one in examine_prices(place, configured.load(place), SystemClock())]

    assert found() == [("ok", "parts")]
    assert all(texts(code)["test.prices"] and texts(code)["advice.prices"] for code in CODES)
    with sqlite3.connect(place / "prices/eu.sqlite3") as rows:
        rows.execute("UPDATE entry SET price = price + 1 WHERE slot & 4294967295 = 7")
    assert found() == [("fail", "parts prices.store.altered")]


async def test_what_is_wrong_is_named_with_what_to_do(hub: Hub, place: Path, tmp_path: Path) -> None:
    assert (await levels(place, TurnedClock(600_000_000)))["clock"] == "fail clock"
    (place / "hubs/eu/key.pem").chmod(0o644)
    found = await levels(place)
    assert (found["permissions"], found["certificate"]) == ("fail permissions", "fail enrol")
    (place / "hubs/eu/key.pem").chmod(0o600)
    await hub.shut()
    assert (await levels(place))["port_line"] == "fail port"
    ended = hub.enrol(tmp_path / "ended", life_us=-250_000_000)
    assert (await levels(ended))["certificate"] == "fail enrol"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "dealer.toml").write_text('[[hub]]\nname = "eu"\nhost = "nowhere.invalid"\n')
    assert (await levels(elsewhere))["name"] == "fail name"


async def test_the_command_says_it_in_words_and_by_its_exit_code(hub: Hub, place: Path) -> None:
    command = [sys.executable, "-m", "rocade", "dealer", "doctor", "--dir", str(place)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 1
    assert "Port of enrolment (eu)" in done.stdout
    assert "let the firewall open this port outward" in done.stdout


async def test_a_server_of_another_region_is_no_hub(hub: Hub, place: Path, tmp_path: Path) -> None:
    port = hub.port
    await hub.shut()
    impostor = Hub(tmp_path / "impostor", "eu")
    await impostor.open(port)
    dealer = Dealer.open(place, backoff=QUICK)
    task = asyncio.create_task(dealer.run())
    try:
        await until(lambda: dealer.hub().line.standing.last_code == "link.refused")
        assert impostor.said == []
        assert (await levels(place))["tls_line"] == "fail tls"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        dealer.close()
        await impostor.shut()


async def test_a_revoked_server_is_refused_before_a_word_is_said(hub: Hub, place: Path) -> None:
    dealer = Dealer.open(place, backoff=QUICK)
    dealer.hub().believing._revoked = frozenset({_serial(hub)})
    task = asyncio.create_task(dealer.run())
    try:
        await until(lambda: dealer.hub().line.standing.last_code == "trust.certificate.revoked")
        assert hub.said == []
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        dealer.close()


def _serial(hub: Hub) -> int:
    from rocade.trust.identity.directory import load_leaf

    return load_leaf(hub.directory / "door").serial_number


async def test_an_ended_certificate_asks_for_a_new_code_and_an_identity_in_force_is_never_overwritten(
    hub: Hub, tmp_path: Path, place: Path
) -> None:
    ended = hub.enrol(tmp_path / "ended", life_us=-250_000_000) / "hubs/eu"
    renewal = Renewal(ended, Server("localhost", 1), lambda: None, SystemClock(), Seeded())
    task = asyncio.create_task(renewal.run())
    await until(lambda: "one-time code" in renewal.last_problem)
    task.cancel()
    with pytest.raises(Refused) as refused:
        join(place, hub.settings(), "code", b"", "00")
    assert refused.value.code == "dealer.hub.joined"
