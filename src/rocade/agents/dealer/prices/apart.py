"""A whole list taken in by a process of its own, which gives everything back to the machine when it ends.

A first load, or a repair, passes half a million rows through memory; the agent that serves the dealer's people should not stay as
large as that made it. Flow: the files are fetched by the agent -> a child applies them to the same store, in the one transaction it
always is -> the agent reads the list as at a start. Whatever goes wrong in the child, the agent does the work itself and says what is
wrong: nothing was half applied. Run as a module, this is the child. Figures: docs/decisions/0044-dealer-agent.md.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from rocade.agents.dealer.prices.model import Fetch
from rocade.core.errors import Refused, RocadeError
from rocade.trust.identity.keys import PublicKey
from rocade.wire.prices import Blob

LONGEST_S = 600.0


class _Order(msgspec.Struct, frozen=True):
    store: str
    root_pem: bytes
    envelope: bytes
    files: str
    anew: bool


def apply_apart(
    store: Path, root: PublicKey, envelope: bytes, blobs: Iterable[Blob], fetch: Fetch, *, anew: bool
) -> int:
    """Let a child follow this head with these files; their bytes, 0 if it could not. Raises: what `fetch` raises."""
    size_bytes = 0
    with tempfile.TemporaryDirectory(prefix="loading-", dir=store.parent) as folder:
        for blob in blobs:
            size_bytes += (Path(folder) / blob.sha256).write_bytes(fetch(blob.sha256))
        pem = root.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        order = msgspec.json.encode(_Order(str(store), pem, envelope, folder, anew))
        try:
            subprocess.run([sys.executable, "-m", __name__], input=order, timeout=LONGEST_S, check=True)
        except (OSError, subprocess.SubprocessError):
            return 0
    return size_bytes


def _main() -> int:
    from rocade.agents.dealer.prices.price_store import PriceStore

    order = msgspec.json.decode(sys.stdin.buffer.read(), type=_Order)
    root = load_pem_public_key(order.root_pem)
    assert isinstance(root, ec.EllipticCurvePublicKey)

    def fetch(name: str) -> bytes:
        try:
            return (Path(order.files) / name).read_bytes()
        except FileNotFoundError:
            raise Refused("prices.blob.swapped", "another file is needed than was planned") from None

    store = PriceStore(Path(order.store), lambda: root)
    try:
        store.apply(order.envelope, fetch, anew=order.anew)
    except RocadeError as error:
        print(f"{error.code}: {error.message}", file=sys.stderr)
        return 1
    finally:
        store.close()
    return 0


if __name__ == "__main__":
    sys.exit(_main())
