"""People: sign-in by passkey, sessions, one-time links, touches, duties. No passwords, no SMS.

`People` is the front: `session` says who holds a browser's secret, `redeem_touch` proves a fresh passkey touch for one act,
`add`, `link`, `recover`, `lend`, `end` are a second person's acts; `.passkeys`, `.touches`, `.sessions`, `.links` do the
ceremonies. It knows no HTTP: `doors.http.signin` speaks to browsers. Decision: docs/decisions/0034-people.md.
"""

from rocade.trust.authority.people.model import DUTIES, Duty, Passkey, Person, Session, Site
from rocade.trust.authority.people.service import People

__all__ = ["DUTIES", "Duty", "Passkey", "People", "Person", "Session", "Site"]
