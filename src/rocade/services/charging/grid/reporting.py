"""The report of a depot: what was charged, what it cost against `charged at once`, CO2 the same way, and the peak that was avoided.

Flow: sessions that touch the period (`sessions` keeps their energy, cost and CO2) -> each session's power over time, cut to the
period -> the mean of each quarter of an hour, as grids bill it -> the highest. `At once` is the same energy of each session drawn from
its plug-in at the highest power it was seen to draw, which is what a depot without planning does. A session that lies across an end
of the period counts by its share of energy. Money stays apart by currency: nothing is converted.
Not known here: the building's own load over time, so the peak is that of charging alone.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import numpy as np
from numpy.typing import NDArray

from rocade.core.errors import Refused
from rocade.services.charging import ledger
from rocade.services.charging import store as charging_store
from rocade.services.charging.grid.model import Signal
from rocade.services.charging.model import Session
from rocade.services.charging.service import Charging

QUARTER_US = 900_000_000
LONGEST_US = 400 * 86_400_000_000
type Floats = NDArray[np.float64]


class MoneyLine(msgspec.Struct, frozen=True):
    """Of one currency, minor units. `avoided_minor` may be negative: a departure that allowed no waiting, prices foretold wrong."""

    currency: str
    cost_minor: int
    at_once_minor: int
    avoided_minor: int


class Report(msgspec.Struct, frozen=True):
    """Of one depot and period. Peaks are the highest mean of a quarter of an hour; `unmeasured`: sessions whose power over time is
    unknown, counted evenly from plug-in to plug-out; `on_forecast`: sessions part of whose prices nobody had published.
    """

    site: str
    name: str
    zone: str
    from_us: int
    until_us: int
    sessions: int
    vehicles: int
    energy_kwh: float
    money: tuple[MoneyLine, ...]
    co2_g: int
    at_once_g: int
    avoided_g: int
    peak_kw: float
    peak_us: int
    at_once_peak_kw: float
    at_once_peak_us: int
    avoided_peak_kw: float
    unmeasured: int
    on_forecast: int
    signals: int
    signals_kept: int


class Stay(msgspec.Struct, frozen=True):
    """A session with its power over time, for the peaks. `power_kw` of each quarter of an hour from `first_us` on."""

    session: Session
    first_us: int
    power_kw: Floats
    is_measured: bool = True


async def report(charging: Charging, site: str, from_us: int, until_us: int, signals: Sequence[Signal] = ()) -> Report:
    """Raises: Refused `charging.site.unknown`, `charging.report.period`."""
    if not 0 < until_us - from_us <= LONGEST_US or from_us < 0:
        raise Refused("charging.report.period", "a report is of a period of at most 400 days, from before to")
    about = await charging.site(site)
    async with charging_store.transaction(charging.database) as connection:
        sessions = await ledger.site_sessions(connection, charging.columns, site, from_us, until_us)
    now_us = charging.clock.now_us()
    stays = [await _stay(charging, one, now_us) for one in sessions]
    shares = [_share(stay, from_us, until_us) for stay in stays]
    peak_kw, peak_us = _peak([(stay.first_us, stay.power_kw) for stay in stays], from_us, until_us)
    once_kw, once_us = _peak([_at_once(stay) for stay in stays], from_us, until_us)
    money = _money(sessions, shares)
    co2_g, at_once_g = (round(sum(getattr(one, name) * share for one, share in zip(sessions, shares, strict=True)))
                        for name in ("co2_g", "at_once_g"))  # fmt: skip
    held = [one for one in signals if one.dimming.until_us > from_us and one.dimming.from_us < until_us]
    return Report(
        site, about.name, about.zone, from_us, until_us, len(sessions), len({one.ref for one in sessions}),
        round(sum(one.energy_kwh * share for one, share in zip(sessions, shares, strict=True)), 3), money, co2_g, at_once_g,
        at_once_g - co2_g, peak_kw, peak_us, once_kw, once_us, round(once_kw - peak_kw, 3),
        sum(not stay.is_measured for stay in stays), sum(one.is_forecast for one in sessions), len(held),
        sum(one.within_period is True for one in held),
    )  # fmt: skip


async def _stay(charging: Charging, session: Session, now_us: int) -> Stay:
    """Its energy in each quarter of an hour, by whatever measured it; scaled to the energy the session is accounted with."""
    ended_us = session.ended_us or now_us
    first_us = session.began_us // QUARTER_US * QUARTER_US
    edges = np.arange(first_us, ended_us + QUARTER_US, QUARTER_US)
    edges = edges if len(edges) > 1 else np.array([first_us, first_us + QUARTER_US])
    register, _ = await charging._register(session, None, ended_us)
    energy = np.diff(np.interp(edges, register.time_us, register.kwh)) if len(register.kwh) > 1 else np.zeros(0)
    if is_measured := bool(energy.sum() > 0):
        energy = energy * (session.energy_kwh / energy.sum())
    else:
        spans = np.clip(np.minimum(edges[1:], ended_us) - np.maximum(edges[:-1], session.began_us), 0, None)
        energy = session.energy_kwh * spans / max(spans.sum(), 1)
    return Stay(session, int(first_us), energy * 4, is_measured or not session.energy_kwh)


def _share(stay: Stay, from_us: int, until_us: int) -> float:
    """How much of a session's energy lies in the period."""
    if stay.session.began_us >= from_us and (stay.session.ended_us or until_us) <= until_us:
        return 1.0
    at = stay.first_us + np.arange(len(stay.power_kw)) * QUARTER_US
    inside = (at >= from_us) & (at < until_us)
    total = stay.power_kw.sum()
    return float(stay.power_kw[inside].sum() / total) if total > 0 else float(inside.mean() if len(inside) else 0)


def _at_once(stay: Stay) -> tuple[int, Floats]:
    """The same energy from plug-in on, at the highest power it was seen to draw."""
    session = stay.session
    highest_kw = max(session.peak_kw, float(stay.power_kw.max(initial=0.0)))
    if highest_kw <= 0 or session.energy_kwh <= 0:
        return stay.first_us, np.zeros(1)
    done_us = session.began_us + session.energy_kwh / highest_kw * 3.6e9
    edges = np.arange(stay.first_us, done_us + QUARTER_US, QUARTER_US)
    spans = np.clip(np.minimum(edges[1:], done_us) - np.maximum(edges[:-1], session.began_us), 0, None)
    return stay.first_us, highest_kw * spans / QUARTER_US


def _peak(powers: Sequence[tuple[int, Floats]], from_us: int, until_us: int) -> tuple[float, int]:
    """The highest quarter of an hour of all together, and when; 0 where nothing was drawn."""
    begin, end = from_us // QUARTER_US, -(-until_us // QUARTER_US)
    total = np.zeros(end - begin)
    for first_us, power in powers:
        at = first_us // QUARTER_US - begin + np.arange(len(power))
        inside = (at >= 0) & (at < len(total))
        total[at[inside]] += power[inside]
    if not total.any():
        return 0.0, 0
    highest = int(total.argmax())
    return round(float(total[highest]), 3), (begin + highest) * QUARTER_US


def _money(sessions: Sequence[Session], shares: Sequence[float]) -> tuple[MoneyLine, ...]:
    found: dict[str, tuple[float, float]] = {}
    for one, share in zip(sessions, shares, strict=True):
        if one.currency:
            cost, once = found.get(one.currency, (0.0, 0.0))
            found[one.currency] = cost + one.cost_minor * share, once + one.at_once_minor * share
    return tuple(
        MoneyLine(currency, round(cost), round(once), round(once) - round(cost))
        for currency, (cost, once) in sorted(found.items())
    )


def as_csv(found: Report) -> str:
    """One line a figure: figure, value, unit; a table program opens it as it is."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("figure", "value", "unit"))
    writer.writerows(rows(found))
    return out.getvalue()


def rows(found: Report) -> list[tuple[str, str, str]]:
    """(figure, value, unit), for tables of any kind."""
    lines = [
        ("depot", found.site, ""),
        ("from", _instant(found.from_us), "UTC"),
        ("until", _instant(found.until_us), "UTC"),
        ("sessions", str(found.sessions), ""),
        ("vehicles", str(found.vehicles), ""),
        ("energy", f"{found.energy_kwh:.3f}", "kWh"),
    ]
    for money in found.money:
        lines += [
            ("cost", str(money.cost_minor), f"{money.currency} minor units"),
            ("cost charged at once", str(money.at_once_minor), f"{money.currency} minor units"),
            ("cost avoided", str(money.avoided_minor), f"{money.currency} minor units"),
        ]
    return [
        *lines,
        ("CO2", str(found.co2_g), "g"),
        ("CO2 charged at once", str(found.at_once_g), "g"),
        ("CO2 avoided", str(found.avoided_g), "g"),
        ("peak of charging", f"{found.peak_kw:.3f}", "kW, mean of a quarter of an hour"),
        ("peak charged at once", f"{found.at_once_peak_kw:.3f}", "kW, mean of a quarter of an hour"),
        ("peak avoided", f"{found.avoided_peak_kw:.3f}", "kW"),
        ("sessions without measured power", str(found.unmeasured), ""),
        ("sessions on forecast prices", str(found.on_forecast), ""),
        ("grid signals", str(found.signals), ""),
        ("grid signals kept within the control period", str(found.signals_kept), ""),
    ]


def _instant(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
