"""Every TLS listener of a running region, scanned by testssl.sh and sslyze: nothing above "info" but what is justified here."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from listening import LOOPBACK, NAMES, listening

from rocade.core.ports import SystemClock, SystemRandom
from rocade.trust.authority import Region

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = "rocade.test"
JUSTIFIED = {
    "cert_expirationStatus": "certificates of services live seven days and renew themselves; a short life is the point",
    "cert_notAfter": "as cert_expirationStatus",
    "cert_revocation": "revocation is a pushed list of denied serials, known in every process within seconds; docs/trust.md",
    "DNS_CAArecord": "scanned by address: there is no name to ask for",
    "service": "what does not speak HTTP is not asked HTTP questions",
    "HTTP_status_code": "a listener that is for machines answers a browser's question with a refusal",
}
FOR_MACHINES = {
    "HSTS": "no browser comes here: EST and stations",
    "optimal_proto": "a door that asks for a certificate closes on who has none; its versions are probed packet by packet",
}
"""Besides, at listeners no browser comes to."""
BROWSERS_COME = "pages"
CLIENTS = {"operator": "scanner", "vehicle": "VR3UPHNKSKT101604", "dealer": "dealer-7"}
KINDS = {"mqtt": "vehicle", "exchange": "dealer", "relay": "dealer", "api": "operator"}
"""Whose certificate a listener asks for."""


@pytest.mark.slow
@pytest.mark.timeout(3000)
async def test_no_listener_has_a_finding(tmp_path: Path) -> None:
    sslyze = await _out_of([str(ROOT / "tools/sslyze.sh")])
    async with listening(tmp_path) as ports:
        trusted = [tmp_path / "region/trust/trust.pem", tmp_path / "public-root.pem"]
        _make_client(tmp_path)
        places = asyncio.Semaphore(3)

        async def scan(name: str) -> None:
            async with places:
                found = await _testssl(tmp_path, name, ports[name], trusted)
                allowed = JUSTIFIED if name == BROWSERS_COME else JUSTIFIED | FOR_MACHINES
                wrong = [one for one in found if one["severity"] not in {"OK", "INFO"} and one["id"] not in allowed]
                assert not wrong, (name, [(one["severity"], one["id"], one["finding"]) for one in wrong])
                assert {"TLS1_3", "heartbleed", "ROBOT"} <= {one["id"] for one in found}, (
                    f"{name} was not really scanned"
                )
                _judge(name, await _sslyze(sslyze.strip(), tmp_path, name, ports[name]))
                print(name, len(found), "checks of testssl.sh, and sslyze's")

        said = await asyncio.gather(*(scan(name) for name in NAMES), return_exceptions=True)
        assert said == [None] * len(NAMES), [str(one)[:300] for one in said]


def _make_client(directory: Path) -> None:
    """Doors that ask for a certificate close on who has none before the scanner has asked its questions."""
    region = Region(directory / "region/trust", SystemClock(), SystemRandom())
    for kind, party in CLIENTS.items():
        region.credential(region.identity(kind, party)).write(directory / kind)


async def _testssl(directory: Path, name: str, port: int, trusted: list[Path]) -> list[dict[str, Any]]:
    report = directory / f"testssl-{name}.json"
    report.unlink(missing_ok=True)  # it writes over nothing
    target = ["--ip", LOOPBACK, f"{PUBLIC}:{port}"] if name == BROWSERS_COME else [f"{LOOPBACK}:{port}"]
    command = [
        "testssl", "--quiet", "--color", "0", "--warnings", "off",
        "--add-ca", ",".join(map(str, trusted)), "--jsonfile", str(report), "-p", "-s", "-f", "-S", "-U", "-h", *target,
    ]  # fmt: skip
    await _out_of(command, fails=True)  # its exit code is how many findings there are, justified or not
    found: list[dict[str, Any]] = json.loads(report.read_text("utf-8"))
    return found


async def _sslyze(program: str, directory: Path, name: str, port: int) -> dict[str, Any]:
    report = directory / f"sslyze-{name}.json"
    identity = directory / KINDS[name] if name in KINDS else None
    proof = ["--cert", str(identity / "certificate.pem"), "--key", str(identity / "key.pem")] if identity else []
    await _out_of([program, "--json_out", str(report), *proof, f"{LOOPBACK}:{port}"], fails=True)
    (scan,) = json.loads(report.read_text("utf-8"))["server_scan_results"]
    found: dict[str, Any] = scan
    return found


def _judge(name: str, scan: dict[str, Any]) -> None:
    """Versions, compression, renegotiation and the known attacks, as sslyze sees them."""
    assert scan["connectivity_status"] == "COMPLETED", (name, str(scan["connectivity_error_trace"])[-300:])
    results = {what: one["result"] for what, one in scan["scan_result"].items() if one.get("result")}
    for version in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2"):
        suites = results.get(
            f"{version}_cipher_suites"
        )  # with a client certificate sslyze cannot speak SSL 2; testssl.sh does
        if (name, version) == ("ocpp", "tls_1_2") and suites:  # OCPP's security profiles demand it of a back end
            names = [one["cipher_suite"]["name"] for one in suites["accepted_cipher_suites"]]
            assert all("_ECDHE_" in one and ("_GCM_" in one or "_CHACHA20_" in one) for one in names), names
        else:
            assert not suites["accepted_cipher_suites"] if suites else version == "ssl_2_0", (name, version)
    assert results["tls_1_3_cipher_suites"]["accepted_cipher_suites"], name
    assert not results["heartbleed"]["is_vulnerable_to_heartbleed"], name
    assert not results["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"], name
    assert not results["tls_compression"]["supports_compression"], name
    assert not results["session_renegotiation"]["is_vulnerable_to_client_renegotiation_dos"], name
    assert results["robot"]["robot_result"].startswith("NOT_VULNERABLE"), name


async def _out_of(command: list[str], *, fails: bool = False) -> str:
    """The region runs in this loop: a scan must not hold it up."""
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    said, _ = await process.communicate()
    assert fails or process.returncode == 0, (command, process.returncode)
    return said.decode()
