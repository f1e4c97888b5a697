"""Messages on their way to a hub: sealed and on disk before anybody is told they are accepted, gone only with a proof.

Flow: `append` seals a message with the site's key, numbers it in its stream and commits it (fsync) -> `waiting` hands out
what the hub has not taken, in the order it was made -> `taken` (PUBACK) -> `settle` keeps each receipt that was proven:
RECEIVED, then DECIDED -> after `days` a decided message is dropped, its receipts with it. The envelope never changes: a
retry is the same bytes, so the hub answers with the same receipt.
A stream's name ends with this store's epoch (`orders:1f3a09c2`): a store that is lost, and the other store of a pair, number
streams of their own, so that no number is ever used twice.
Refuses: `dealer.message.conflict` (the id was used for something else), `dealer.message.size`, `dealer.message.invalid`;
Unavailable `dealer.outbox.full`: nothing that was accepted is ever dropped to make room.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from hashlib import sha256

import msgspec

from rocade.agents.dealer.believing import opened
from rocade.agents.dealer.line import Waiting
from rocade.agents.dealer.settings import Keeping
from rocade.agents.dealer.store import Store
from rocade.core.errors import Refused, Unavailable
from rocade.core.ports import Random
from rocade.trust.identity.envelope import seal
from rocade.trust.identity.keys import PrivateKey
from rocade.wire.exchange import (
    BODY_LIMIT_BYTES,
    DECISION_TYPE,
    MESSAGE_TYPE,
    Address,
    Decision,
    Message,
    Receipt,
    encode,
    read_decision,
    read_message,
    sha256_of,
)
from rocade.wire.exchange.messages import VOID

WAITING, TAKEN, RECEIVED, ACCEPTED, REFUSED, ASIDE = range(6)
STATES = ("waiting", "taken", "received", "accepted", "refused", "set_aside")


class Draft(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A message as the dealer's software hands it in. `id` makes a retry harmless; without one it gets one."""

    recipient: Address
    content_class: str
    content_type: str
    body: bytes
    stream: str = "main"
    id: str = ""
    answers: str = ""


class Sent(msgspec.Struct, frozen=True):
    """One message as pages and the API show it; never its content."""

    number: int
    hub: str
    id: str
    stream: str
    sequence: int
    address: Address
    content_class: str
    content_type: str
    size: int
    made_us: int
    state: str
    code: str
    reason: str
    taken_us: int
    decided_us: int


_COLUMNS = (
    "number, hub, id, stream, sequence, address, content_class, content_type, size, made_us, state, code, reason,"
    " taken_us, decided_us"
)


class Outbox:
    """The outbox of all hubs in one store. `appended(hub)` is called after each commit that brought something."""

    def __init__(
        self,
        store: Store,
        random: Random,
        keeping: Keeping,
        appended: Callable[[str], None] = lambda _hub: None,
        free_bytes: Callable[[], int] | None = None,
    ) -> None:
        self._store, self._random, self._keeping, self.appended = store, random, keeping, appended
        self._free_bytes = free_bytes or (lambda: shutil.disk_usage(store.path.parent).free)
        row = store.row("SELECT coalesce(sum(size), 0) FROM outbox WHERE state = 0")
        self._waiting_bytes = int(row[0]) if row else 0

    def append(self, hub: str, sender: str, key: PrivateKey, draft: Draft) -> Sent:
        """Seal a message and put it on disk; the same id with the same content is answered with what is there.

        Raises: Refused `dealer.message.*`; Unavailable `dealer.outbox.full`, `dealer.disk`.
        """
        asked = sha256(msgspec.json.encode(msgspec.structs.replace(draft, id=""))).hexdigest()
        if draft.id and (known := self._known(hub, draft.id, asked)):
            return known
        self._check_room(len(draft.body))
        now_us = self._store.clock.now_us()
        message_id = draft.id or f"m-{self._random.bits(96):024x}"
        stream = f"{draft.stream}:{self._store.epoch}"
        with self._store.write() as write:
            following = write("SELECT next FROM stream WHERE hub = ? AND name = ?", hub, stream)
            sequence = int(following[0][0]) if following else 1
            payload = _payload(draft, message_id, sender, stream, sequence, now_us)
            envelope = seal(MESSAGE_TYPE, payload, key)
            write("INSERT OR REPLACE INTO stream VALUES (?,?,?)", hub, stream, sequence + 1)
            (made,) = write(
                "INSERT INTO outbox (hub, id, stream, sequence, address, content_class, content_type, size, made_us,"
                f" asked_sha256, sent_sha256, envelope) VALUES (?,?,?,?,?,?,?,?,?,?,?,?) RETURNING {_COLUMNS}",
                hub, message_id, stream, sequence, msgspec.json.encode(draft.recipient).decode(), draft.content_class,
                draft.content_type, len(envelope), now_us, asked, sha256_of(payload), envelope,
            )  # fmt: skip
        self._waiting_bytes += len(envelope)
        self.appended(hub)
        return _sent(made)

    # --- for the other agent of a pair ---

    def adopt(self, hub: str, tail: str, envelope: bytes, made_us: int) -> bool:
        """Keep what the other agent of this site sealed, to send it if that one cannot; whether it is new here."""
        payload = opened(envelope)
        if tail == "decision":
            decision = read_decision(payload)
            row = (_decision_id(decision), "", 0, "{}", "technical", DECISION_TYPE, _decided(decision))
        else:
            message = read_message(payload)
            address = msgspec.json.encode(message.recipient).decode()
            row = (
                message.id, message.stream, message.sequence, address, message.content_class, message.content_type,
                _asked(message),
            )  # fmt: skip
        with self._store.write() as write:
            added = write(
                "INSERT OR IGNORE INTO outbox (hub, tail, id, stream, sequence, address, content_class, content_type,"
                " asked_sha256, size, made_us, sent_sha256, envelope, at_pair) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,1)"
                " RETURNING size",
                hub, tail, *row, len(envelope), made_us, sha256_of(payload), envelope,
            )  # fmt: skip
        self._waiting_bytes += sum(one[0] for one in added)
        return bool(added)

    def all_waiting(self) -> list[tuple[str, str, bytes, int]]:
        """(hub, tail, envelope, made_us) of everything no hub has taken, in order."""
        rows = self._store.rows("SELECT hub, tail, envelope, made_us FROM outbox WHERE state = 0 ORDER BY number")
        return [(str(hub), str(tail), bytes(envelope), int(made_us)) for hub, tail, envelope, made_us in rows]

    def taken_elsewhere(self, hub: str, ids: Sequence[str]) -> None:
        """The other agent saw the hub take these."""
        rows = [self._store.row("SELECT number FROM outbox WHERE hub = ? AND id = ?", hub, one) for one in ids]
        self._move([int(row[0]) for row in rows if row], TAKEN, "")

    def taken_id(self, hub: str, envelope: bytes) -> str:
        """The id of what is sealed here, if the hub has taken it; else ''."""
        sha256_sent = sha256_of(opened(envelope))
        row = self._store.row(
            "SELECT id FROM outbox WHERE hub = ? AND sent_sha256 = ? AND state BETWEEN 1 AND 4", hub, sha256_sent
        )
        return str(row[0]) if row else ""

    def ids_of(self, numbers: Sequence[int]) -> list[str]:
        rows = [self._store.row("SELECT id FROM outbox WHERE number = ?", one) for one in numbers]
        return [str(row[0]) for row in rows if row]

    # --- for the line ---

    def waiting(self, hub: str, after: int, count: int) -> list[Waiting]:
        rows = self._store.rows(
            "SELECT number, tail, envelope FROM outbox WHERE hub = ? AND state = 0 AND number > ? ORDER BY number LIMIT ?",
            hub, after, count,
        )  # fmt: skip
        return [Waiting(*row) for row in rows]

    def taken(self, numbers: Sequence[int]) -> None:
        """The hub has these on disk."""
        self._move(numbers, TAKEN, "")

    def set_aside(self, number: int, code: str, key: PrivateKey) -> None:
        """The hub refused this for good before receipting it. Its place in the stream is filled, or all behind it would wait."""
        self._move([number], ASIDE, code)
        row = self._store.row("SELECT hub, tail, envelope FROM outbox WHERE number = ?", number)
        message = read_message(opened(row[2])) if row and row[1] == "message" else None
        if row is None or message is None or message.content_type == VOID:
            return
        body = msgspec.json.encode({"instead_of": message.id, "code": code})
        void = msgspec.structs.replace(message, id=f"void-{number}-{self._store.epoch}", content_type=VOID, body=body)
        payload = encode(void)
        self.adopt(row[0], "message", seal(MESSAGE_TYPE, payload, key), self._store.clock.now_us())

    def sign_again(self, number: int, key: PrivateKey) -> None:
        """Seal a waiting message with the key of now: the same bytes, so it stays the same message."""
        row = self._store.row("SELECT tail, envelope FROM outbox WHERE number = ? AND state = 0", number)
        if row is None:
            return
        sealed = seal(MESSAGE_TYPE if row[0] == "message" else DECISION_TYPE, opened(row[1]), key)
        with self._store.write() as write:
            write("UPDATE outbox SET envelope = ? WHERE number = ?", sealed, number)

    def decide(self, hub: str, decision: Decision, key: PrivateKey) -> Sent:
        """Keep a signed decision about a message that came in. Raises: Refused `dealer.message.conflict`, as `append`."""
        payload, now_us = encode(decision), self._store.clock.now_us()
        message_id, asked = _decision_id(decision), _decided(decision)
        if known := self._known(hub, message_id, asked):
            return known
        self._check_room(len(payload))
        envelope = seal(DECISION_TYPE, payload, key)
        with self._store.write() as write:
            (made,) = write(
                "INSERT INTO outbox (hub, tail, id, stream, sequence, address, content_class, content_type, size, made_us,"
                f" asked_sha256, sent_sha256, envelope) VALUES (?,'decision',?,'',0,'{{}}','technical',?,?,?,?,?,?)"
                f" RETURNING {_COLUMNS}",
                hub, message_id, DECISION_TYPE, len(envelope), now_us, asked, sha256_of(payload), envelope,
            )  # fmt: skip
        self._waiting_bytes += len(envelope)
        self.appended(hub)
        return _sent(made)

    def settle(self, hub: str, receipts: Sequence[tuple[Receipt, bytes]]) -> list[str]:
        """Keep proven receipts (each with the document that proves it) and move their messages on; ids that moved.

        A receipt for something this store never sent, or for another content, is kept out and returned by nobody.
        """
        moved, now_us = [], self._store.clock.now_us()
        with self._store.write() as write:
            for receipt, document in receipts:
                row = write(
                    "SELECT number, state, size FROM outbox WHERE hub = ? AND id = ? AND sent_sha256 = ?",
                    hub, receipt.message_id, receipt.message_sha256,
                )  # fmt: skip
                if not row:
                    continue
                number, state, size = row[0]
                write(
                    "INSERT OR IGNORE INTO receipt VALUES (?,?,?,?,?,?)",
                    hub, receipt.message_id, receipt.kind, receipt.at_us, now_us, document,
                )  # fmt: skip
                to = RECEIVED if receipt.kind == "received" else ACCEPTED if receipt.outcome == "accepted" else REFUSED
                if state == WAITING:
                    self._waiting_bytes -= size
                if to > state or state == ASIDE:
                    write(
                        "UPDATE outbox SET state = ?, code = ?, reason = ?, decided_us = ?,"
                        " taken_us = CASE taken_us WHEN 0 THEN ? ELSE taken_us END WHERE number = ?",
                        to, receipt.code, receipt.reason, receipt.at_us if to > RECEIVED else 0, now_us, number,
                    )  # fmt: skip
                    moved.append(receipt.message_id)
        return moved

    # --- for people and the dealer's software ---

    def get(self, hub: str, message_id: str) -> Sent:
        """Raises: Refused `dealer.message.unknown`."""
        row = self._store.row(f"SELECT {_COLUMNS} FROM outbox WHERE hub = ? AND id = ?", hub, message_id)
        if row is None:
            raise Refused("dealer.message.unknown", "no message of this id was sent from here")
        return _sent(row)

    def find(self, *, state: str = "", text: str = "", before: int = 1 << 62, count: int = 50) -> list[Sent]:
        """Newest first; `text` looks in id, code, reason, stream."""
        like = "%" + text.replace("%", "") + "%"
        rows = self._store.rows(
            f"SELECT {_COLUMNS} FROM outbox WHERE number < ? AND (? < 0 OR state = ?)"
            " AND (id LIKE ? OR code LIKE ? OR reason LIKE ? OR stream LIKE ?) ORDER BY number DESC LIMIT ?",
            before, place := STATES.index(state) if state in STATES else -1, place, like, like, like, like, count,
        )  # fmt: skip
        return [_sent(row) for row in rows]

    def receipts(self, hub: str, message_id: str) -> list[tuple[str, int, bytes]]:
        """(kind, at_us, the document that proves it)."""
        rows = self._store.rows(
            "SELECT kind, at_us, document FROM receipt WHERE hub = ? AND message_id = ? ORDER BY kind DESC",
            hub, message_id,
        )  # fmt: skip
        return [(kind, int(at_us), bytes(document)) for kind, at_us, document in rows]

    def without_receipt(self, hub: str, count: int = 64) -> list[str]:
        """Messages the hub took whose first receipt has not come, oldest first."""
        rows = self._store.rows(
            "SELECT id FROM outbox WHERE hub = ? AND state = 1 AND tail = 'message' ORDER BY number LIMIT ?", hub, count
        )
        return [str(row[0]) for row in rows]

    def counts(self, hub: str = "") -> dict[str, int]:
        """How many stand in which state."""
        rows = self._store.rows("SELECT state, count(*) FROM outbox WHERE ? IN ('', hub) GROUP BY state", hub)
        return {STATES[state]: int(count) for state, count in rows}

    def envelope(self, hub: str, message_id: str) -> bytes:
        row = self._store.row("SELECT envelope FROM outbox WHERE hub = ? AND id = ?", hub, message_id)
        return bytes(row[0]) if row else b""

    def forget_old(self) -> int:
        """Drop what was decided and is older than `days`; how many."""
        before_us = self._store.clock.now_us() - self._keeping.days * 86_400_000_000
        with self._store.write() as write:
            gone = write(
                "DELETE FROM outbox WHERE (state IN (3, 4) OR state = 1 AND tail = 'decision') AND made_us < ? RETURNING hub, id",
                before_us,
            )
            for hub, message_id in gone:
                write("DELETE FROM receipt WHERE hub = ? AND message_id = ?", hub, message_id)
            write("DELETE FROM inbox WHERE got_us < ?", before_us)
        return len(gone)

    def _known(self, hub: str, message_id: str, asked: str) -> Sent | None:
        row = self._store.row(f"SELECT {_COLUMNS}, asked_sha256 FROM outbox WHERE hub = ? AND id = ?", hub, message_id)
        if row is None:
            return None
        if row[-1] != asked:
            raise Refused("dealer.message.conflict", "this id was used for a message of other content; use a new one")
        return _sent(row[:-1])

    def _check_room(self, size: int) -> None:
        if size > BODY_LIMIT_BYTES:
            raise Refused("dealer.message.size", f"a message's body may have {BODY_LIMIT_BYTES} bytes")
        if self._waiting_bytes + size > self._keeping.outbox_mb << 20:
            raise Unavailable("dealer.outbox.full", "the outbox is full; it empties when the line is back")
        if self._free_bytes() < self._keeping.least_free_mb << 20:
            raise Unavailable("dealer.outbox.full", "the disk is nearly full; free it, then send again")

    def _move(self, numbers: Sequence[int], state: int, code: str) -> None:
        now_us = self._store.clock.now_us()
        with self._store.write() as write:
            for number in numbers:
                moved = write(
                    "UPDATE outbox SET state = ?, code = ?, taken_us = ? WHERE number = ? AND state = 0 RETURNING size",
                    state, code, now_us, number,
                )  # fmt: skip
                self._waiting_bytes -= sum(row[0] for row in moved)


def _payload(draft: Draft, message_id: str, sender: str, stream: str, sequence: int, now_us: int) -> bytes:
    """Raises: Refused `dealer.message.invalid`."""
    values = {
        "id": message_id, "sender": sender, "recipient": draft.recipient, "stream": stream, "sequence": sequence,
        "content_class": draft.content_class, "content_type": draft.content_type, "created_us": now_us,
        "body": draft.body, "answers": draft.answers,
    }  # fmt: skip
    try:
        return encode(msgspec.convert(values, Message))
    except msgspec.ValidationError as error:
        raise Refused("dealer.message.invalid", f"this cannot be sent: {str(error)[:200]}") from None


def _decision_id(decision: Decision) -> str:
    return f"decision:{sha256_of(decision.sender.encode())[:8]}:{decision.message_id}"


def _decided(decision: Decision) -> str:
    return sha256(f"{decision.outcome}|{decision.code}|{decision.reason}".encode()).hexdigest()


def _asked(message: Message) -> str:
    """The digest `append` would have made of what was handed in, for a retry that comes to the other agent."""
    stream = message.stream.rpartition(":")[0] or message.stream
    draft = Draft(
        recipient=message.recipient, content_class=message.content_class, content_type=message.content_type,
        body=message.body, stream=stream, answers=message.answers,
    )  # fmt: skip
    return sha256(msgspec.json.encode(draft)).hexdigest()


def _sent(row: tuple[object, ...]) -> Sent:
    values = list(row)
    values[5] = msgspec.json.decode(str(row[5]), type=Address)
    values[10] = STATES[int(str(row[10]))]
    return Sent(*values)  # type: ignore[arg-type]  # the columns are in the order of the fields
