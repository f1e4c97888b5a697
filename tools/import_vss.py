"""Make src/rocade/core/data/signals.csv from an exported COVESA VSS tree; ids already given are kept for ever.

Flow: read the ids in the committed file -> read the leaves of the tree -> a known name keeps its id, a new name gets
the next free one, a name that left the tree keeps its row -> write. Facts only are taken (name, type, unit, range,
allowed values); descriptions and comments of the standard are not. Run once per VSS version:

    python tools/import_vss.py ../shared/data/vss/vss_6.0_tree.csv.gz

Source: COVESA Vehicle Signal Specification 6.0, exported as CSV by vss-tools 6.0, MPL-2.0.
"""

from __future__ import annotations

import ast
import csv
import gzip
import sys
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "src/rocade/core/data/signals.csv"
COLUMNS = ("id", "name", "kind", "datatype", "unit", "min", "max", "allowed")
HEAD = """\
# The leaves of COVESA Vehicle Signal Specification 6.0 with Rocade's own numeric ids, made by tools/import_vss.py.
# Ids never change and are never reused. This one file is under MPL-2.0 like the specification it is taken from.
"""


def committed_rows() -> dict[str, dict[str, str]]:
    """Rows of the file as it stands, by name; empty on the very first run."""
    if not TARGET.exists():
        return {}
    lines = [line for line in TARGET.read_text("utf-8").splitlines() if not line.startswith("#")]
    return {row["name"]: row for row in csv.DictReader(lines)}


def leaves(tree: Path) -> dict[str, dict[str, str]]:
    """Leaves of an exported tree, by name, in the tree's order."""
    with gzip.open(tree, "rt", encoding="utf-8", newline="") as lines:
        return {
            row["Signal"]: {
                "name": row["Signal"],
                "kind": row["Type"],
                "datatype": row["DataType"],
                "unit": row["Unit"],
                "min": row["Min"],
                "max": row["Max"],
                "allowed": "|".join(map(str, ast.literal_eval(row["Allowed"]))) if row["Allowed"] else "",
            }
            for row in csv.DictReader(lines)
            if row["Type"] != "branch"
        }


def main() -> None:
    old = committed_rows()
    next_id = max((int(row["id"]) for row in old.values()), default=0) + 1
    rows = dict(old)
    for name, leaf in leaves(Path(sys.argv[1])).items():
        if name in old:
            rows[name] = {"id": old[name]["id"], **leaf}
        else:
            rows[name] = {"id": str(next_id), **leaf}
            next_id += 1
    with TARGET.open("w", encoding="utf-8", newline="") as out:
        out.write(HEAD)
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows.values(), key=lambda row: int(row["id"])))
    print(f"{len(rows)} signals, {len(rows) - len(old)} of them new")


if __name__ == "__main__":
    main()
