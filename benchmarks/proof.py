"""What is sealed, forgotten, given away and proven, measured; each part by its own file, one record of all.

    python -m benchmarks --only proof [--full]          quick, or at the size the goals are stated for
    python benchmarks/proof.py --parts seal,audit       some parts

Parts run one after the other in processes of their own, with nothing else beside them. Each says its rows as JSON; together they
are build/bench/proof.json with the conditions they were taken under.
"""

from __future__ import annotations

import sys

import parts

PARTS = {
    "keys": "proof_keys",
    "seal": "proof_seal",
    "erase": "proof_erase",
    "audit": "proof_audit",
    "backup": "proof_backup",
    "feeds": "proof_feeds",
    "simulation": "proof_simulation",
}
LIBRARIES = ("numpy", "pyarrow", "chdb", "asyncpg", "cryptography", "obstore", "python-pkcs11", "msgspec", "uvloop")
if __name__ == "__main__":
    sys.exit(parts.main(__file__, __doc__ or "", PARTS, LIBRARIES))
