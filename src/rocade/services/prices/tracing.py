"""Who leaked: the marks of every point of sale, drawn again, are looked for in a file that turned up where it should not be.

The file may be sorted, cut, in another form or another order of columns: each field and each word of it is compared, with its
signs between, its case and its leading zeros taken away. One mark alone says nothing (a mark of one holder may look like
another's or like a part that came later); a holder is named from `ENOUGH` on. Several named: the file was put together from
several leaks. What this cannot do: docs/prices.md, "A list that leaks".
"""

from __future__ import annotations

import asyncio
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

from rocade.services.prices import errors, store
from rocade.services.prices.acting import Acts
from rocade.services.prices.marks import MARKS, marks_of, plain, read_pattern

ENOUGH = 3
MEMBER_LIMIT_BYTES = 1 << 28
"""Of a zipped table (.xlsx, .ods, .zip) each member is read so far."""
_FIELDS = re.compile(r"[;,|\t\n\r<>\"{}\[\]]+")
_LONG = 200
_CHUNK = 1 << 22


class Suspect(msgspec.Struct, frozen=True):
    """A point of sale whose marks the file holds. `is_named`: enough of them for it to be no accident."""

    site: str
    marks: int
    is_named: bool


class Trace(msgspec.Struct, frozen=True):
    """`fields`: how many the file has; `share`: about which part of the leaked list it is, by the marks that stayed."""

    fields: int
    marks_each: int
    suspects: tuple[Suspect, ...]
    share: float

    @property
    def named(self) -> tuple[str, ...]:
        return tuple(one.site for one in self.suspects if one.is_named)


class Tracing(Acts):
    """The act of tracing."""

    async def who_leaked(self, list_id: str, file: Path, actor: str) -> Trace:
        """Whose list a file was made from. Raises: Refused `prices.list.unknown`, `prices.file.*`."""
        about = await self.find(list_id)
        content = await store.pattern(self.pool, about.number)
        if content is None:
            raise errors.list_unknown()
        pattern = read_pattern(content)
        holders = await store.every_holder(self.pool, about.number)

        def draw() -> dict[str, list[str]]:
            owners: dict[str, list[str]] = {}
            for site in holders:
                for mark in marks_of(self.signing, pattern, list_id, site):
                    owners.setdefault(mark.ref, []).append(site)
            return owners

        drawn = await asyncio.to_thread(draw)
        real = await store.parts_among(self.pool, about.number, list(drawn))

        def work() -> Trace:
            owners = {plain(ref): sites for ref, sites in drawn.items() if ref not in real}
            found, fields = set(), 0
            for text in _texts(file):
                for field in _FIELDS.split(text):
                    fields += 1
                    if len(field) <= _LONG:
                        for one in (field, *field.split()) if " " in field.strip() else (field,):
                            if (bare := plain(one)) in owners:
                                found.add(bare)
            return _judge(found, owners, fields)

        trace = await asyncio.to_thread(work)
        async with self.acting(actor, "prices.trace", f"list:{list_id}"):
            await self.record(
                "prices.trace", actor, f"list:{list_id}", named=" ".join(trace.named), fields=trace.fields
            )
        return trace


def _judge(found: set[str], owners: dict[str, list[str]], fields: int) -> Trace:
    counts = Counter(site for ref in found for site in owners[ref])
    most = max(counts.values(), default=0)
    suspects = tuple(
        Suspect(site, count, count >= ENOUGH and count * 4 >= most) for site, count in counts.most_common(20)
    )
    return Trace(fields, MARKS, suspects, most / MARKS)


def _texts(path: Path) -> Iterator[str]:
    """The file's text in pieces that end between lines; a zipped table's members one after the other."""
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as packed:
                for member in packed.infolist()[:1000]:
                    with packed.open(member) as file:
                        yield _decoded(file.read(MEMBER_LIMIT_BYTES))
        except (zipfile.BadZipFile, OSError, RuntimeError):
            raise errors.file("form") from None
        return
    with path.open("rb") as file:
        head = file.read(4)
        wide = head[:2] in (b"\xff\xfe", b"\xfe\xff")
        file.seek(0)
        if wide:
            yield _decoded(file.read())
            return
        while chunk := file.read(_CHUNK):
            yield _decoded(chunk + file.readline(_CHUNK))


def _decoded(content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")
