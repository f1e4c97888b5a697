"""People at this point of sale who may open the agent's page: one-time links, sessions, passkeys; all of it kept here.

Flow: the manager prints a link (`rocade dealer staff link NAME`, with a QR code) -> the first browser that confirms it gets a
session for a working day -> where the page has a name with a certificate, a passkey can be added and opens the next
sessions. Nothing here needs the line. Links and sessions stand hashed; the names never leave this file.
Refuses (`dealer.staff.`): `unknown`, `exists`, `link`, `session`, `passkey`, `busy`.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from rocade.agents.dealer.store import Store
from rocade.agents.dealer.tokens import digest, new_secret
from rocade.core.errors import Refused
from rocade.core.ports import Random

ROLES = ("seller", "manager")
LINK_LIFE_US = 10 * 60_000_000
SESSION_LIFE_US = 12 * 3_600_000_000
_CHALLENGE_LIFE_US = 300_000_000
_TRIES, _TRIES_WITHIN_US = 20, 60_000_000


class Person(msgspec.Struct, frozen=True):
    id: int
    name: str
    role: str
    passkeys: int = 0


class Staff:
    def __init__(self, store: Store, random: Random) -> None:
        self._store, self._random = store, random
        self._tries: deque[int] = deque(maxlen=_TRIES)
        self._challenges: dict[bytes, tuple[str, int, int]] = {}
        """Challenge -> (purpose, person, until)."""

    # --- who there is

    def add(self, name: str, role: str) -> Person:
        """Raises: Refused `dealer.staff.exists`."""
        with self._store.write() as write:
            if write("SELECT 1 FROM staff WHERE name = ? AND ended_us = 0", name):
                raise Refused("dealer.staff.exists", "there is somebody of this name already")
            now_us = self._store.clock.now_us()
            (row,) = write("INSERT INTO staff (name, role, made_us) VALUES (?,?,?) RETURNING id", name, role, now_us)
        return Person(int(row[0]), name, role)

    def list(self) -> list[Person]:
        rows = self._store.rows(
            "SELECT id, name, role, (SELECT count(*) FROM passkey WHERE staff = id) FROM staff"
            " WHERE ended_us = 0 ORDER BY name"
        )
        return [Person(*row) for row in rows]

    def by_name(self, name: str) -> Person:
        """Raises: Refused `dealer.staff.unknown`."""
        for person in self.list():
            if person.name == name:
                return person
        raise Refused("dealer.staff.unknown", "there is nobody of this name; `rocade dealer staff add`")

    def end(self, name: str) -> None:
        """End a person's access at once: sessions, links and passkeys with it. Raises: Refused `dealer.staff.unknown`."""
        person, now_us = self.by_name(name), self._store.clock.now_us()
        with self._store.write() as write:
            write("UPDATE staff SET ended_us = ? WHERE id = ?", now_us, person.id)
            for table in ("session", "link", "passkey"):
                write(f"DELETE FROM {table} WHERE staff = ?", person.id)

    # --- links and sessions

    def make_link(self, name: str) -> str:
        """The secret of a link that works once, for ten minutes. Raises: Refused `dealer.staff.unknown`."""
        person, secret = self.by_name(name), new_secret(self._random)
        with self._store.write() as write:
            until_us = self._store.clock.now_us() + LINK_LIFE_US
            write("INSERT INTO link (hash, staff, until_us) VALUES (?,?,?)", digest(secret), person.id, until_us)
        return secret

    def redeem(self, link: str) -> str:
        """Trade a link for the secret of a session. Raises: Refused `dealer.staff.link`, `.busy`."""
        self._count_try()
        now_us = self._store.clock.now_us()
        with self._store.write() as write:
            used = write(
                "UPDATE link SET used_us = ? WHERE hash = ? AND used_us = 0 AND until_us > ? RETURNING staff",
                now_us, digest(link), now_us,
            )  # fmt: skip
        if not used:
            raise Refused("dealer.staff.link", "this link was used or has ended; the manager prints another one")
        return self._open(int(used[0][0]))

    def session(self, secret: str) -> Person:
        """Who holds this session. Raises: Refused `dealer.staff.session`."""
        row = self._store.row(
            "SELECT staff.id, name, role, (SELECT count(*) FROM passkey WHERE passkey.staff = staff.id) FROM session"
            " JOIN staff ON staff.id = session.staff WHERE hash = ? AND until_us > ? AND ended_us = 0",
            digest(secret), self._store.clock.now_us(),
        )  # fmt: skip
        if not secret or row is None:
            raise Refused("dealer.staff.session", "sign in first")
        return Person(*row)

    def sign_out(self, secret: str) -> None:
        with self._store.write() as write:
            write("DELETE FROM session WHERE hash = ?", digest(secret))

    def _open(self, person: int) -> str:
        secret, now_us = new_secret(self._random), self._store.clock.now_us()
        with self._store.write() as write:
            write("DELETE FROM session WHERE until_us < ?", now_us)
            write("DELETE FROM link WHERE until_us < ?", now_us)
            write("INSERT INTO session VALUES (?,?,?,?)", digest(secret), person, now_us, now_us + SESSION_LIFE_US)
        return secret

    # --- passkeys; the ceremonies are the library's

    def passkey_options(self, site: str, person: Person | None) -> dict[str, Any]:
        """What the browser's authenticator is asked: to register for `person`, or without one to sign in."""
        from webauthn import generate_authentication_options, generate_registration_options
        from webauthn.helpers import options_to_json_dict
        from webauthn.helpers.structs import AuthenticatorSelectionCriteria, ResidentKeyRequirement
        from webauthn.helpers.structs import UserVerificationRequirement as Verification

        challenge = self._random.bits(256).to_bytes(32)
        now_us = self._store.clock.now_us()
        self._challenges = {key: value for key, value in self._challenges.items() if value[2] > now_us}
        self._count_try()
        until_us = now_us + _CHALLENGE_LIFE_US
        if person is None:
            self._challenges[challenge] = "sign_in", 0, until_us
            return options_to_json_dict(
                generate_authentication_options(
                    rp_id=site, challenge=challenge, user_verification=Verification.REQUIRED
                )
            )
        self._challenges[challenge] = "register", person.id, until_us
        chosen = AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=Verification.REQUIRED
        )
        return options_to_json_dict(
            generate_registration_options(
                rp_id=site, rp_name="Rocade", user_name=person.name, user_id=person.id.to_bytes(8), challenge=challenge,
                authenticator_selection=chosen,
            )
        )  # fmt: skip

    def register_passkey(self, site: str, origin: str, person: Person, credential: dict[str, Any]) -> None:
        """Raises: Refused `dealer.staff.passkey`."""
        from webauthn import verify_registration_response
        from webauthn.helpers.exceptions import WebAuthnException

        challenge = self._take_challenge(credential, "register", person.id)
        try:
            proven = verify_registration_response(
                credential=credential, expected_challenge=challenge, expected_rp_id=site, expected_origin=origin,
                require_user_verification=True,
            )  # fmt: skip
        except (WebAuthnException, ValueError, KeyError, TypeError):
            raise Refused("dealer.staff.passkey", "the passkey was not accepted; try again") from None
        with self._store.write() as write:
            write(
                "INSERT OR REPLACE INTO passkey VALUES (?,?,?,?,?)",
                proven.credential_id, person.id, proven.credential_public_key, proven.sign_count,
                self._store.clock.now_us(),
            )  # fmt: skip

    def sign_in(self, site: str, origin: str, credential: dict[str, Any]) -> str:
        """The secret of a new session. Raises: Refused `dealer.staff.passkey`, `.busy`."""
        from webauthn import base64url_to_bytes, verify_authentication_response
        from webauthn.helpers.exceptions import WebAuthnException

        challenge = self._take_challenge(credential, "sign_in", 0)
        try:
            raw_id = base64url_to_bytes(str(credential["rawId"]))
            row = self._store.row("SELECT staff, key, counter FROM passkey WHERE id = ?", raw_id)
            if row is None:
                raise Refused("dealer.staff.passkey", "this passkey is not registered here")
            proven = verify_authentication_response(
                credential=credential, expected_challenge=challenge, expected_rp_id=site, expected_origin=origin,
                credential_public_key=row[1], credential_current_sign_count=row[2], require_user_verification=True,
            )  # fmt: skip
        except (WebAuthnException, ValueError, KeyError, TypeError):
            raise Refused("dealer.staff.passkey", "the passkey was not accepted; try again") from None
        with self._store.write() as write:
            write("UPDATE passkey SET counter = ? WHERE id = ?", proven.new_sign_count, raw_id)
        return self._open(int(row[0]))

    def _take_challenge(self, credential: dict[str, Any], purpose: str, person: int) -> bytes:
        """The challenge this answer is for, used up whatever comes of it."""
        from webauthn import base64url_to_bytes

        try:
            data = msgspec.json.decode(base64url_to_bytes(credential["response"]["clientDataJSON"]))
            challenge = base64url_to_bytes(data["challenge"])
        except (ValueError, KeyError, TypeError, msgspec.MsgspecError):
            challenge = b""
        known = self._challenges.pop(challenge, None)
        if known is None or known[:2] != (purpose, person) or known[2] < self._store.clock.now_us():
            raise Refused("dealer.staff.passkey", "the question to the passkey has ended; try again")
        return challenge

    def _count_try(self) -> None:
        """Raises: Refused `dealer.staff.busy`."""
        now_us = self._store.clock.now_us()
        if len(self._tries) == _TRIES and now_us - self._tries[0] < _TRIES_WITHIN_US:
            raise Refused("dealer.staff.busy", "too many attempts; wait a minute")
        self._tries.append(now_us)
