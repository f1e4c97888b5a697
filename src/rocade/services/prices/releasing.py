"""Releasing a draft: files first, then one transaction that everybody sees whole or not at all.

Flow: the draft's delta is applied to the list in memory -> its files are sealed and on disk -> one transaction under the
list's lock: still the number the draft was made for, entries and descriptions by COPY, epoch, files, head, audit, NOTIFY.
A crash before the commit leaves files that nothing names; after it, everything. Two releases at once: the second is refused.
Refuses: `prices.draft.*` (unknown, invalid lines, nothing to do, outrun by another release, warnings not accepted), a full disk (`prices.disk`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from hashlib import sha256

from rocade.core.errors import Corrupt, Refused
from rocade.services.prices import errors, store
from rocade.services.prices.drafting import Drafting
from rocade.services.prices.epochs import Epochs, payload_of
from rocade.services.prices.fanout import FOREVER_US, Made, Past
from rocade.services.prices.marks import pattern_of, write_pattern
from rocade.services.prices.model import Draft, PriceList, Released
from rocade.services.prices.state import State
from rocade.wire.prices import Delta, unpack


class Releasing(Drafting, Epochs):
    """The act of releasing."""

    async def release(self, list_id: str, draft_id: str, actor: str, accept: Collection[str] = ()) -> Released:
        """Put a draft on the road. `accept` names what of the report's `needs` is accepted.

        Raises: Refused `prices.draft.*`, `prices.list.unknown`.
        """
        async with self.working(list_id):
            about = await self.find(list_id)
            try:
                draft = await self.find_draft(list_id, draft_id)
                _check(draft, about, accept)
                delta = await self._delta(draft, about)
            except Refused as refusal:
                self.note_refusal(actor, "prices.release", f"list:{list_id}", refusal)
                raise
            before = await self.states.at(about)
            epoch, salt, is_new = await self.epoch_for_release(about)
            past = await self._past(about)
            now_us = self.clock.now_us()
            key = self.signing.epoch_key(list_id, epoch, salt)

            def work() -> tuple[State, Made]:
                state = before.applied(delta)
                try:
                    return state, self.press.make(about, state, past, key, epoch, now_us)
                except OSError as error:
                    raise errors.disk(error.strerror or type(error).__name__) from error

            state, made = await asyncio.to_thread(work)
            row = store.Row(
                about.number, state.seq, made.head.effective_us, draft.note, now_us, actor, draft.id, draft.report.changes,
                state.tree.root, made.signed, made.signed_sha256,
            )  # fmt: skip
            async with self.acting(actor, "prices.release", f"list:{list_id}") as connection:
                if await store.lock_list(connection, about.number) != about.seq:
                    raise errors.draft_stale()
                if is_new:
                    await self._begin(connection, about, epoch, salt, "left" if about.epoch else "first")
                await store.add_release(connection, row, delta, before.parts, state.parts, epoch)
                await store.add_blobs(connection, about.number, made.blobs, now_us)
                await store.set_pattern(
                    connection, about.number, write_pattern(pattern_of(state, self.signing.draw(list_id)))
                )
                await store.drop_draft(connection, draft.id)
                await self.record(
                    "prices.release", actor, f"list:{list_id}", seq=state.seq, draft=draft.id,
                    file=draft.report.file_sha256, effective_us=row.effective_us, changes=row.changes, epoch=epoch,
                    head=row.head_sha256, accepted=" ".join(sorted({*accept} & {*draft.report.needs})),
                )  # fmt: skip
                await store.tell(connection)
            await self.states.keep(state)
            self.draft_path(draft.id).unlink(missing_ok=True)
        return Released(row.seq, row.effective_us, row.note, now_us, actor, row.changes, row.head_sha256)

    async def _delta(self, draft: Draft, about: PriceList) -> Delta:
        """What the draft came to. Raises: Refused `prices.draft.unknown`; Corrupt `prices.draft.corrupt`."""
        state = await self.states.at(about)
        try:
            kept = await asyncio.to_thread(self.draft_path(draft.id).read_bytes)
        except FileNotFoundError:
            raise errors.draft_unknown() from None
        digest, packed = kept[: sha256().digest_size], kept[sha256().digest_size :]
        if sha256(packed).digest() != digest:
            raise Corrupt(
                "prices.draft.corrupt", f"the kept delta of draft {draft.id} is damaged; hand the file in again"
            )
        return await asyncio.to_thread(unpack, packed, state.prices_at(FOREVER_US))

    async def _past(self, about: PriceList) -> Past:
        signed = await store.head(self.pool, about.number)
        if signed is None:
            return Past(None, (), 0)
        head = payload_of(signed)
        made_us = await store.blob_made_us(self.pool, head.snapshot.sha256)
        return Past(head, await store.released_us(self.pool, about.number), made_us)


def _check(draft: Draft, about: PriceList, accept: Collection[str]) -> None:
    report = draft.report
    if not report.is_valid:
        raise errors.draft_invalid(report.problem_count)
    if not report.changes:
        raise errors.draft_empty()
    if report.base_seq != about.seq:
        raise errors.draft_stale()
    if missing := [one for one in report.needs if one not in accept]:
        raise errors.unaccepted(", ".join(missing))
