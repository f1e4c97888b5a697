"""Write build/sbom.cdx.json: what a Rocade installation is made of, as a CycloneDX document, checked against its schema.

    make sbom           (.venv/bin/python tools/sbom.py [--output FILE])

Flow: packages of the demo's lock (requirements/demo.txt) and the browser libraries of package-lock.json -> components with versions, hashes and
package URLs -> the two OpenSSLs, which no lock names: the one inside the `cryptography` wheel and the one the interpreter's `ssl` uses;
both are in one process and both have to be watched -> validated -> file.
Refuses: a document that its schema does not allow.
"""

from __future__ import annotations

import argparse
import json
import re
import ssl
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from cryptography.hazmat.backends.openssl import backend
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

ROOT = Path(__file__).resolve().parents[1]
LOCK, BROWSER_LOCK = ROOT / "requirements/demo.txt", ROOT / "package-lock.json"
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)((?:\s*\\\n\s+--hash=sha256:[0-9a-f]{64})+)", re.MULTILINE)
_VERSION = re.compile(r"OpenSSL (\S+)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "build/sbom.cdx.json")
    options = parser.parse_args()
    document = compose()
    if problem := JsonStrictValidator(SchemaVersion.V1_6).validate_str(document):
        print(f"the document is not valid: {problem}", file=sys.stderr)
        return 1
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(document, "utf-8")
    print(f"{options.output}: {len(json.loads(document)['components'])} components, valid CycloneDX 1.6")
    return 0


def compose() -> str:
    """The document as JSON."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    bom = Bom()
    bom.metadata.component = Component(
        name=project["name"], version=project["version"], type=ComponentType.APPLICATION, bom_ref="rocade"
    )
    for component in (*python_packages(), *browser_libraries(), *openssls()):
        bom.components.add(component)
    bom.register_dependency(bom.metadata.component, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=1)


def python_packages() -> list[Component]:
    """What `make demo` installs, by its lock."""
    found = []
    for name, version, hashes in _PIN.findall(LOCK.read_text("utf-8")):
        component = Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            purl=PackageURL("pypi", None, name.lower(), version),
            bom_ref=f"pypi:{name.lower()}@{version}",
        )
        if licence := _licence_of(name):
            component.licenses.add(DisjunctiveLicense(name=licence))
        files = re.findall(r"sha256:([0-9a-f]{64})", hashes)
        if len(files) == 1:
            component.hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=files[0]))
        else:  # one of many files of the release is installed, by platform
            component.properties.add(Property(name="rocade:locked-files", value=str(len(files))))
        found.append(component)
    return found


def browser_libraries() -> list[Component]:
    """What the pages load, by package-lock.json."""
    packages = json.loads(BROWSER_LOCK.read_text("utf-8"))["packages"]
    return [
        Component(
            name=path.removeprefix("node_modules/"),
            version=facts["version"],
            type=ComponentType.LIBRARY,
            purl=PackageURL("npm", None, path.rpartition("node_modules/")[2], facts["version"]),
            bom_ref=f"npm:{path}@{facts['version']}",
        )
        for path, facts in packages.items()
        if path and not facts.get("dev")
    ]


def openssls() -> list[Component]:
    """The two that one process holds."""
    places = {
        "in the wheel of cryptography": backend.openssl_version_text(),
        "of the interpreter's ssl": ssl.OPENSSL_VERSION,
    }
    return [
        Component(
            name="openssl",
            version=_VERSION.match(text)[1] if _VERSION.match(text) else text,  # type: ignore[index]  # matched on the same line
            type=ComponentType.LIBRARY,
            description=f"{place}: {text}",
            purl=PackageURL("generic", None, "openssl", _VERSION.match(text)[1]) if _VERSION.match(text) else None,  # type: ignore[index]
            bom_ref=f"openssl:{place.replace(' ', '-')}",
        )
        for place, text in places.items()
    ]


def _licence_of(name: str) -> str:
    try:
        facts = metadata(name)
    except PackageNotFoundError:
        return ""
    text = facts.get("License-Expression") or facts.get("License") or ""
    return text.splitlines()[0][:100] if text.strip() else ""


if __name__ == "__main__":
    sys.exit(main())
