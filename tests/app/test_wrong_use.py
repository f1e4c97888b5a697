"""What the command line says before any region runs: wrong use, missing things, help, completion, a region that is down."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import click
import pytest
from tests.app.stand import Region, rocade

from rocade.app.cli import main


def commands(group: click.Group, prefix: str = "") -> list[tuple[str, click.Command]]:
    found = []
    for name, command in group.commands.items():
        inner = (
            commands(command, f"{prefix}{name} ") if isinstance(command, click.Group) else [(prefix + name, command)]
        )
        found += inner
    return found


@pytest.mark.parametrize(("name", "command"), commands(main), ids=lambda one: one if isinstance(one, str) else "")
def test_every_help_says_what_the_command_does_and_shows_an_example(name: str, command: click.Command) -> None:
    text = command.get_help(click.Context(command, info_name=name))
    assert len((command.help or "").split()) >= 4
    assert f"rocade {name}" in text.partition("Examples:\n    ")[2], "each example stands on its own line"
    silent = [one.name for one in command.params if isinstance(one, click.Option) and not one.help and not one.hidden]
    assert set(silent) <= {"kind", "form", "count"}, "options explain themselves"


def test_the_first_day_stands_in_the_help_line_by_line() -> None:
    text = rocade("--help", is_fresh=True)
    assert "\n    rocade init ./eu --region eu\n    rocade serve --config ./eu\n" in text


WRONG = [
    ["fly"],
    ["twin"],
    ["history", "VIN"],
    ["history", "VIN", "--signal", "Vehicle.Speed", "--agg", "mean"],
    ["history", "VIN", "--signal", "Vehicle.Speed", "--format", "xls"],
    ["serve", "--role", "king"],
    ["enroll", "--id", "VF1AAAAAAAA000001"],
    ["enroll", "--kind", "pirate", "--id", "x", "--claim-only"],
    ["replay", "missing.csv", "--identity", ".", "--mapping", "missing.toml"],
    ["roll"],
    ["roll", "everything"],
    ["completion", "tcsh"],
]


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_wrong_use_ends_with_2_and_says_so(arguments: list[str]) -> None:
    rocade(*arguments, code=2, says="Error: ")


def test_replay_takes_a_mapping_or_a_dbc_and_not_both(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("time\n")
    rocade("replay", tmp_path / "log.csv", "--identity", tmp_path, code=2, says="--mapping FILE.toml or --dbc FILE")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_its_shell_can_read(shell: str) -> None:
    script = rocade("completion", shell)
    assert "_ROCADE_COMPLETE" in script
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=script, text=True, check=True)


def test_completion_completes_commands() -> None:
    words = {"_ROCADE_COMPLETE": "bash_complete", "COMP_WORDS": "rocade aud", "COMP_CWORD": "1"}
    done = rocade(environment=words, is_fresh=True)
    assert done.split() == ["plain,audit"]


def test_without_a_region_it_says_how_to_make_one(tmp_path: Path) -> None:
    rocade("vehicles", "--config", tmp_path, code=1, says="run `rocade init DIR --region eu`")


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Region:
    """A region that does not run."""
    region = Region(tmp_path_factory.mktemp("silent") / "eu")
    region.said = region.init()
    return region


def test_init_makes_a_region_once(silent: Region) -> None:
    assert "region eu is ready in" in silent.said
    assert (silent.directory / "trust/root/key.pem").stat().st_mode & 0o777 == 0o600
    rocade("init", silent.directory, "--region", "eu", code=1, says="is not empty; a region is never overwritten")


@pytest.mark.parametrize(
    "arguments", [["vehicles"], ["status"], ["twin", "X"], ["audit", "verify"], ["quarantine", "list"]]
)
def test_a_region_that_does_not_answer_is_one_line_and_1(silent: Region, arguments: list[str]) -> None:
    said = silent.rocade(*arguments, code=1, says="is `rocade serve` running?  [app.api.unreachable]")
    assert said == ""


def test_doctor_is_content_with_a_fresh_region_and_stops_at_a_taken_port_or_an_open_key(silent: Region) -> None:
    said = silent.rocade("doctor")
    checks = (
        "clock",
        "open files",
        "fsync",
        "disk",
        "memory",
        "tls",
        "keys",
        "certificates",
        "mqtt.port",
        "http.api_port",
    )
    assert [line for check in checks for line in said.splitlines() if line.startswith(check)]
    assert all(any(line.startswith(check) for line in said.splitlines()) for check in checks)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", silent.configuration.mqtt.port))
        taken.listen()
        assert "free it or change mqtt.port" in silent.rocade("doctor", code=1)
    key = silent.directory / "operator/key.pem"
    key.chmod(0o644)
    assert "chmod 600" in silent.rocade("doctor", code=1)
    key.chmod(0o600)


def test_mapping_guess_proposes_a_mapping_that_loads(drive: tuple[Path, Path], tmp_path: Path) -> None:
    from rocade.agents.vehicle import mapping
    from rocade.core.catalogue import standard

    (tmp_path / "guess.toml").write_text(rocade("mapping", "guess", drive[0]))
    rules = mapping.load(tmp_path / "guess.toml", standard())
    assert {"speed": "Vehicle.Speed"}.items() <= {rule.name: rule.signal for rule in rules.column}.items()
