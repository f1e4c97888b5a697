"""docs/dealer-agent.md says what the code does: every setting, scope and command."""

from __future__ import annotations

import re
from pathlib import Path

import click

from rocade.agents.dealer import settings
from rocade.agents.dealer.tokens import SCOPES
from rocade.app.commands.dealer import dealer

TEXT = (Path(__file__).parents[3] / "docs/dealer-agent.md").read_text("utf-8")
SECTIONS = {
    "hub": settings.Hub, "local": settings.Local, "lan": settings.Lan, "pair": settings.Pair,
    "keeping": settings.Keeping, "update": settings.Update,
}  # fmt: skip


def test_every_setting_is_described_with_its_default() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| `")]
    for section, struct in SECTIONS.items():
        for field, default in zip(
            struct.__struct_fields__[-len(struct.__struct_defaults__) or 99 :], struct.__struct_defaults__, strict=True
        ):
            row = next((row for row in rows if f"`{section}.{field}`" in row), "")
            assert row, f"{section}.{field}"
            if isinstance(default, int | float) and default:
                shown = "true" if default is True else default
                assert f"| {shown} |" in row, row
    assert all(f"`{scope}`" in TEXT for scope in SCOPES)


def test_every_command_of_the_document_is_one() -> None:
    for line in re.findall(r"^rocade dealer (.+)$", TEXT, re.MULTILINE):
        command: click.Command = dealer
        for word in line.split():
            if not isinstance(command, click.Group):
                break
            command = command.commands[word]
        options = {name for one in command.params for name in one.opts}
        assert {word for word in line.split() if word.startswith("--")} <= options, line
