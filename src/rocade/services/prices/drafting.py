"""Handing a file in: it is read, held against the list and reported on; what it would do is kept, ready to be released.

A draft is named by the hash of the file and of all that was said with it, so that a release, which is bound to the draft's
name by a passkey's touch, cannot become that of another file. Kept are the delta it comes to (for a week) and the report.
Nothing that any point of sale sees is changed here.
"""

from __future__ import annotations

import asyncio
from hashlib import sha256
from pathlib import Path

import msgspec

from rocade.core.errors import Refused
from rocade.core.money import digits_of
from rocade.services.prices import errors, money, store
from rocade.services.prices.acting import Acts
from rocade.services.prices.comparing import Differences, compare
from rocade.services.prices.model import MODES, Draft, Mode, PriceList, Report
from rocade.services.prices.reading import read
from rocade.services.prices.state import State
from rocade.services.prices.validating import Problems, Sheet, validate
from rocade.trust.identity.keys import write_atomically
from rocade.wire.prices import Delta, Release, pack

FILE_LIMIT_BYTES = 1 << 30
NOTE_LIMIT = 200
DRAFT_LIFE_US = 7 * 86_400_000_000


class Drafting(Acts):
    """The acts on drafts."""

    async def draft(
        self, list_id: str, file: Path, effective_us: int, actor: str, *, mode: Mode = "full", note: str = ""
    ) -> Draft:
        """Read a file and say what it would do. The file is not needed any more afterwards.

        Raises: Refused `prices.list.unknown`, `prices.file.*`, `prices.list.malformed`; Corrupt `prices.state.corrupt`.
        """
        if mode not in MODES or len(note) > NOTE_LIMIT or not note.isprintable():
            raise errors.list_malformed(f"mode is full or changes; a note has {NOTE_LIMIT} printable letters at most")
        async with self.working(list_id):
            about = await self.find(list_id)
            state = await self.states.at(about)
            now_us = self.clock.now_us()
            work = _Work(about, state, file, effective_us, mode, note, now_us)
            try:
                report, packed = await asyncio.to_thread(work.do)
            except Refused as refusal:
                self.note_refusal(actor, "prices.draft", f"list:{list_id}", refusal)
                raise
            said = msgspec.json.encode((report.file_sha256, list_id, effective_us, mode, note, about.seq))
            made = Draft(sha256(said).hexdigest()[:32], list_id, note, now_us, actor, report)
            path = self.draft_path(made.id)
            if packed:
                try:
                    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    await asyncio.to_thread(write_atomically, path, sha256(packed).digest() + packed, 0o600)
                except OSError as error:
                    raise errors.disk(error.strerror or type(error).__name__) from error
            async with self.acting(actor, "prices.draft", f"list:{list_id}") as connection:
                for old in await store.drop_drafts_before(connection, now_us - DRAFT_LIFE_US):
                    self.draft_path(old).unlink(missing_ok=True)
                await store.add_draft(connection, about.number, made)
                await self.record(
                    "prices.draft", actor, f"list:{list_id}", draft=made.id, file=report.file_sha256,
                    changes=report.changes, problems=report.problem_count,
                )  # fmt: skip
        return made

    async def drafts(self, list_id: str) -> list[Draft]:
        """Drafts not released yet, the newest first."""
        return await store.drafts(self.pool, (await self.find(list_id)).number)

    async def find_draft(self, list_id: str, id: str) -> Draft:
        """Raises: Refused `prices.draft.unknown`, `prices.list.unknown`."""
        found = await store.find_draft(self.pool, (await self.find(list_id)).number, id)
        if found is None:
            raise errors.draft_unknown()
        return found

    async def drop_draft(self, list_id: str, id: str, actor: str) -> None:
        await self.find_draft(list_id, id)
        async with self.acting(actor, "prices.drop", f"list:{list_id}") as connection:
            await store.drop_draft(connection, id)
            await self.record("prices.drop", actor, f"list:{list_id}", draft=id)
        self.draft_path(id).unlink(missing_ok=True)

    def draft_path(self, id: str) -> Path:
        """Its delta, packed, behind the SHA-256 of that: a turned bit would be another price, or another day."""
        return self.directory / "drafts" / f"{id}.delta"


class _Work:
    """The part of a draft that takes seconds, for a thread."""

    def __init__(
        self, about: PriceList, state: State, file: Path, effective_us: int, mode: Mode, note: str, now_us: int
    ) -> None:
        self._about, self._state, self._file, self._mode, self._now_us = about, state, file, mode, now_us
        self._release = Release(state.seq + 1, effective_us, about.currency, note)

    def do(self) -> tuple[Report, bytes]:
        """The report and, where every line could be taken, the packed delta."""
        problems = Problems()
        form, rows = read(self._file, problems.add)
        try:
            sheet = validate(rows, self._about.currency, problems)
        except UnicodeDecodeError:
            raise errors.file("encoding") from None
        delta, found = None, Differences()
        if not sheet.ref and not problems.count:
            raise errors.file("empty")
        if not problems.count:
            delta, found = self._compare(sheet, form.columns, problems)
        with self._file.open("rb") as content:
            digest = sha256(content.read()).hexdigest()
        notes = []
        if form.encoding == "cp1252":
            notes.append("the file is not UTF-8; it was read as Windows-1252")
        if "label" not in form.columns:
            notes.append("the file names no labels; those of known parts stay")
        report = Report(
            self._about.id, digest, self._file.stat().st_size, form.kind, form.encoding, form.delimiter, self._mode,
            self._release.effective_us, self._state.seq, self._about.currency, sheet.lines, problems.count,
            tuple(problems.shown), tuple(notes),
            **{} if problems.count else {name: getattr(found, name) for name in Differences.__dataclass_fields__},
        )  # fmt: skip
        if delta is None or problems.count:
            return report, b""
        return report, pack(delta, self._state.prices_at((1 << 62) - 1))

    def _compare(self, sheet: Sheet, columns: tuple[str, ...], problems: Problems) -> tuple[Delta, Differences]:
        return compare(sheet, self._state, self._mode, columns, self._release, self._now_us, problems)


def describe(report: Report) -> list[str]:
    """A report in lines for a terminal."""
    digits = digits_of(report.currency)
    lines = [
        f"{report.lines} lines, {report.form}, {report.encoding}"
        + (f", delimiter {report.delimiter!r}" if report.delimiter else ""),
        *report.notes,
    ]
    if not report.is_valid:
        lines += [f"line {one.line}: {one.what}; {one.do}" if one.line else f"{one.what}; {one.do}"
                  for one in report.problems[:50]]  # fmt: skip
        if report.problem_count > 50:
            lines.append(f"... {report.problem_count} lines are wrong in all")
        return [*lines, "nothing can be released before every line is right"]
    lines.append(
        f"new {report.new}, changed {report.changed}, withdrawn {report.withdrawn}, described anew {report.described}, "
        f"unchanged {report.same}"
    )
    if report.later:
        lines.append(f"{report.later} of these have a price announced for later already, which stays")
    for name, moves in (("biggest rises", report.rises), ("biggest falls", report.falls)):
        if moves:
            shown = ", ".join(
                f"{one.ref} {money.show(one.before_minor, digits)} -> {money.show(one.after_minor, digits)}"
                for one in moves[:5]
            )
            lines.append(f"{name}: {shown}")
    for one in report.suspicions:
        what = "cost nothing" if one.kind == "zero" else f"become {one.kind}; cents taken for {report.currency}?"
        lines.append(f"SUSPICIOUS: {one.count} prices {what} ({', '.join(one.refs[:5])})")
    if "withdrawals" in report.needs:
        lines.append(f"SUSPICIOUS: {report.withdrawn} references are withdrawn; is the file whole?")
    if "past" in report.needs:
        lines.append("the instant is past: this corrects what was true then, as new entries")
    return lines
