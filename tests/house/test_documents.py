"""Documents are under test: what the code can do stands in them, and what stands in them exists."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import click
import msgspec
import pytest
from programs import tool

from rocade.app.cli import main
from rocade.app.configuration import Configuration
from rocade.doors.mqtt import Settings
from rocade.services.telemetry.gaps import MAX_AHEAD, MAX_EPOCHS
from rocade.services.telemetry.intake import Quota
from rocade.wire.batch import layout

ROOT = Path(__file__).resolve().parents[2]
OPERATE = (ROOT / "docs/operate.md").read_text("utf-8")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def commands(group: click.Group, prefix: str = "") -> list[str]:
    found = []
    for name, command in group.commands.items():
        found += commands(command, f"{prefix}{name} ") if isinstance(command, click.Group) else [f"{prefix}{name}"]
    return found


def settings(shape: type[msgspec.Struct], prefix: str = "") -> list[str]:
    found = []
    for field in msgspec.structs.fields(shape):
        inner = field.type
        is_section = isinstance(inner, type) and issubclass(inner, msgspec.Struct)
        found += settings(inner, f"{field.name}.") if is_section else [prefix + field.name]
    return [name for name in found if name != "directory"]


@pytest.mark.parametrize("command", commands(main))
def test_every_command_stands_in_operate(command: str) -> None:
    """In a row that begins with it, or with one of the same group."""
    group, _, name = command.rpartition(" ")
    rows = [line for line in OPERATE.splitlines() if line.startswith(f"| `rocade {f'{group} ' if group else name}")]
    assert any(f"`{name}`" in row or f"`rocade {command}`" in row for row in rows), (
        f"docs/operate.md lacks rocade {command}"
    )


@pytest.mark.parametrize("setting", settings(Configuration))
def test_every_setting_stands_in_operate(setting: str) -> None:
    assert f"`{setting}`" in OPERATE


def test_the_defaults_in_operate_are_those_of_the_code() -> None:
    wrong = []
    for row in re.findall(r"^\| (`[a-z_.]+`(?:, `[a-z_.]+`)*) \| ([^|]*) \|", OPERATE, re.MULTILINE):
        names, defaults = re.findall(r"`([^`]+)`", row[0]), row[1].split(", ")
        for name, said in zip(names, defaults, strict=False):
            value: object = Configuration("", "")
            for part in name.split("."):
                value = getattr(value, part, None)
            if isinstance(value, int | float) and float(said) != value:
                wrong.append(f"{name}: {said}, but {value}")
    assert wrong == []


def test_every_environment_variable_stands_in_operate() -> None:
    used = {
        name
        for file in (ROOT / "src").rglob("*.py")
        for name in re.findall(r"[\"'](ROCADE_[A-Z_]+)[\"']", file.read_text("utf-8"))
    }
    assert {name for name in used if f"`{name}`" not in OPERATE} == set()


def test_every_error_code_and_decision_stands_in_its_list() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/write_lists.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_list_of_errors_sees_plain_and_filled_in_codes() -> None:
    module = tool("write_lists")
    source = 'raise Refused("a.b", "no")\nraise Corrupt(f"a.{what}", f"bad {x.y}")\nprint("c.d")\n'
    assert list(module.calls(source)) == [("Refused", "a.b", "no"), ("Corrupt", "a.<what>", "bad <y>")]


def test_no_decision_number_is_used_twice() -> None:
    numbers = [file.name[:4] for file in (ROOT / "docs/decisions").glob("[0-9]*.md")]
    assert sorted(numbers) == sorted(set(numbers))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_and_every_named_file_exists(document: Path) -> None:
    text = document.read_text("utf-8")
    missing = [
        target for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text) if not (document.parent / target).exists()
    ]
    named = re.findall(r"`((?:docs|src|tests|tools|deploy|examples|requirements)/[\w./@-]+)`", text)
    missing += [name for name in named if not (ROOT / name).exists()]
    if document.name == "tour.md":
        places = re.findall(r"`((?:core|wire|fabric|trust|doors|services|agents|console|app)/[\w./-]+)`", text)
        missing += [name for name in places if not (ROOT / "src/rocade" / name).exists()]
    assert missing == []


def test_the_limits_in_the_mqtt_page_are_those_of_the_code() -> None:
    page = (ROOT / "docs/mqtt.md").read_text("utf-8")
    door, quota, mqtt = Settings(), Quota(), Configuration("", "").mqtt
    limits = {
        door.max_packet_bytes, door.receive_maximum, door.max_keep_alive_s, door.max_handshakes, door.max_subscriptions,
        int(door.packet_timeout_s), door.max_unsent_bytes >> 10, mqtt.max_connections, mqtt.buffer_mb, mqtt.port,
        mqtt.tick_ms, int(mqtt.vehicle_messages_per_s), int(mqtt.vehicle_kib_per_s), int(quota.points_per_s),
        int(quota.burst_s), layout.MAX_ROWS, layout.MAX_POINTS, layout.MAX_CLOCKS, MAX_AHEAD, MAX_EPOCHS,
    }  # fmt: skip
    assert limits - {int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\d|\d", page)} == set()


def test_documents_named_in_docstrings_exist() -> None:
    missing = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in (ROOT / "src").rglob("*.py")
        for name in re.findall(r"docs/[\w./-]+\.md", file.read_text("utf-8"))
        if not (ROOT / name).exists()
    }
    assert missing == set()


ROAD = {"A": 3, "B": 4, "C": 3, "D": 3, "E": 4, "F": 1, "G": 3, "H": 7, "I": 10, "J": 1, "K": 15, "L": 4}
PEOPLE = {"A": 3, "B": 4, "C": 5, "D": 1, "E": 5, "F": 5}
DEALERS = {"A": 5, "B": 1, "C": 1, "D": 4, "E": 1, "F": 1, "G": 1, "H": 9, "I": 1}
CHARGING = {"A": 4, "B": 4, "C": 1, "D": 1, "E": 1, "F": 1, "G": 9, "H": 1}
SEALED = {"A": 2, "B": 3, "C": 1, "D": 1, "E": 1, "F": 1, "G": 5, "H": 1}


def test_promises_has_every_line_once_and_a_command_for_each() -> None:
    text = (ROOT / "docs/promises.md").read_text("utf-8")
    rows = [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in re.findall(r"^\| [A-L]\d+ .*$", text, re.MULTILINE)
    ]
    lines = [
        f"{letter}{n}"
        for counts in (ROAD, PEOPLE, DEALERS, CHARGING, SEALED)
        for letter, count in counts.items()
        for n in range(1, count + 1)
    ]
    assert [row[0] for row in rows] == lines
    assert {row[2] for row in rows} <= {"true", "false"}
    assert all("`" in row[3] for row in rows)
    assert [row[0] for row in rows if row[2] == "true" and row[4]] == [], "true and something missing"


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(file.relative_to(ROOT))
        for file in sorted((ROOT / "src").rglob("*.py"))
        if not ast.get_docstring(ast.parse(file.read_text("utf-8")))
    ]
    assert silent == []
