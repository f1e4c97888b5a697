"""Keys that sign tokens: shared by all processes, sealed at rest, rotated without a gap."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from overtaking import overtake
from tests.clocks import TurnedClock
from tests.notebook import Notebook
from tests.trust.authority.machines.conftest import ACME, PLACE, Opener
from tests.trust.authority.machines.test_tokens import OWN, code_of, opened, until

from rocade.core.errors import Misconfigured
from rocade.core.ports import SystemRandom
from rocade.fabric.database import Database
from rocade.trust.authority.machines import Clients, Tokens
from rocade.trust.authority.machines import tokens as tokens_module
from rocade.trust.authority.machines.keyring import AHEAD_US, SIGNS_US, WRAPPING

SECOND_US = 1_000_000


def kids(tokens: Tokens) -> list[object]:
    published = tokens.published()["keys"]
    assert isinstance(published, list)
    return [key["kid"] for key in published]


async def test_processes_that_start_at_once_share_one_key(
    open_tokens: Opener, tokens: Tokens, clock: TurnedClock
) -> None:
    processes = await asyncio.gather(*(open_tokens() for _ in range(6)))
    assert {tuple(kids(process)) for process in (tokens, *processes)} == {tuple(kids(tokens))}
    assert len(kids(tokens)) == 1
    token = await processes[0].issue(ACME, OWN, [])
    assert all(process.check(token, OWN, clock.now_us()) for process in processes)


async def test_an_empty_region_opened_six_times_makes_one_key(open_tokens: Opener) -> None:
    processes = await asyncio.gather(*(open_tokens() for _ in range(6)))
    assert len({tuple(kids(process)) for process in processes}) == 1


async def test_a_rotation_under_load_refuses_nothing(
    open_tokens: Opener, tokens: Tokens, clock: TurnedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes issue and check each other's tokens; notifications are lost, so that only polls carry the new key."""
    monkeypatch.setattr(tokens_module, "ISSUED_A_MINUTE", 1_000_000)
    clock.hold()  # the time in which everybody has heard passes once they have, whatever the machine does meanwhile
    with monkeypatch.context() as deaf:
        deaf.setattr(tokens_module.store, "CHANNEL", "nobody_speaks_here")
        processes = [await open_tokens(), await open_tokens()]
    before, checked = kids(processes[0])[0], 0
    signed_by: set[str] = set()

    async def load(issuer: Tokens, checker: Tokens) -> None:
        nonlocal checked
        while not done.is_set():
            token = await issuer.issue(ACME, OWN, ["insurance"])
            signed_by.add(opened(token)[0]["kid"])
            assert checker.check(token, OWN, clock.now_us())
            checked += 1
            await asyncio.sleep(0.002)

    done = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for issuer, checker in (processes, processes[::-1]):
            group.create_task(load(issuer, checker))
        await asyncio.sleep(0.2)
        after = await processes[0].rotate("operator:test")
        await until(lambda: after in kids(processes[1]))
        assert signed_by == {before}
        clock.ahead_us += tokens_module.HEARD_US
        await until(lambda: signed_by == {before, after})
        enough = checked + 100
        await until(lambda: checked > max(500, enough))
        done.set()


async def test_an_old_key_is_dropped_when_its_last_token_has_ended(
    tokens: Tokens, open_tokens: Opener, clock: TurnedClock
) -> None:
    clock.hold()  # seconds count here
    elsewhere, (old,) = await open_tokens(), kids(tokens)
    new = await tokens.rotate("operator:test")
    await until(lambda: kids(elsewhere) == [old, new])
    clock.ahead_us += 9 * SECOND_US
    last = await elsewhere.issue(ACME, OWN, [])
    assert opened(last)[0]["kid"] == old, "the new key waits until everybody has it"
    clock.ahead_us += 2 * SECOND_US
    assert opened(await tokens.issue(ACME, OWN, []))[0]["kid"] == new
    clock.ahead_us += 296 * SECOND_US
    assert tokens.check(last, OWN, clock.now_us()), "to its very end"
    clock.ahead_us += 20 * SECOND_US
    await until(lambda: kids(tokens) == kids(elsewhere) == [new])
    assert code_of(elsewhere, last) == "access.token.key"


async def test_the_next_key_is_published_ahead_and_takes_over_by_itself(
    tokens: Tokens, open_tokens: Opener, clock: TurnedClock
) -> None:
    elsewhere, (old,) = await open_tokens(), kids(tokens)
    clock.ahead_us += SIGNS_US - AHEAD_US + SECOND_US
    await until(lambda: len(kids(tokens)) == 2 and kids(tokens) == kids(elsewhere))
    assert opened(await tokens.issue(ACME, OWN, []))[0]["kid"] == old
    clock.ahead_us += AHEAD_US
    token = await tokens.issue(ACME, OWN, [])
    assert opened(token)[0]["kid"] == kids(tokens)[1]
    assert elsewhere.check(token, OWN, clock.now_us())


async def test_a_key_that_leaked_is_withdrawn_at_once(tokens: Tokens, open_tokens: Opener, audit: Notebook) -> None:
    elsewhere = await open_tokens()
    token = await tokens.issue(ACME, OWN, [])
    new = await tokens.rotate("operator:test", withdraw=True)
    assert code_of(tokens, token) == "access.token.key"
    await until(lambda: kids(elsewhere) == [new])
    assert code_of(elsewhere, token) == "access.token.key"
    assert elsewhere.check(await tokens.issue(ACME, OWN, []), OWN, tokens._clock.now_us())
    entry = audit.entries[-2]
    assert (entry.action, entry.subject, entry.facts) == ("access.token.rotate", f"key:{new}", {"withdraw": 1})


async def test_a_key_just_withdrawn_stays_so_while_an_older_reading_ends(
    tokens: Tokens, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await tokens.issue(ACME, OWN, [])

    async def hear() -> None:
        async with clients._database.pool.acquire() as connection:
            await tokens._read(connection)

    async def withdraw() -> str:
        return await tokens.rotate("operator:test", withdraw=True)

    await overtake(monkeypatch, tokens_module.store, "read_keys", hear, withdraw)
    assert code_of(tokens, token) == "access.token.key"


async def test_the_database_alone_neither_signs_nor_takes_a_key_in(
    tokens: Tokens, database: Database, open_tokens: Opener, tmp_path: Path
) -> None:
    row = await database.pool.fetchrow("SELECT sealed, begins_us FROM token_key")
    secret = tokens._ring.keys[0].pair.as_dict(private=True)["d"]
    number = tokens._ring.keys[0].pair.private_key.private_numbers().private_value.to_bytes(32)
    assert number not in row["sealed"]
    assert str(secret) not in json.dumps([str(row["sealed"])])
    assert (tmp_path / "tokens" / WRAPPING).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "tokens").stat().st_mode & 0o777 == 0o700
    await database.pool.execute("UPDATE token_key SET begins_us = begins_us - 1")
    with pytest.raises(Misconfigured) as refused:
        await open_tokens()
    assert refused.value.code == "trust.tokens.seal"


async def test_a_machine_without_the_regions_wrapping_key_does_not_start(
    tokens: Tokens, open_tokens: Opener, tmp_path: Path
) -> None:
    with pytest.raises(Misconfigured) as refused:
        await open_tokens(PLACE, "another machine")
    assert refused.value.code == "trust.tokens.missing"
    (tmp_path / "tokens" / WRAPPING).chmod(0o640)
    with pytest.raises(Misconfigured) as refused:
        await open_tokens()
    assert refused.value.code == "trust.tokens.exposed"
    other = tmp_path / "third"
    other.mkdir()
    (other / WRAPPING).write_bytes(SystemRandom().bits(256).to_bytes(32))
    (other / WRAPPING).chmod(0o600)
    with pytest.raises(Misconfigured) as refused:
        await open_tokens(PLACE, "third")
    assert refused.value.code == "trust.tokens.seal"
