"""Charge control, measured: plans, fleets, real sessions, stations, commands and health; each part by its own file, one record of all.

    python -m benchmarks --only charging [--full]         quick, or at the size the goals are stated for
    python benchmarks/charging.py --parts plans,fleet     some parts

Parts run one after the other in processes of their own, with nothing else beside them. Each says its rows as JSON; together they
are build/bench/charging.json with the conditions they were taken under.
"""

from __future__ import annotations

import sys

import parts

PARTS = {
    "plans": "charging_plans",
    "fleet": "charging_fleet",
    "ocpp": "charging_ocpp",
    "commands": "charging_commands",
    "faults": "charging_faults",
    "health": "charging_health",
    "replanning": "charging_replanning",
}
LIBRARIES = (
    "numpy",
    "scipy",
    "highspy",
    "acnportal",
    "ocpp",
    "websockets",
    "asyncpg",
    "cryptography",
    "msgspec",
    "uvloop",
)
if __name__ == "__main__":
    sys.exit(parts.main(__file__, __doc__ or "", PARTS, LIBRARIES))
