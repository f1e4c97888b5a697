"""The dealer road, measured: prices, messages, lines and formats, each part by its own file, one table and one record of all.

    python -m benchmarks --only dealers [--full]          quick, or at the size the goals are stated for
    python benchmarks/dealers.py --parts prices,soap      some parts

Parts run one after the other in processes of their own, with nothing else beside them. Each says its rows as JSON; together they
are build/bench/dealers.json with the conditions they were taken under.
"""

from __future__ import annotations

import sys

import parts

PARTS = {
    "prices": "dealer_prices",
    "lists": "dealer_lists",
    "messages": "dealer_messages",
    "soap": "dealer_soap",
    "joining": "dealer_joining",
    "fanout": "dealer_fanout",
}
LIBRARIES = ("cryptography", "asyncpg", "lxml", "zstandard", "uvloop", "msgspec")
if __name__ == "__main__":
    sys.exit(parts.main(__file__, __doc__ or "", PARTS, LIBRARIES))
