"""A process of Rocade does not load what it does not use: each would take 0.3 s and 55 MB more."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOADED = """
import sys, pyarrow
from rocade.app.cli import main
if {is_command}:
    main(["audit", "--help"], standalone_mode=False)
assert pyarrow.table({{"a": [1, 2], "b": ["x", None], "c": [[1], []]}}).num_rows == 2
print("pandas" in sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("is_command", [True, False])
def test_what_a_command_makes_of_lists_needs_no_pandas(is_command: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(is_command=is_command)], text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (0, str(not is_command)), done.stderr
