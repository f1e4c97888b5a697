"""The local price store: signed heads in, prices at any instant out, right and provably so without the hub.

Flow of `apply`: the head is believed (`heads`) -> cheapest files chosen -> applied in one transaction (`applying`) -> readers see the
new state. What goes wrong on the way has a second try: a bad file is left out of the next plan; where the root does not match,
a snapshot replaces the state, if its past is the one held. A list whose rows are not those of its head gives no prices until then; one
of which a damaged row was met later goes on from memory, refuses what stood in that row (`reading`), and is replaced likewise (`is_damaged`).
Nothing on disk is believed because it stands there: heads and signers are held against the region's root, keys against their sums.
Look-ups: the newest entry of each part is in memory; earlier instants and numbers ask the rows.
One writer at a time (`apply`, `keep_epoch`, `keep`, `drop` may be called from any thread); look-ups go on meanwhile.
Refuses: Refused `prices.list.unknown`, `prices.part.unknown`, `prices.part.unpriced`, `prices.number.unknown`, and what the parts named above refuse.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import RLock
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from rocade.agents.dealer.prices import heads
from rocade.agents.dealer.prices.apart import apply_apart
from rocade.agents.dealer.prices.applying import Keys, Witness, follow, missing_key
from rocade.agents.dealer.prices.believing import Believing
from rocade.agents.dealer.prices.ledger import ListRow, Stored, damaged
from rocade.agents.dealer.prices.live import Live
from rocade.agents.dealer.prices.loading import load, rebuild
from rocade.agents.dealer.prices.memory import give_back
from rocade.agents.dealer.prices.model import Applied, Changed, Fetch, Held, PartCard, Plan, Price, Successors
from rocade.agents.dealer.prices.reading import Reading, altered
from rocade.agents.dealer.prices.state import State
from rocade.agents.dealer.prices.store import Tables
from rocade.core.errors import Corrupt, Refused, Unavailable
from rocade.core.ports import Clock, SystemClock
from rocade.core.prices import Change, Description
from rocade.trust.identity.keys import PublicKey
from rocade.wire.prices import Head, open_key, read_letter

_log = logging.getLogger(__name__)
KEEP_EVERY = 16
"""Numbers after which what memory holds is written down, so that a start has few rows to read."""


class Keyring(Protocol):
    """Where the point of sale's encryption keys are."""

    @property
    def private_keys(self) -> list[X25519PrivateKey]: ...


class PriceStore:
    """The lists that one hub gave us. `root` gives the public key of that hub's region."""

    def __init__(
        self, path: Path, root: Callable[[], PublicKey], clock: Clock | None = None, apart_bytes: int | None = None
    ) -> None:
        """A list whose files have `apart_bytes` or more is loaded by a process of its own; None = never.

        Raises: Unavailable `prices.store.*`, Corrupt `prices.store.damaged`.
        """
        self._path, self._apart_bytes = path, apart_bytes
        self._tables, self._reader = Tables(path), Tables(path)
        self._root, self._clock = root, clock or SystemClock()
        self._believing = Believing(self._reader, root)
        self._writing, self._loading = RLock(), RLock()
        self._live: dict[str, Live] = {}
        self._broken: dict[str, Corrupt] = {}
        """Lists on disk whose heads cannot be believed."""
        self._is_loaded = False

    # --- what the hub says ---

    def keep_epoch(self, letter: bytes, keyring: Keyring) -> None:
        """Take a letter with epoch keys and signers. Raises: Refused `prices.epoch.*`, `prices.signer`."""
        read = read_letter(letter)
        privates = keyring.private_keys
        keys = {(one.list_id, one.epoch): open_key(one, privates) for one in read.keys}
        statements = [text.encode() for text in read.signers]
        for statement in statements:
            heads.open_signer(statement, self._root())
        with self._writing:
            with self._tables.transaction():
                for (name, epoch), key in keys.items():
                    self._tables.put_epoch(name, epoch, key)
                self._tables.put_signers({*self._believing.signers().proofs, *statements})
            self._is_loaded = self._is_loaded and not self._broken

    def plan(self, envelope: bytes) -> Plan:
        """What would be fetched to follow this head. Raises: as `apply`, but for files."""
        head = self._believing.open(envelope)
        held = self._held(head.list_id)
        heads.check_against(head, held)
        return self._plan(head, held.seq if held else 0, self._reader.epochs()[0], set())

    def apply(self, envelope: bytes, fetch: Fetch, *, anew: bool = False) -> Applied:
        """Follow a signed head: what it says is on disk when this returns, and nothing of it when this raises.

        `anew`: from a snapshot, whatever is held. `fetch` gets a file by its name (SHA-256 in hex). Raises: Refused `prices.head.*`, `prices.blob.*`, `prices.delta.*`,
        `prices.state.mismatch`; Unavailable `prices.epoch.missing`, `prices.store.*`; whatever `fetch` raises.
        """
        with self._writing:
            head = self._believing.open(envelope)
            held = self._held(head.list_id)
            self._check(head, held, envelope)
            if held is not None and anew:
                self._of(head.list_id).is_whole = False
            if held is not None and head.seq == held.seq and self._of(head.list_id).is_whole:
                return Applied(head.list_id, head.seq, head.state_root, is_new=False)
            try:
                return self._load_apart(head, held, envelope, fetch) or self._follow(head, held, envelope, fetch)
            finally:
                give_back()

    def _check(self, head: Head, held: Head | None, envelope: bytes) -> None:
        try:
            heads.check_against(head, held)
        except Refused as error:
            if error.code == "prices.head.forked":
                self._keep_conflict(head, envelope)
            raise

    def _load_apart(self, head: Head, held: Head | None, envelope: bytes, fetch: Fetch) -> Applied | None:
        """A large list that has to be loaded whole, through a process of its own; None = it is not so, or did not work."""
        if self._apart_bytes is None:
            return None
        is_whole = held is not None and self._of(head.list_id).is_whole
        plan = self._plan(head, held.seq if held and is_whole else 0, self._reader.epochs()[0], set())
        if plan.from_seq or sum(blob.size for blob in plan.blobs) < self._apart_bytes:
            return None
        size_bytes = apply_apart(self._path, self._root(), envelope, plan.blobs, fetch, anew=not is_whole)
        with self._loading:
            self._live.pop(head.list_id, None)
            self._is_loaded = False
        now = self._held(head.list_id)
        if now is None or now.seq != head.seq or not self._of(head.list_id).is_whole:
            return None
        return Applied(head.list_id, head.seq, head.state_root, True, held is not None, size_bytes)

    def _follow(self, head: Head, held: Head | None, envelope: bytes, fetch: Fetch) -> Applied:
        """Try one plan after the other: the cheapest, then without what was bad, then a rebuilt state, then a snapshot."""
        keys, bad, size_bytes = self._reader.epochs()[0], set[str](), 0
        start = self._of(head.list_id).reading.state if held and self._of(head.list_id).is_whole else State()
        first_error: Refused | None = None

        def counted(name: str) -> bytes:
            nonlocal size_bytes
            content = fetch(name)
            size_bytes += len(content)
            return content

        while True:
            try:
                plan = self._plan(head, start.seq, keys, bad)
            except (Refused, Unavailable) as error:
                raise first_error or error from None
            is_repair = held is not None and plan.from_seq == 0
            if is_repair and not self._reader.is_intact():
                raise damaged("SQLite's structure")
            try:
                self._commit(head, start, plan, envelope, counted, keys, Witness(held) if held and is_repair else None)
                return Applied(head.list_id, head.seq, head.state_root, True, is_repair, size_bytes)
            except Refused as error:
                _log.warning("list %s: head %d: %s", head.list_id, head.seq, error.code)
                first_error = first_error or error
                if error.code == "prices.state.mismatch" and held and not is_repair:
                    start = State()  # so that a snapshot is asked for
                elif "file" in error.facts:
                    bad.add(str(error.facts["file"]))
                else:
                    raise
            except Corrupt as damage:
                if held is None or is_repair:
                    raise
                self._of(head.list_id).note(damage)
                start = State()

    def _commit(
        self, head: Head, start: State, plan: Plan, envelope: bytes, fetch: Fetch, keys: Keys, witness: Witness | None
    ) -> None:
        live = self._live.get(head.list_id)
        try:
            with self._tables.transaction():
                number = live.row.number if live else self._tables.add_list(head.list_id)
                row = ListRow(number, head.list_id, head.seq, head.parts, envelope, self._clock.now_us())
                state = follow(self._tables, row, head, start, plan, fetch, keys, witness)
                self._tables.put_head(row, head.id)
        except Refused as error:
            if error.code == "prices.head.forked":
                self._keep_conflict(head, envelope)
            raise
        self._live[head.list_id] = Live(row, head, Reading(self._reader, row, head, state))
        self._broken.pop(head.list_id, None)
        kept = self._tables.kept_seq(number)
        if not kept or head.seq - kept >= KEEP_EVERY:
            with contextlib.suppress(Unavailable):  # the list is on disk; only the next start would be slower
                self.keep(head.list_id)

    def _plan(self, head: Head, from_seq: int, keys: Keys, bad: set[str]) -> Plan:
        """Raises: Unavailable `prices.epoch.missing`, Refused `prices.head.gap`."""
        locked = {blob.sha256 for blob in head.files if (head.list_id, blob.epoch) not in keys}
        for without in (bad | locked, bad):
            found = heads.plan(head, from_seq, without) or heads.plan(head, 0, without)
            if found and without & locked == locked:
                return found
            if found:
                raise missing_key(head, next(blob for blob in found.blobs if blob.sha256 in locked))
        raise Refused("prices.head.gap", f"no file leads from number {from_seq} to head {head.seq}")

    def _keep_conflict(self, head: Head, envelope: bytes) -> None:
        with self._tables.transaction():
            self._tables.add_conflict(head.list_id, head.seq, envelope, self._clock.now_us())

    def conflicts(self) -> list[tuple[str, int, bytes, int]]:
        """Heads that contradict others of the same signer, kept as evidence: list, number, envelope, when seen."""
        return self._believing.conflicts()

    # --- what is held ---

    def heads(self) -> list[Held]:
        """The lists held, with their heads."""
        self._load()
        lists = sorted(self._live.values(), key=lambda one: one.row.number)
        return [Held(one.row.name, one.row.seq, one.head, one.row.envelope, one.row.applied_us) for one in lists]

    @property
    def is_damaged(self) -> bool:
        """Whether a list waits for its head, to be replaced from a snapshot."""
        return bool(self._broken) or not all(one.is_whole for one in list(self._live.values()))

    def keep(self, list_id: str | None = None) -> None:
        """Write down what memory holds, so that the next start is quick; `apply` does it now and then."""
        with self._writing:
            for name in [list_id] if list_id else list(self._live):
                live = self._of(name)
                kept = self._tables.kept_seq(live.row.number)
                if live.reading.state.seq != kept:
                    with self._tables.transaction():
                        if not kept:
                            self._tables.fold_again(live.row.number)
                        self._tables.put_kept(live.row.number, live.reading.state.seq, live.reading.state.freeze())

    def drop(self, list_id: str) -> None:
        """Forget a list that this point of sale has no more."""
        with self._writing, self._tables.transaction():
            self._tables.drop(self._of(list_id).row.number)
            del self._live[list_id]

    def verify_all(self) -> dict[str, str]:
        """Recompute every list from its rows; "" or the code of what is wrong, by list. Cost: 2 s and, until it returns, 90 MB for 500,000 parts.

        A list that is not right is replaced at its next head. Under the name "" stands what belongs to no list, if something is wrong
        there: SQLite's structure, keys, signers, evidence, instants of applying.
        """
        self._load()
        found = {name: damage.code for name, damage in self._broken.items()}
        for name, live in list(self._live.items()):
            found[name] = ""
            try:
                if not rebuild(self._reader, live.row).is_of(live.head):
                    raise altered()
            except Corrupt as damage:
                live.note(damage)
                found[name] = damage.code
        give_back()
        is_whole = self._believing.is_whole() and self._reader.is_intact()
        return found if is_whole else found | {"": "prices.store.damaged"}

    def clock_behind_us(self) -> int:
        """How far this machine's clock is behind the newest head's signature; 0 if it is not."""
        signed = [held.head.signed_us for held in self.heads()]
        return max(0, max(signed, default=0) - self._clock.now_us())

    def now_us(self) -> int:
        """The instant to ask prices for "now": never before the newest head was signed, whatever this machine's clock says."""
        return self._clock.now_us() + self.clock_behind_us()

    def close(self) -> None:
        self._tables.db.close()
        self._reader.db.close()

    # --- prices ---

    def price(self, list_id: str, ref: str, at_us: int, known_seq: int | None = None) -> Price:
        """The price of a part at an instant, as known at a number of its list (None = the one held).

        Raises: Refused `prices.list.unknown`, `prices.part.unknown`, `prices.part.unpriced`, `prices.number.unknown`.
        """
        live = self._live.get(list_id)
        if live is None or not live.is_sound:
            live = self._sound(list_id)
        try:
            return live.reading.price(ref, at_us, known_seq)
        except Corrupt as damage:
            live.note(damage)
            raise

    def prices(self, list_id: str, refs: Sequence[str], at_us: int) -> dict[str, Price]:
        """Prices of many parts; those the list does not have, or has no price for yet, are left out."""
        with self._sound(list_id).asked() as reading:
            return reading.prices(refs, at_us)

    def all_prices(self, list_id: str, at_us: int, known_seq: int | None = None) -> Iterator[tuple[Description, Price]]:
        """Every part with its price at an instant, in order of index; those without one then are left out."""
        return self._all_prices(self._sound(list_id), at_us, known_seq)

    def has(self, list_id: str, ref: str) -> bool:
        return self._sound(list_id).reading.state.refs.find(ref) >= 0

    def part(self, list_id: str, ref: str) -> PartCard:
        """How the list describes a part now."""
        with self._sound(list_id).asked() as reading:
            return reading.part(ref)

    def successors(self, list_id: str, ref: str) -> Successors:
        """What replaces a part, to the end of the chain."""
        with self._sound(list_id).asked() as reading:
            return reading.successors(ref)

    def history(self, list_id: str, ref: str) -> list[Change]:
        """All that ever happened to a part."""
        with self._sound(list_id).asked() as reading:
            return reading.changes_of(ref)

    def changes(self, list_id: str, seq: int, limit: int | None = None) -> list[Changed]:
        """What one release did, part by part."""
        with self._sound(list_id).asked() as reading:
            return reading.changes(seq, limit)

    def search(self, list_id: str, text: str, limit: int = 50) -> list[PartCard]:
        """Parts whose reference begins with the text, or whose label holds it."""
        with self._sound(list_id).asked() as reading:
            return reading.search(text, limit)

    def prove(self, list_id: str, ref: str, at_us: int, known_seq: int | None = None) -> bytes:
        """A file that `rocade verify` accepts without the hub. Raises: as `price`; Corrupt `prices.store.altered`."""
        with self._sound(list_id).asked() as reading:
            return reading.prove(ref, at_us, known_seq, self._believing.signers().proofs)

    # --- loading ---

    def _all_prices(self, live: Live, at_us: int, known_seq: int | None) -> Iterator[tuple[Description, Price]]:
        with live.asked() as reading:
            yield from reading.all_prices(at_us, known_seq)

    def _sound(self, list_id: str) -> Live:
        """Raises: Refused `prices.list.unknown`, Corrupt `prices.store.altered`, `prices.store.damaged`."""
        live = self._of(list_id)
        if not live.is_sound:
            raise Corrupt(
                "prices.store.altered",
                f"rows of list {list_id} are not those its head was signed for; the next head repairs them from a snapshot",
            )
        return live

    def _held(self, list_id: str) -> Head | None:
        try:
            return self._of(list_id).head
        except (Refused, Corrupt):
            return None

    def _of(self, list_id: str) -> Live:
        """The list in memory. Raises: Refused `prices.list.unknown`, Corrupt `prices.store.damaged`."""
        live = self._live.get(list_id)
        if live is None:
            self._load()
            live = self._live.get(list_id)
        if live is None:
            raise self._broken.get(list_id) or Refused(
                "prices.list.unknown", "this point of sale holds no price list of that name"
            )
        return live

    def _load(self) -> None:
        """Read every list that is not in memory yet, when first asked for one."""
        with self._loading:
            if self._is_loaded:
                return
            self._broken.clear()
            for stored in self._reader.lists():
                self._load_one(stored, self._believing.first(stored.envelopes))
            give_back()
            self._is_loaded = True

    def _load_one(self, stored: Stored, believed: tuple[Head, bytes] | None) -> None:
        if believed is None:
            self._broken[stored.name] = damage = damaged(f"no head of list {stored.name} can be believed")
            _log.error("%s", damage.message, extra={"facts": {"code": damage.code}})
        elif (head := believed[0]).list_id not in self._live:
            if stored.applied_us is None:
                _log.error("list %s: when it was applied is damaged, and given as when it was signed", head.list_id)
            applied_us = head.signed_us if stored.applied_us is None else stored.applied_us
            row = ListRow(stored.number, head.list_id, head.seq, head.parts, believed[1], applied_us)
            self._live[head.list_id] = Live(row, head, Reading(self._reader, row, head, load(self._reader, row, head)))
