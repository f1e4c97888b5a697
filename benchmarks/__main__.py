"""`python -m benchmarks [--only AREA] [--full]`: run the areas one after the other, each writes build/bench/<area>.json.

Areas: road (the whole path, beside two peers), kill (200 kills -9 under load), door, data_path, history, trust, people, console, dealers, charging, proof. One at a time: they share the machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

AREAS = ("road", "kill", "door", "data_path", "history", "trust", "people", "console", "dealers", "charging", "proof")
"""Those that know a long form get `--full`."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=AREAS, help="run one area")
    parser.add_argument("--full", action="store_true", help="the length the goals are stated for")
    options, rest = parser.parse_known_args()
    status = 0
    for area in (options.only,) if options.only else AREAS:
        script = Path(__file__).with_name(f"{area}.py")
        print(f"\n== {area}", flush=True)
        knows_full = "--full" in script.read_text()
        command = [sys.executable, str(script), *(["--full"] if options.full and knows_full else []), *rest]
        status |= subprocess.run(command, check=False).returncode
    return status


if __name__ == "__main__":
    sys.exit(main())
