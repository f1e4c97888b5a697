"""The service units run under a real systemd: booted as process 1 of a container over this machine's own files.

Needs root and systemd-nspawn (Debian: systemd-container). Flow: an overlay over `/`, so that nothing of this machine
changes -> this Python and this source where a service may read them (`/opt`) -> boot, without the machine's network ->
`PROBE` does what docs/operate.md tells an operator to do, as the user `rocade` and as root, and writes down what came of it.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("systemd-nspawn") is None,
        reason="needs root and systemd-nspawn (Debian package systemd-container)",
    ),
]
PROBE_UNIT = """[Unit]
After=basic.target
[Service]
Type=oneshot
ExecStart=/bin/bash /opt/probe.sh
ExecStopPost=/bin/systemctl --no-block poweroff
"""
PROBE = """
say() { echo "$1=$2" >> /opt/found; }
try() { rocade=/opt/rocade/bin/rocade
  export ROCADE_CONFIG=/var/lib/rocade/region
  systemctl start rocade; say $1.start $?
  say $1.user $(stat -c %U /proc/$(systemctl show -P MainPID rocade))
  runuser -u $2 -- $rocade enroll --kind vehicle --id VF1AAAAA555111111 --brand renault --model Twizy --out /var/lib/rocade/car > /opt/enroll.$1 2>&1
  say $1.enroll $?
  runuser -u $2 -- $rocade vehicles --config $ROCADE_CONFIG > /opt/vehicles.$1 2>&1; say $1.vehicles $?
  runuser -u $2 -- $rocade status > /opt/status.$1 2>&1; say $1.status $?
  old=$(systemctl show -P MainPID rocade); [ "$old" -gt 1 ] && kill -9 $old; sleep 3
  for i in $(seq 60); do [ "$(systemctl is-active rocade)" = active ] && break; sleep 1; done
  say $1.again $([ "$(systemctl show -P MainPID rocade)" != "$old" ] && systemctl is-active rocade)
  began=$(date +%s); systemctl stop rocade; say $1.stop $?
  say $1.stop_s $(( $(date +%s) - began ))
  say $1.result $(systemctl show -P Result rocade)
  say $1.left "$(pgrep -f /opt/rocade/bin | wc -l)"
  journalctl -u rocade --no-pager > /opt/journal.$1
}
useradd --system --home-dir /var/lib/rocade rocade
install -d -m 700 -o rocade -g rocade /var/lib/rocade
runuser -u rocade -- /opt/rocade/bin/rocade init /var/lib/rocade/region --region eu > /opt/init 2>&1; say init $?
say exposure "$(systemd-analyze security --no-pager rocade | tail -1 | grep -oE '[0-9.]+ (OK|MEDIUM|EXPOSED|UNSAFE)')"
try user rocade
rm -rf /var/lib/rocade
install -d -m 700 /var/lib/rocade
/opt/rocade/bin/rocade init /var/lib/rocade/region --region eu > /opt/init.root 2>&1; say init.root $?
install -d /etc/systemd/system/rocade.service.d
cp /opt/root.conf /etc/systemd/system/rocade.service.d/root.conf
systemctl daemon-reload
try root root
"""


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, str]]:
    """What PROBE wrote down."""
    with tempfile.TemporaryDirectory(prefix="rocade-boot-") as directory:
        upper, root = Path(directory, "upper"), Path(directory, "root")
        for folder in (upper / "files", upper / "work", root):
            folder.mkdir(parents=True)
        options = f"lowerdir=/,upperdir={upper / 'files'},workdir={upper / 'work'}"
        if subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, root], check=False).returncode:
            pytest.skip("this machine lets nobody mount an overlay")
        try:
            furnish(root)
            boot = ["systemd-nspawn", "-q", "-D", str(root), "--register=no", "--keep-unit", "--private-network"]
            bind = f"--bind-ro={site.getsitepackages()[0]}:/opt/packages"
            subprocess.run(
                [*boot, bind, "-b", "systemd.unit=probe.service"], stdin=subprocess.DEVNULL, capture_output=True,
                timeout=500, check=False,
            )  # fmt: skip
            lines = (root / "opt/found").read_text().splitlines()
            for name in ("init", "enroll.user", "status.user", "journal.user", "journal.root"):
                print(f"--- {name}\n{(root / 'opt' / name).read_text()[-2500:]}")
            print("\n".join(lines))
            yield dict(line.split("=", 1) for line in lines)
        finally:
            subprocess.run(["umount", root], check=True)


def furnish(root: Path) -> None:
    """Interpreter, source and units, in places that a unit with ProtectHome may read."""
    opt = root / "opt"
    shutil.copytree(
        sys.base_prefix, opt / "python", symlinks=True, ignore=shutil.ignore_patterns("site-packages", "test")
    )
    shutil.copytree(ROOT / "src", opt / "source", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    (root / "etc/ld.so.conf.d/python.conf").write_text("/opt/python/lib\n")
    subprocess.run(["chroot", root, "ldconfig"], check=True)
    python = f"/opt/python/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    subprocess.run(["chroot", root, python, "-m", "venv", "--without-pip", "/opt/rocade"], check=True)
    packages = next((opt / "rocade/lib").glob("python*")) / "site-packages"
    (packages / "rocade.pth").write_text("/opt/source\n/opt/packages\n")
    program = opt / "rocade/bin/rocade"
    program.write_text("#!/opt/rocade/bin/python\nfrom rocade.app.cli import main\nmain()\n")
    program.chmod(0o755)
    (opt / "packages").mkdir()
    for unit in (ROOT / "deploy").glob("*.service"):
        shutil.copy(unit, root / "etc/systemd/system")
    shutil.copy(ROOT / "deploy/rocade.service.d/root.conf", opt / "root.conf")
    (root / "etc/systemd/system/probe.service").write_text(PROBE_UNIT)
    (opt / "probe.sh").write_text(PROBE)


@pytest.mark.parametrize("who", ["user", "root"])
def test_the_unit_starts_serves_survives_a_kill_and_stops_in_time(found: dict[str, str], who: str) -> None:
    told = {name.removeprefix(f"{who}."): value for name, value in found.items() if name.startswith(f"{who}.")}
    assert {told[step] for step in ("start", "enroll", "vehicles", "status", "stop")} == {"0"}
    assert told["user"] == ("rocade" if who == "user" else "root")
    assert (told["again"], told["result"], told["left"]) == ("active", "success", "0")
    assert int(told["stop_s"]) <= 12


def test_systemd_itself_finds_little_that_the_unit_leaves_open(found: dict[str, str]) -> None:
    assert float(found["exposure"].split()[0]) <= 3.0
