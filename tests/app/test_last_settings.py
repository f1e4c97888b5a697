"""A setting that differs from the last start's is told by name and recorded, whoever changed it: a person or a bit of the disk."""

from __future__ import annotations

import asyncio
import stat
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import msgspec
import pytest
from tests.notebook import Notebook

from rocade.app import configuration as settings
from rocade.app import last_settings
from rocade.app.doctor import examine
from rocade.core.errors import Corrupt, Misconfigured
from rocade.core.ports import AuditEntry, SystemClock
from rocade.trust.identity.records import write_record

PASSWORD = "f4d0c11a"
WRITTEN = settings.render(settings.Configuration("eu", "rocade.test", mqtt=settings.Mqtt(max_connections=500))).replace(
    '# history_url = ""', f'history_url = "http://user:{PASSWORD}@clickhouse:8123/eu"'
)


type Start = Callable[[], Awaitable[list[AuditEntry]]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start once with the file as it stands; what was recorded."""
    (tmp_path / "rocade.toml").write_text(WRITTEN)

    async def started() -> list[AuditEntry]:
        book = Notebook()
        await last_settings.keep(tmp_path, last_settings.tell(tmp_path), book, SystemClock())
        return book.entries

    return started


RULES = 'retention [{{"days":{}.0,"signal":"","brand":"","region":"","counted_from":"arrival"}}]'
CHANGES = {
    "a turned bit in a number": ("max_connections = 500", "max_connections = 504", ["mqtt.max_connections 500 -> 504"]),
    "a line that became a comment": (
        "max_connections = 500", "#ax_connections = 500", ["mqtt.max_connections 500 -> 20000"],
    ),
    "a comment that became a line": ("# tick_ms = 20\n", "\n tick_ms = 22\n", ["mqtt.tick_ms 20 -> 22"]),
    "a rule": ("days = 730.0", "days = 130.0", [RULES.format(730) + " -> " + RULES.format(130).split(" ")[1]]),
    "a password": (PASSWORD, PASSWORD.replace("f", "v"), ["history_url (not shown)"]),
    "an address that holds none any more": (f":{PASSWORD}@", f"z{PASSWORD}D", ["history_url (not shown)"]),
    "a comment": ("Every setting", "Every settinG", []),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
async def test_what_changed_is_told_by_name_and_recorded_once(
    start: Start, tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    old, new, told = CHANGES[case]
    assert await start() == []
    assert await start() == []
    assert old in WRITTEN
    (tmp_path / "rocade.toml").write_text(WRITTEN.replace(old, new, 1))
    assert [str(one) for one in last_settings.changed(tmp_path)] == told
    found = {one.seen for one in examine(settings.load(tmp_path), is_running=True) if one.name == "settings"}
    assert found == ({f"changed since the last start: {one}" for one in told} or {"as at the last start"})
    assert not caplog.messages
    entries = await start()
    assert caplog.messages == [f"setting changed since the last start: {one}" for one in told]
    assert [entry.subject for entry in entries] == [f"setting:{one.split()[0]}" for one in told]
    for entry in entries:
        assert entry.action == "settings.change"
        if entry.facts:
            assert f"{entry.subject[8:]} {entry.facts['old']} -> {entry.facts['new']}" in told
    assert await start() == []
    everything = caplog.text + repr(entries) + (tmp_path / last_settings.FILE).read_text()
    assert PASSWORD not in everything
    assert "clickhouse" not in everything


async def test_every_turned_bit_of_the_file_is_refused_told_or_in_a_comment(start: Start, tmp_path: Path) -> None:
    await start()
    good, content, outcomes = settings.load(tmp_path), WRITTEN.encode(), Counter[str]()
    print("seed 6")
    for bit in Random(6).sample(range(len(content) * 8), 300):
        turned = bytearray(content)
        turned[bit // 8] ^= 1 << bit % 8
        (tmp_path / "rocade.toml").write_bytes(turned)
        try:
            found = last_settings.changed(tmp_path)
        except Misconfigured as error:
            outcomes[error.code] += 1
            continue
        assert bool(found) == (settings.load(tmp_path) != good), f"bit {bit}"
        outcomes["told" if found else "comment"] += 1
    print(dict(outcomes))
    assert outcomes.keys() == {"app.configuration.invalid", "told", "comment"}
    assert outcomes["told"] > 5


async def test_every_turned_bit_of_the_record_is_told_and_the_record_written_anew(start: Start, tmp_path: Path) -> None:
    await start()
    path = tmp_path / last_settings.FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = path.read_bytes()
    for bit in Random(7).sample(range(len(content) * 8), 300):
        turned = bytearray(content)
        turned[bit // 8] ^= 1 << bit % 8
        path.write_bytes(turned)
        with pytest.raises(Corrupt) as said:
            last_settings.changed(tmp_path)
        assert said.value.code == "app.settings.record"
    (entry,) = await start()
    assert (entry.action, entry.outcome, entry.reason) == ("settings.change", "refused", "app.settings.record")
    assert await start() == []


async def test_a_setting_that_an_update_brought_is_compared_with_its_default(start: Start, tmp_path: Path) -> None:
    await start()
    path = tmp_path / last_settings.FILE
    record = last_settings._read(path)
    assert record is not None
    older = {name: value for name, value in record.settings.items() if not name.startswith("mqtt.")} | {"gone.one": "1"}
    body = msgspec.json.encode(last_settings._Record(record.key, older))
    await asyncio.to_thread(write_record, path, body)
    assert [str(one) for one in last_settings.changed(tmp_path)] == ["mqtt.max_connections 20000 -> 500"]
