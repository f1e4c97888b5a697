"""`rocade verify`, and the proofs of `rocade audit`: what a file proves, how a proof, a head and a witness are had, how kept heads are mended."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from rocade.app.client import ApiClient
from rocade.app.commands import Load, config_option, example
from rocade.app.commands.data import audit
from rocade.core.ports import SystemClock

_pem = click.Path(exists=True, dir_okay=False, path_type=Path)
_out = click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")


@click.command(
    epilog=example(
        "verify price.proof.json --key trust.pem",
        "verify entry.proof.json --key trust.pem --witness witness.pem",
    )
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--key", required=True, type=_pem, help="PEM of a public key or certificate: the signer's, or the region's root."
)
@click.option(
    "--witness", "witnesses", multiple=True, type=_pem, help="PEM of a witness who must have signed the head too."
)
def verify(file: Path, key: Path, witnesses: tuple[Path, ...]) -> None:
    """Check a proof FILE of a price, a receipt, an audit entry, an erasure, a log's growth or a fork, without a network.

    What is proven is printed, and the exit code is 0; a file that does not prove it is refused with its reason and exit code 1.
    """
    from rocade.trust.identity import proof

    trust, others = proof.read_trust(key.read_bytes()), [proof.read_key(one.read_bytes()) for one in witnesses]
    for sentence in proof.verify(file.read_bytes(), trust, witnesses=others, now_us=SystemClock().now_us()):
        click.echo(sentence)


@audit.command("mend", epilog=example("audit mend --config ./eu"))
@config_option
@click.pass_obj
def audit_mend(load: Load, config: Path | None) -> None:
    """Write the heads kept beside the audit key anew where `rocade audit verify` said `audit.heads`; on the region's machine.

    The whole log is proven first, and nothing is done if anything else in it does not hold. The act is recorded, and the
    damaged file stays beside the new one.
    """
    from rocade.app import mending

    aside = mending.mend_heads(load(config))
    click.echo(
        f"written anew; what was damaged is in {aside}" if aside else "the kept heads are whole, nothing was done"
    )


@audit.command("head", epilog=example("audit head --config ./eu", "audit head --size 41200 --out head.json"))
@click.option("--size", type=click.IntRange(1), help="The head over so many entries; default the newest.")
@_out
@config_option
@click.pass_obj
def audit_head(load: Load, size: int | None, out: Path | None, config: Path | None) -> None:
    """The signed tree head of the audit log, as published, with what witnesses signed of it."""
    _give(load, config, out, "/proofs/head", size=size)


@audit.command("prove", epilog=example("audit prove 17 --out entry.proof.json", "audit prove 4211 --erasure"))
@click.argument("position", type=click.IntRange(0))
@click.option("--erasure", is_flag=True, help="A certificate of erasure: the entry is that of a completed one.")
@_out
@config_option
@click.pass_obj
def audit_prove(load: Load, position: int, out: Path | None, config: Path | None, *, erasure: bool) -> None:
    """A proof file for the entry at POSITION (`rocade audit tail` shows them), for `rocade verify` and the page /verify."""
    _give(load, config, out, f"/v1/audit/{position}/proof", what="erasure" if erasure else None)


@audit.command(
    "consistency", epilog=example("audit consistency 41200", "audit consistency 41200 52000 --out grown.json")
)
@click.argument("old", type=click.IntRange(1))
@click.argument("new", type=click.IntRange(1), required=False)
@_out
@config_option
@click.pass_obj
def audit_consistency(load: Load, old: int, new: int | None, out: Path | None, config: Path | None) -> None:
    """A proof file: the entries under the head over OLD entries are the first of those under the head over NEW (or the newest)."""
    _give(load, config, out, "/proofs/consistency", **{"from": old, "to": new})


@audit.command(
    "witness",
    epilog=example(
        "audit witness https://road.example.org --into ./witness --root trust.pem",
        "audit witness https://road.example.org:8443 --into ./witness --identity ./dealer --once",
    ),
)
@click.argument("url")
@click.option(
    "--into",
    "directory",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Kept here: key, heads, refusals.",
)
@click.option(
    "--root",
    type=_pem,
    help="The region's root certificate, had from elsewhere than URL; default trust.pem of --identity.",
)
@click.option(
    "--identity",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Ask over mutual TLS as this party.",
)
@click.option("--every", "every_s", default=60.0, show_default=True, help="Seconds between two looks.")
@click.option("--once", is_flag=True, help="Look once; exit code 1 if anything is refused.")
@click.option("--compare", is_flag=True, help="Read all leaf hashes each time and name an entry that changed.")
def audit_witness(
    url: str, directory: Path, root: Path | None, identity: Path | None, every_s: float, *, once: bool, compare: bool
) -> None:  # fmt: skip
    """Watch the audit log of the region at URL from a machine that is not the region's: keep its heads, sign those that follow.

    Needs no database and no right in the region. Give DIR/witness.pem to the region's operator (who puts it into
    trust/audit/witnesses) and to whoever shall demand your signature with `rocade verify --witness`.
    """
    import asyncio

    from rocade.app import witnessing

    try:
        found = asyncio.run(
            witnessing.watch(
                url, directory, root, identity, every_s=None if once else every_s, compare=compare, say=click.echo
            )
        )
    except KeyboardInterrupt:
        found = True
    sys.exit(0 if found else 1)


def _give(load: Load, config: Path | None, out: Path | None, path: str, **asked: int | str | None) -> None:
    with ApiClient(load(config)) as api:
        content = b"".join(api.stream(path, **asked))
    if out is None:
        click.echo(content.decode())
        return
    out.write_bytes(content)
    click.echo(f"{len(content):,} bytes in {out}", err=True)


COMMANDS = (verify,)
