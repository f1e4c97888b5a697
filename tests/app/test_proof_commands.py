"""Proofs as people get and check them: `rocade audit head`, `prove`, `consistency`, `witness` and `rocade verify`, on a running region."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner
from tests.app.stand import Region

from rocade.app.cli import main


def rocade(*arguments: str | Path, code: int = 0, says: str = "", at: Region | None = None) -> str:
    """Run one command in this process; its standard output."""
    environment = {"ROCADE_CONFIG": str(at.directory) if at else None}
    done = CliRunner().invoke(main, [*map(str, arguments)], env=environment)
    assert done.exit_code == code, f"rocade {arguments} ended with {done.exit_code}: {done.output} {done.exception!r}"
    assert says in done.stderr, done.stderr
    return done.stdout


def test_an_entry_is_proven_to_who_has_the_root_certificate_and_demands_a_witness(
    region: Region, tmp_path: Path
) -> None:
    trust, pages = region.directory / "trust/trust.pem", f"http://localhost:{region.configuration.http.pages_port}"
    directory, proof = tmp_path / "witness", tmp_path / "entry.json"
    watch = ["audit", "witness", pages, "--into", directory, "--root", trust, "--once", "--compare"]
    assert "[witness.denied]" in rocade(*watch, code=1)  # nobody told the region of this witness yet
    known = region.directory / "trust/audit/witnesses"
    known.mkdir()
    (known / "dealer.pem").write_bytes((directory / "witness.pem").read_bytes())
    assert "seen and signed" in rocade(*watch)

    head = json.loads(rocade("audit", "head", at=region))
    seen = (directory / "seen").read_text().splitlines()
    assert len(head["cosignatures"]) <= 1
    assert json.loads(seen[-1])["signatures"][0]["keyid"] == head["head"]["signatures"][0]["keyid"]
    position = json.loads(rocade("audit", "tail", "-n", "1", at=region).splitlines()[0])["position"]
    rocade("audit", "prove", "0", "--out", proof, at=region)
    said = rocade("verify", proof, "--key", trust, "--witness", directory / "witness.pem")
    assert "This audit entry is number 0 of the" in said
    assert "saw this head" in said
    rocade("verify", proof, "--key", trust, "--witness", directory / "key.pem", code=1, says="[proof.key]")
    rocade("verify", proof, "--key", directory / "witness.pem", code=1, says="[proof.signer]")
    rocade("audit", "prove", "0", "--erasure", code=1, says="[proof.erasure]", at=region)
    rocade("audit", "prove", str(position + 10**6), code=1, says="[audit.entry.unknown]", at=region)


def test_growth_is_proven_between_two_signed_heads(region: Region, tmp_path: Path) -> None:
    trust, grown = region.directory / "trust/trust.pem", tmp_path / "grown.json"
    rocade("audit", "consistency", "1000000000", code=1, says="[audit.head.unknown]", at=region)
    rocade("audit", "head", "--out", tmp_path / "head.json", says="bytes in", at=region)
    with region.api() as api:
        newest = api.get("/v1/audit/verify")["signed"]
    rocade("audit", "consistency", str(newest), "--out", grown, at=region)
    assert f"all {newest} entries of the older head" in rocade("verify", grown, "--key", trust)


def test_a_witness_is_told_whom_to_believe_and_says_when_nobody_answers(region: Region, tmp_path: Path) -> None:
    rocade("audit", "witness", "http://localhost:9", "--into", tmp_path / "w", code=1, says="[witness.root]")
    trust = region.directory / "trust/trust.pem"
    said = rocade("audit", "witness", "http://localhost:9", "--into", tmp_path / "w", "--root", trust, "--once", code=1)
    assert "[witness.unreachable]" in said
    asking = [
        "audit",
        "witness",
        f"https://localhost:{region.configuration.http.api_port}",
        "--into",
        tmp_path / "y",
        "--once",
    ]
    said = rocade(
        *asking, "--identity", region.configuration.operator, code=1
    )  # over mutual TLS, its root the identity's
    assert "[witness.denied]" in said, "the head was good, but nobody told the region of this witness"
    foreign = tmp_path / "foreign"
    rocade("init", foreign, "--region", "cn")
    pages = f"http://localhost:{region.configuration.http.pages_port}"
    watch = ["audit", "witness", pages, "--into", tmp_path / "x", "--root", foreign / "trust/trust.pem", "--once"]
    assert "[witness.head.signer]" in rocade(*watch, code=1)
