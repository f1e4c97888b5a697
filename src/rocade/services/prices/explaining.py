"""What price lists can explain: `release:<list>.<number>`, who put which prices in force from when, and how far it has come."""

from __future__ import annotations

import re

from rocade.core.errors import Refused
from rocade.core.why import About, Chain, Fact
from rocade.services.prices.service import Lists
from rocade.trust.authority.gate.acts import READ_PRICE_LISTS

_ID = re.compile(r"([a-z0-9][a-z0-9-]{0,63})\.(\d{1,9})", re.ASCII)


class Releases:
    def __init__(self, lists: Lists) -> None:
        self._lists = lists

    async def explain(self, rest: str) -> Chain | None:
        asked = _ID.fullmatch(rest)
        if not asked:
            return None
        name, seq = asked[1], int(asked[2])
        try:
            found = await self._lists.releases(name, seq + 1, 1)
            progress = await self._lists.progress(name, seq)
        except Refused:
            return None
        if not found or found[0].seq != seq:
            return None
        (one,) = found
        facts = (
            Fact("release.made", {"released_us": one.released_us, "list": name, "seq": seq, "changes": one.changes}),
            Fact("release.effective", {"effective_us": one.effective_us}),
            Fact("release.head", {"sha256": one.head_sha256}),
            Fact("release.progress", {"applied": progress.applied, "entitled": progress.entitled}),
        )
        return Chain(f"release:{rest}", facts, About((READ_PRICE_LISTS.name,)))
