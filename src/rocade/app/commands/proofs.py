"""`rocade verify`: what a proof file proves, checked without anybody."""

from __future__ import annotations

from pathlib import Path

import click

from rocade.app.commands import example


@click.command(
    epilog=example("verify price.proof.json --key trust.pem", "verify receipt.proof.json --key hub-public.pem")
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--key",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM of a public key or certificate: the signer's, or the region's root.",
)
def verify(file: Path, key: Path) -> None:
    """Check a proof FILE of a price, a receipt or an audit entry, without the hub and without a network.

    What is proven is printed, and the exit code is 0; a file that does not prove it is refused with its reason and exit code 1.
    """
    from rocade.trust.identity import proof

    for sentence in proof.verify(file.read_bytes(), proof.read_trust(key.read_bytes())):
        click.echo(sentence)


COMMANDS = (verify,)
