"""The encrypted disk on which the embedded engine keeps every part of every table.

Flow: `settings_file` writes the engine's storage configuration beside its directory, naming an environment variable where
the key would stand -> the engine reads it while `key_in_environment` holds -> all parts of all tables lie on the volume
`sealed` (AES-256 in counter mode, one random vector a file). The volume `clear` has no room for parts; those from before are
moved over by `move_past`. It stands first because the engine keeps its memory of insert tokens on the first one, and on an
encrypted disk does not write that to the file in time. Nothing may spill: what the engine writes to its temporary folder
does not pass the disk. The encrypted disk has no path of its own, or a part's folder could not be fsynced.
Refuses: a key that is not 32 bytes long, or another than the one of the first start (`history.key`): the engine would take
every part for damaged and put it aside. What it protects and what not: docs/sealing.md; found by trial,
docs/decisions/0055-sealed-road.md.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from rocade.core.errors import Misconfigured

if TYPE_CHECKING:
    from rocade.fabric.history.engine import Session

KEY_BYTES = 32
FOLDER = "sealed"
"""Where the encrypted files stand, below the history directory."""
_VARIABLE = "HISTORY_DISK_KEY"
_NO_ROOM = 1 << 62
NO_SPILL: Mapping[str, str | int] = {
    f"max_bytes_ratio_before_external_{what}": 0 for what in ("group_by", "sort", "distinct", "join")
}
"""A statement that needs more memory than there is ends with `history.busy`; it never writes what it holds in clear."""
_SETTINGS = """\
<clickhouse>
  <storage_configuration>
    <disks>
      <default><keep_free_space_bytes>{no_room}</keep_free_space_bytes></default>
      <plain><type>local</type><path>{folder}/</path></plain>
      <sealed>
        <type>encrypted</type><disk>plain</disk><algorithm>AES_256_CTR</algorithm>
        <key_hex id="1" from_env="{variable}"/><current_key_id>1</current_key_id>
      </sealed>
    </disks>
    <policies>
      <sealed>
        <volumes><clear><disk>default</disk></clear><sealed><disk>sealed</disk></sealed></volumes>
        <move_factor>0</move_factor>
      </sealed>
    </policies>
  </storage_configuration>
  <merge_tree><storage_policy>sealed</storage_policy></merge_tree>
</clickhouse>
"""


def settings_file(directory: Path) -> Path:
    """Write the storage configuration of the engine in `directory`; it holds no secret."""
    folder = directory.resolve() / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    file = directory.resolve() / "engine.xml"
    file.write_text(_SETTINGS.format(no_room=_NO_ROOM, folder=escape(str(folder)), variable=_VARIABLE))
    return file


def check_key(directory: Path, key: bytes) -> None:
    """Compare with the key this history began with, by a digest that stands beside it.

    Raises: Misconfigured `history.key`.
    """
    if len(key) != KEY_BYTES:
        raise Misconfigured("history.key", f"the history's key must be {KEY_BYTES} bytes; it comes from the keyring")
    file, digest = directory / "key.digest", hmac.digest(key, b"rocade history", "sha256").hex()
    if not file.exists():
        file.write_text(digest)
    elif file.read_bytes() != digest.encode():
        raise Misconfigured(
            "history.key", "this history was sealed with another key; give it the keyring and custody it belongs to"
        )


@contextmanager
def key_in_environment(key: bytes) -> Iterator[None]:
    """Let the engine find the key while it starts. Set inside the process, so /proc/PID/environ does not show it."""
    os.environ[_VARIABLE] = key.hex()
    try:
        yield
    finally:
        del os.environ[_VARIABLE]


def move_past(session: Session) -> int:
    """Move what lies in clear to the encrypted disk, a partition at a time; how many partitions that were."""
    asked = (
        "SELECT DISTINCT database, table, partition_id FROM system.parts WHERE active AND disk_name = 'default'"
        " AND database NOT IN ('system', 'INFORMATION_SCHEMA', 'information_schema')"
    )
    found = [line.split("\t") for line in bytes(session.run(asked, "TabSeparated", {})).decode().splitlines()]
    for database, table, partition in found:
        session.run(
            f"ALTER TABLE `{database}`.`{table}` MOVE PARTITION ID '{partition}' TO VOLUME 'sealed'", "Null", {}
        )
    return len(found)
