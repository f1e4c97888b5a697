"""Make a region on disk: authority, the server's and the operator's identities, configuration.

All or nothing: it is built beside the target and moved into place. Nothing outside the directory is touched.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from rocade.app.configuration import Configuration, render
from rocade.app.custodies import create_custody
from rocade.core.errors import Misconfigured
from rocade.core.ports import Clock, Random, SystemClock, SystemRandom
from rocade.services import prices
from rocade.trust.authority.machines import create_wrapping
from rocade.trust.authority.region import create_region, issue_directory
from rocade.trust.identity.keys import read_private


def create(
    directory: Path,
    region: str,
    trust_domain: str,
    server_names: Sequence[str] = (),
    *,
    template: Configuration | None = None,
    clock: Clock | None = None,
    random: Random | None = None,
) -> None:
    """`template` carries settings that differ from the defaults.

    Raises: Misconfigured `app.init.exists`; Refused `trust.identity.malformed` for impossible names.
    """
    clock, random = clock or SystemClock(), random or SystemRandom()
    if directory.exists() and any(directory.iterdir()):
        raise Misconfigured("app.init.exists", f"{directory} is not empty; a region is never overwritten")
    building = directory.parent / f".{directory.name}.building"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(mode=0o700, parents=True)
    try:
        wanted = template or Configuration(region, trust_domain)
        names = tuple(dict.fromkeys((*server_names, *wanted.server_names)))
        configuration = msgspec.structs.replace(wanted, region=region, trust_domain=trust_domain, server_names=names)
        authority = create_region(building / "trust", region, trust_domain, clock, random)
        create_wrapping(building / "trust" / "tokens", random)
        create_custody(building, configuration)
        prices.create(building / "trust" / "prices", read_private(building / "trust" / "root" / "key.pem"), random)
        issue_directory(authority, building / "server", authority.identity("service", "server"), hosts=names)
        issue_directory(authority, building / "operator", authority.identity("operator", "first"))
        (building / "rocade.toml").write_text(render(configuration))
        if directory.exists():
            directory.rmdir()
        building.rename(directory)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
