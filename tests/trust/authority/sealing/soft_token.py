"""A token of SoftHSM in a folder of its own, and its holder who may cut access."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from rocade.trust.authority.sealing.pkcs11 import Pkcs11Custody

LIBRARIES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
)
PIN, HOLDERS_PIN = "482913", "90210017"
LABEL = "held elsewhere"
CONF = "SOFTHSM2_CONF"
HOLDER = """
import sys, pkcs11
token = pkcs11.lib(sys.argv[1]).get_token(token_label="held elsewhere")
with token.open(rw=True, so_pin=sys.argv[2]) as session:
    session.init_pin(sys.argv[3])
"""


class SoftToken:
    """What the holder has: the token's folder and the security officer's PIN."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.library = next(path for path in LIBRARIES if Path(path).exists())
        self.pin_file = place / "pin"

    @classmethod
    @contextlib.contextmanager
    def made(cls, place: Path) -> Iterator[SoftToken]:
        token = cls(place)
        (place / "tokens").mkdir(parents=True)
        (place / "softhsm2.conf").write_text(
            f"directories.tokendir = {place / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        token.write_pin(PIN)
        before = os.environ.get(CONF)
        os.environ[CONF] = str(place / "softhsm2.conf")
        try:
            subprocess.run(
                ["softhsm2-util", "--init-token", "--free", "--label", LABEL, "--pin", PIN, "--so-pin", HOLDERS_PIN],
                check=True,
                capture_output=True,
            )
            yield token
        finally:
            if before is None:
                del os.environ[CONF]
            else:
                os.environ[CONF] = before

    def custody(self, label: str) -> Pkcs11Custody:
        """As a process of the region sees it."""
        return Pkcs11Custody(self.library, LABEL, self.pin_file, label)

    def write_pin(self, pin: str) -> None:
        self.pin_file.write_text(f"{pin}\n")
        self.pin_file.chmod(0o600)

    def cut(self) -> None:
        """The holder gives the token another user PIN, without knowing the old one."""
        self._set_pin("7171717171")

    def allow(self) -> None:
        self._set_pin(PIN)
        self.write_pin(PIN)

    def _set_pin(self, pin: str) -> None:
        subprocess.run([sys.executable, "-c", HOLDER, self.library, HOLDERS_PIN, pin], check=True)

    def unplug(self) -> None:
        (self.place / "tokens").rename(self.place / "unplugged")

    def plug(self) -> None:
        (self.place / "unplugged").rename(self.place / "tokens")
