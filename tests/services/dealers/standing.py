"""The API of the dealers' room with everybody who could stand before it; real gate, database, authority and people.

Who asks is said by a header; how he is proven is the door's business and tested there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from tests.notebook import Notebook
from tests.services.dealers.conftest import SetClock
from tests.unowned import Unowned

from rocade.core.identifiers import Identity
from rocade.core.ports import SystemRandom
from rocade.doors.http import Access
from rocade.doors.http.application import build
from rocade.fabric.database import Database
from rocade.services.dealers import Dealers, Moving, Orders, SiteTable, api, moving_api
from rocade.trust.authority import Authority
from rocade.trust.authority.gate import Act, Gate, Principal, nobody, of_certificate
from rocade.trust.authority.people import People, Site
from rocade.trust.authority.region import create_region

SECURITY = Principal("person", "person:00000000000000aa", "operator", "passkey", "eu", frozenset({"security"}))
SUPPORT = Principal("person", "person:00000000000000bb", "operator", "passkey", "eu", frozenset({"support"}))


def machine(kind: str, id: str) -> Principal:
    return of_certificate(Identity("rocade.test", "eu", kind, id))


def staff(person: str, dealer: str, means: str = "passkey") -> Principal:
    return Principal("person", person, f"dealer:{dealer}", means, "eu")


class Asked(Access):
    """Takes the caller's word for who he is."""

    who: Principal = nobody("peer:192.0.2.1")

    async def identify(self, scope: Any, act: Act) -> Principal:
        return self.who

    async def _is_touched(self, scope: Any, act: Act) -> bool:
        return b"rocade-touch" in dict(scope["headers"])


class Stand:
    def __init__(
        self,
        database: Database,
        dealers: Dealers,
        table: SiteTable,
        audit: Notebook,
        clock: SetClock,
        trust: Path,
    ) -> None:
        random = SystemRandom()
        self.audit, self.dealers, self.table = audit, dealers, table
        self.people = People(database, audit, clock, random, Site(), "eu")
        self.authority = Authority(
            create_region(trust, "eu", "rocade.test", clock, random), database, audit, clock, random
        )
        gate = Gate("eu", Unowned(), sites=table)
        self._access = Asked(lambda *_: None, lambda _: False, gate, audit, clock)  # type: ignore[arg-type,return-value]
        given = {"dealers": dealers, "site_table": table, "orders": Orders(database, audit, clock),
                 "moving": Moving(database, audit, clock), "authority": self.authority, "people": self.people}  # fmt: skip
        app = build([*api.HANDLERS, *moving_api.HANDLERS], given, self._access, version="0")
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]  # Litestar's own types
        self.client = httpx.AsyncClient(transport=transport, base_url="http://localhost")

    async def ask(
        self, who: Principal, method: str, path: str, *, touch: bool = True, json: Any = None, content: bytes | None = None,
        **query: Any,
    ) -> Any:  # fmt: skip
        """The document of an answer, or the code of a refusal."""
        await self.table.refresh()
        self._access.who = who
        headers = {"rocade-touch": "x"} if touch else {}
        answer = await self.client.request(method, path, params=query, json=json, content=content, headers=headers)
        found = answer.json() if answer.content else {}
        return found["code"] if answer.status_code >= 400 else found
