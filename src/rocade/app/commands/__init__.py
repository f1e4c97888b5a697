"""The sub-commands of `rocade`, by what they touch: the road (demo, replay), a region, enrolment, data."""

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
