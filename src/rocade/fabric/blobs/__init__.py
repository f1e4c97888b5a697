"""Objects by name: bytes that are written once, read, listed and deleted; never changed.

Engines behind one interface: a local folder (the default), S3, Google Cloud, Azure, memory for tests; all through `obstore`, which
is Rust's object_store. An object is whole or absent, and on disk when `put` returns. Whoever stores what others may not read
seals it first: this room knows no keys.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol


class Blob(NamedTuple):
    name: str
    size_bytes: int


class Blobs(Protocol):
    async def put(self, name: str, body: bytes) -> None:
        """Store an object durably. The same name with the same bytes again changes nothing.

        Raises: Refused `blobs.name`; Unavailable `blobs.down`, `blobs.full`.
        """
        ...

    async def get(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """An object, or its bytes from `start` until before `end`.

        Raises: Refused `blobs.absent`, `blobs.name`; Unavailable `blobs.down`.
        """
        ...

    def list(self, prefix: str = "") -> AsyncIterator[Blob]:
        """Objects below a prefix of whole path segments ("" = all), in no order. Raises: Unavailable `blobs.down`."""
        ...

    async def delete(self, name: str) -> None:
        """Remove an object; one that is absent is no error. Raises: Unavailable `blobs.down`."""
        ...


def open_blobs(url: str) -> Blobs:
    """`file:///folder`, `s3://bucket/prefix`, `gs://`, `az://`, `memory:///`; credentials as the provider's own tools take them.

    Raises: Misconfigured `blobs.url`.
    """
    from rocade.fabric.blobs.store import StoredBlobs

    return StoredBlobs(url)
