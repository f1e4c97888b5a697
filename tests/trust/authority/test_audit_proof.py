"""An entry of the audit log is proven to somebody who has the region's root certificate and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocade.core.errors import Refused
from rocade.core.ports import AuditEntry, SystemClock, SystemRandom
from rocade.fabric.database import Database
from rocade.trust.authority.audit import AuditLog
from rocade.trust.authority.proving import prove_entry
from rocade.trust.authority.region import create_region
from rocade.trust.identity import proof
from rocade.trust.identity.directory import load_root
from rocade.trust.identity.keys import new_key


async def test_an_entry_is_proven_and_a_changed_log_proves_nothing(database: Database, tmp_path: Path) -> None:
    create_region(tmp_path / "trust", "eu", "rocade.test", SystemClock(), SystemRandom())
    directory, root = tmp_path / "trust/audit", load_root(tmp_path / "trust/trust.pem")
    log = AuditLog(database, directory, SystemClock())
    for number in range(7):
        await log.record(AuditEntry(number, "peer:127.0.0.1", "test.act", f"certificate:{number:x}"))
    await log.close()  # signs a head over all
    for position in (0, 3, 6):
        made = await prove_entry(database, directory, root, position)
        said = proof.verify(made, root)
        assert f"number {position} of the 7" in said[0]
        assert f"certificate:{position:x}" in said[1]
        with pytest.raises(Refused):
            proof.verify(made, new_key().public_key())
        with pytest.raises(Refused):
            proof.verify(made.replace(b'"position": %d' % position, b'"position": 5'), root)
    for position in (-1, 7):
        with pytest.raises(Refused) as caught:
            await prove_entry(database, directory, root, position)
        assert caught.value.code == "audit.entry.unknown"
    await database.pool.execute("UPDATE audit_entry SET body = body || ' ' WHERE position = 2")
    with pytest.raises(Refused) as caught:
        await prove_entry(database, directory, root, 3)
    assert caught.value.code == "proof.path"
