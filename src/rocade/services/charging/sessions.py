"""Sessions: a car is plugged in, charges some, is unplugged; what it drew and what that cost against `charged at once`.

Found by `replanning` from the twin, from a station, or from both: a car has one session at a time, whoever saw it. While it
lasts it is reckoned again now and then; when it ends, at once, and once more a quarter of an hour later, when what was measured out
of reach has come. A station's meter counts before the car's telemetry: it stands where the energy is paid.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import numpy as np

from rocade.core.errors import RocadeError
from rocade.services.charging import accounting, errors, ledger, store
from rocade.services.charging.accounting import Account, Register
from rocade.services.charging.acting import Acts, Picture
from rocade.services.charging.model import Session, SessionsPage

SETTLED_US = 900_000_000
PAGE_LIMIT = 200
_CURSOR = re.compile(r"[0-9a-f]{1,15}", re.ASCII)


class Sessions(Acts):
    """Reading sessions, and keeping their accounts."""

    async def sessions(self, ref: int, cursor: str | None = None, limit: int = 50) -> SessionsPage:
        """The newest first. Raises: Refused `charging.cursor`."""
        if cursor is not None and not _CURSOR.fullmatch(cursor):
            raise errors.bad_cursor()
        limit = max(1, min(limit, PAGE_LIMIT))
        before_us = int(cursor, 16) if cursor else (1 << 62)
        found: list[Session] = await store.fetch(
            self.database, ledger.sessions, self.columns, ref, before_us, limit + 1
        )
        more = len(found) > limit
        return SessionsPage(found[:limit], f"{found[limit - 1].began_us:x}" if more else None)

    async def session(self, ref: int, id: str) -> Session:
        """Raises: Refused `charging.session.unknown`."""
        found: Session | None = await store.fetch(self.database, ledger.session, self.columns, id)
        if found is None or found.ref != ref:
            raise errors.session_unknown()
        return found

    async def begin(self, connection: Any, picture: Picture) -> Session:
        """A car was plugged in."""
        now, now_us = picture.now, self.clock.now_us()
        began_us = now.plugged_us if 0 < now.plugged_us <= now_us else now_us
        site = await self._site_of(connection, picture)
        session = Session(
            f"cs-{self.engines.random.bits(64):016x}",
            now.ref,
            began_us,
            site=site,
            station=now.connector,
            source="both" if picture.station else "telemetry",
            soc_begin=now.soc_percent,
            soc_end=now.soc_percent,
        )
        await ledger.put_session(connection, self.columns, session, now_us)
        return session

    async def reckon(self, connection: Any, session: Session, picture: Picture | None, *, ended_us: int = 0) -> Session:
        """Account a session as far as it is measured; with `ended_us` it ends there."""
        now_us = self.clock.now_us()
        until_us = max(ended_us or session.ended_us or now_us, session.began_us + 1)
        goal = picture.goal if picture else None
        tariff, carbon = await self._series_names(connection, session, picture)
        price = await self.series_of(connection, tariff)
        grams = await self.series_of(connection, carbon)
        register, source = await self._register(session, picture, until_us)
        max_kw = picture.car.max_kw if picture else 0.0
        found: Account = accounting.account(register, session.began_us, until_us, price, grams, max_kw)
        now = picture.now if picture else None
        lasts = not (ended_us or session.ended_us)
        changed = msgspec.structs.replace(
            session,
            ended_us=ended_us or session.ended_us,
            station=session.station or (now.connector if now else ""),
            energy_kwh=found.energy_kwh,
            cost_minor=found.cost_minor,
            currency=price.currency if price else "",
            co2_g=found.co2_g,
            at_once_minor=found.at_once_minor,
            at_once_g=found.at_once_g,
            source=source,
            soc_end=now.soc_percent if now and (lasts or ended_us) else session.soc_end,
            peak_kw=found.peak_kw,
            goal_version=goal.version if goal else session.goal_version,
            tariff=tariff,
            carbon=carbon,
            is_forecast=found.is_forecast,
        )
        await ledger.put_session(
            connection, self.columns, changed, now_us, is_settled=bool(session.ended_us) and not ended_us
        )
        return changed

    async def settle(self, connection: Any) -> int:
        """Reckon once more what ended a while ago; how many."""
        due = await ledger.unsettled(connection, self.columns, self.clock.now_us() - SETTLED_US)
        pictures = await self.pictures(connection, [one.ref for one in due]) if due else {}
        for session in due:
            await self.reckon(connection, session, pictures.get(session.ref))
        return len(due)

    async def _register(self, session: Session, picture: Picture | None, until_us: int) -> tuple[Register, Any]:
        """Energy over time: by the station's meter, else by telemetry, else by what the battery gained."""
        source = session.source
        stations, meters = self.engines.stations, self.engines.meters
        connector = session.station or (picture.now.connector if picture else "")
        if stations is not None and connector:
            read = await stations.energy(connector, session.began_us, until_us)
            register = accounting.register_of_meter([at for at, _ in read], [kwh for _, kwh in read])
            if register.total_kwh > 0:
                return register, "both" if source != "station" else source
        if meters is not None:
            try:
                power = await meters.power(session.ref, session.began_us, until_us)
            except RocadeError:  # the history is away: what the battery gained will do until it is back
                power = None
            if power is not None and len(power.time_us):
                efficiency = picture.car.efficiency if picture and not power.is_at_plug else 1.0
                return accounting.register_of_power(power.time_us, power.kw / efficiency, until_us), source
        return _gained(session, picture, until_us), source

    async def _site_of(self, connection: Any, picture: Picture) -> str:
        places = await store.places(connection, refs=[picture.now.ref])
        return places[0].site if places else picture.now.site

    async def _series_names(self, connection: Any, session: Session, picture: Picture | None) -> tuple[str, str]:
        """By whose prices a session is reckoned: the driver's, else the depot's."""
        goal = picture.goal if picture else None
        tariff, carbon = session.tariff, session.carbon
        if goal is not None and not session.ended_us:
            tariff, carbon = goal.tariff or tariff, goal.carbon or carbon
        if session.site and not (tariff and carbon):
            site = (await store.sites(connection, [session.site])).get(session.site)
            tariff, carbon = tariff or (site.tariff if site else ""), carbon or (site.carbon if site else "")
        return tariff, carbon


def _gained(session: Session, picture: Picture | None, until_us: int) -> Register:
    """A straight line by the state of charge, where nothing measured power."""
    end = picture.now.soc_percent if picture else session.soc_end
    if session.soc_begin is None or end is None or picture is None or end <= session.soc_begin:
        return Register(np.zeros(0, np.int64), np.zeros(0))
    kwh = (end - session.soc_begin) / 100 * picture.car.capacity_kwh / picture.car.efficiency
    return Register(np.array([session.began_us, until_us]), np.array([0.0, kwh]))
