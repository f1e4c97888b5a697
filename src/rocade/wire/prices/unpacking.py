"""Bytes -> delta, one block at a time. Every count, order and text is checked before anybody sees a row.

Flow: magic and MessagePack -> numbers of the file (range, releases without a gap) -> each block: sizes, columns, order of
rows, instants, prices, texts. A block's memory is bounded by its row count (65,536), a file's by the caller's limit.
Refuses: Refused `prices.delta.*`, see `CODES`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import numpy as np

from rocade.core.errors import Refused
from rocade.core.prices import MAX_PRICE_MINOR, WITHDRAWN
from rocade.wire.prices.columns import read_planes, read_texts, unzigzag
from rocade.wire.prices.model import Delta, Descriptions, Entries, Ints, first_rows
from rocade.wire.prices.packing import MAGIC, MAX_BLOCK_ROWS, Block, File, prices_before

CODES = {
    "prices.delta.limits": "the file is larger than this reader takes, or names more parts, releases or rows",
    "prices.delta.malformed": "these bytes are no price delta",
    "prices.delta.releases": "the releases are not one after the other from the file's first number to its last",
    "prices.delta.compression": "a column is not one whole zstd frame",
    "prices.delta.size": "a column has another size than its rows ask for",
    "prices.delta.order": "rows are not in order, stand twice, or belong to no release of the file",
    "prices.delta.price": "a price or an instant is out of range",
    "prices.delta.text": "a text is empty where it must not be, too long, not UTF-8, or holds control characters",
}
MAX_INSTANT_US = 253_402_300_800_000_000
"""The year 10000."""
TEXT_LIMITS = {"ref": 64, "family": 64, "label": 240, "superseded_by": 64}
"""Characters."""
_LIST = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Limits(msgspec.Struct, frozen=True):
    """What a reader takes."""

    size_bytes: int = 256 << 20
    parts: int = 5_000_000
    releases: int = 100_000


ROOMY = Limits()


def unpack(content: bytes, previous: Ints, limits: Limits = ROOMY) -> Delta:
    """The whole delta at once; for long snapshots use `unpack_blocks`."""
    file, blocks = unpack_blocks(content, previous, limits)
    deltas = list(blocks)
    descriptions = Descriptions.joined([delta.descriptions for delta in deltas])
    entries = Entries.joined([delta.entries for delta in deltas])
    return Delta(file.list_id, file.from_seq, file.to_seq, file.releases, descriptions, entries)


def unpack_blocks(content: bytes, previous: Ints, limits: Limits = ROOMY) -> tuple[File, Iterator[Delta]]:
    """What the file says of itself, and its blocks: deltas over growing, separate ranges of parts.

    `previous` as in `pack`; it is read as each block is asked for. Raises: Refused as named above, the iterator too.
    """
    if len(content) > limits.size_bytes:
        raise _refused("limits")
    if not content.startswith(MAGIC):
        raise _refused("malformed")
    try:
        file = msgspec.msgpack.decode(memoryview(content)[len(MAGIC) :], type=File)
    except (msgspec.MsgspecError, ValueError):
        raise _refused("malformed") from None
    if not _LIST.fullmatch(file.list_id):
        raise _refused("malformed")
    if len(file.releases) > limits.releases or len(file.blocks) > limits.parts:
        raise _refused("limits")
    numbers = [release.seq for release in file.releases]
    if file.from_seq < 0 or not numbers or numbers != list(range(file.from_seq + 1, file.to_seq + 1)):
        raise _refused("releases")
    for release in file.releases:
        if not 0 <= release.effective_us < MAX_INSTANT_US:
            raise _refused("price")
        if not _CURRENCY.fullmatch(release.currency) or len(release.note) > 1000:
            raise _refused("text")
    return file, _blocks(file, previous, limits)


def _blocks(file: File, previous: Ints, limits: Limits) -> Iterator[Delta]:
    after = -1
    for packed in file.blocks:
        try:
            block = msgspec.msgpack.decode(packed, type=Block)
        except (msgspec.MsgspecError, ValueError):
            raise _refused("malformed") from None
        if min(block.descriptions, block.entries, block.withdrawn) < 0:
            raise _refused("malformed")
        if block.descriptions + block.entries > MAX_BLOCK_ROWS:
            raise _refused("limits")
        described = _descriptions(block, file)
        priced = _entries(block, file, previous)
        ends = [c[at] for c in (described.index, priced.index) if len(c) for at in (0, -1)]
        if not ends or min(ends) <= after:
            raise _refused("order")
        after = int(max(ends))
        if after >= limits.parts:
            raise _refused("limits")
        yield Delta(file.list_id, file.from_seq, file.to_seq, file.releases, described, priced)


def _descriptions(block: Block, file: File) -> Descriptions:
    count = block.descriptions
    many, size, folded = block.families
    if not 0 <= many <= count:
        raise _refused("size")
    index, seq = _places(block.part, block.part_seq, count, file)
    _check_order((index, seq))
    families = read_texts(size, folded, many)
    numbers = read_planes(block.family, count)
    if count and (numbers.min() < 0 or numbers.max() >= many):
        raise _refused("size")
    family = [families[number] for number in numbers.tolist()]
    refs, labels, replaced = (read_texts(*text, count) for text in (block.ref, block.label, block.superseded_by))
    described = Descriptions(index, seq, refs, family, labels, replaced)
    for name, limit in TEXT_LIMITS.items():
        texts = families if name == "family" else getattr(described, name)
        if max(map(len, texts), default=0) > limit or _CONTROL.search("".join(texts)):
            raise _refused("text")
    if not all(refs):
        raise _refused("text")
    return described


def _entries(block: Block, file: File, previous: Ints) -> Entries:
    count = block.entries
    index, seq = _places(block.index, block.seq, count, file)
    if len(block.instants) > count:
        raise _refused("size")
    if any(not 0 <= instant < MAX_INSTANT_US for instant in block.instants):
        raise _refused("price")
    codes = read_planes(block.instant, count)
    if count and (codes.min() < 0 or codes.max() > len(block.instants)):
        raise _refused("price")
    own = np.array([release.effective_us for release in file.releases], np.int64)
    instants = np.array([0, *block.instants], np.int64)
    valid_from = np.where(codes == 0, own[seq - file.from_seq - 1], instants[codes]) if count else codes
    _check_order((index, seq, valid_from))
    price = _prices(index, unzigzag(read_planes(block.price, count)), previous)
    if block.withdrawn:
        if block.withdrawn > count:
            raise _refused("size")
        at = np.cumsum(np.minimum(read_planes(block.withdrawn_at, block.withdrawn), count, dtype=np.int64))
        if at.min() < 0 or at[-1] >= count or (np.diff(at) <= 0).any() or price[at].any():
            raise _refused("price")
        price[at] = WITHDRAWN
    return Entries(index, seq, valid_from, price)


def _places(index: list[bytes], seq: list[bytes], count: int, file: File) -> tuple[Ints, Ints]:
    """Index and number of each row; gaps are bounded before they are summed."""
    gaps = read_planes(index, count)
    if count and (gaps.min() < 0 or gaps.max() > 1 << 40):
        raise _refused("limits")
    numbers = read_planes(seq, count)
    if count and (numbers.min() < 0 or numbers.max() >= file.to_seq - file.from_seq):
        raise _refused("order")
    return np.cumsum(gaps), numbers + (file.from_seq + 1)


def _check_order(columns: tuple[Ints, ...]) -> None:
    """Rows grow, compared column by column, none twice."""
    grows = np.zeros(max(len(columns[0]) - 1, 0), np.bool_)
    ties = ~grows
    for column in columns:
        step = np.diff(column)
        grows |= ties & (step > 0)
        ties &= step == 0
    if not grows.all():
        raise _refused("order")


def _prices(index: Ints, differences: Ints, previous: Ints) -> Ints:
    """Sums of the differences within each part."""
    if (np.abs(differences) > MAX_PRICE_MINOR).any() or (differences == WITHDRAWN).any():
        raise _refused("price")
    firsts = first_rows(index)
    sums = np.cumsum(differences)
    bases = prices_before(index[firsts], previous) - (sums[firsts] - differences[firsts])
    price: Ints = sums + np.repeat(bases, np.diff(np.r_[firsts, len(index)]))
    if len(price) and (price.min() < 0 or price.max() > MAX_PRICE_MINOR):
        raise _refused("price")
    return price


def _refused(what: str) -> Refused:
    return Refused(f"prices.delta.{what}", CODES[f"prices.delta.{what}"])
