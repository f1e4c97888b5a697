"""The limits docs/trust.md lists are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from rocade.doors.http import application, oauth
from rocade.services.consent import model as consent
from rocade.services.telemetry import history_api
from rocade.services.vehicles import api as vehicles_api
from rocade.trust.authority import attempts, audit, authority
from rocade.trust.authority.machines import tokens
from rocade.trust.authority.people import limits, passkeys

PAGE = (Path(__file__).resolve().parents[2] / "docs/trust.md").read_text("utf-8")
LIMITS = {
    "wrong answers of passkeys": limits.FAILURES,
    "sign-ins begun": limits.BEGINNINGS,
    "access tokens": (tokens.ISSUED_A_MINUTE,),
    "wrong claim codes": (attempts.FAILURES, attempts.WINDOW_S),
    "live certificates": (authority.LIVE_LIMIT,),
    "a request's body": (application.MAX_BODY_BYTES, oauth.FORM_LIMIT_BYTES),
    "vehicles of one question": (history_api.MAX_VEHICLES, vehicles_api.STREAMED_VEHICLES),
    "consents of one vehicle": (consent.GRANT_LIMIT, consent.GUEST_LIMIT),
    "passkeys of one person": (passkeys.LIMIT,),
    "entries a second": (audit.SAME_PER_S,),
}


def test_every_limit_stands_there_with_its_value() -> None:
    table = PAGE.partition("## Limits on how often and how much")[2].partition("\n## ")[0]
    rows = {row[0]: row[1] for row in re.findall(r"^\| ([^|]+) \| ([^|]+) \|", table, re.MULTILINE)}
    wrong = []
    for what, values in LIMITS.items():
        said = next((limit for name, limit in rows.items() if name.startswith(what)), "")
        if [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", said)] != [int(one) for one in values]:
            wrong.append(f"{what}: {said!r} is not {values}")
    assert wrong == []
