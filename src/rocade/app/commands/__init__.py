"""The sub-commands of `rocade`, by what they touch: the road (demo, replay), a region, its keys, enrolment, data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from rocade.app.configuration import Configuration

type Load = Callable[[Path | None], Configuration]


def config_option[F: Callable[..., Any]](command: F) -> F:
    """`--config` behind the sub-command too, where people type it."""
    return click.option(
        "--config", type=click.Path(path_type=Path), help="DIR or DIR/rocade.toml of the region (or ROCADE_CONFIG)."
    )(command)


def example(*lines: str) -> str:
    """What stands at the end of a command's help: commands to copy, each on its own line."""
    return "\b\nExamples:\n" + "\n".join(f"  rocade {line}" for line in lines)
