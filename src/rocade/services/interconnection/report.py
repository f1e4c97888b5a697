"""What lines carry and cost, in words a finance director uses: bytes and money by service, line and site; lines to cancel.

Pure arithmetic on hourly counts. A site's price of a month is shared among its services by the bytes they carried. A line can be
cancelled when what remains still carries the site's busiest hour `SPARE` times over, the old private networks first. An hourly
mean hides short peaks, hence the factor; a site nobody measured is never told to cancel anything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from rocade.services.interconnection.model import Line

HOUR_S = 3600
SPARE = 4.0
"""Capacity wanted over the busiest hour's mean."""

type Traffic = Sequence[tuple[str, str, int, int, int]]
"""(site, service, hour_us, up_bytes, down_bytes)"""


class ServiceShare(msgspec.Struct, frozen=True):
    """`cost_minor`: its part of what its sites pay in the period's months, by currency."""

    service: str
    sites: int
    up_bytes: int
    down_bytes: int
    cost_minor: dict[str, int]


class SiteUse(msgspec.Struct, frozen=True):
    """`busiest_kbit_s`: mean of the busiest hour, in the busier direction."""

    site: str
    up_bytes: int
    down_bytes: int
    busiest_kbit_s: float
    capacity_kbit_s: int
    cost_minor: dict[str, int]
    services: dict[str, int]


class LineAdvice(msgspec.Struct, frozen=True):
    """`advice`: keep | cancel | widen; `why`: a code with a sentence in the pages' languages. `saves_minor`: of a month."""

    site: str
    line: str
    supplier: str
    advice: str
    why: str
    capacity_kbit_s: int
    monthly_minor: int
    currency: str
    saves_minor: int


class Report(msgspec.Struct, frozen=True):
    from_us: int
    until_us: int
    services: list[ServiceShare]
    sites: list[SiteUse]
    lines: list[LineAdvice]
    cost_minor: dict[str, int]
    saves_minor: dict[str, int]
    """Of a month, when every line that may be cancelled is."""


def make(traffic: Traffic, lines: Sequence[Line], from_us: int, until_us: int) -> Report:
    """Sum a period up. Cost: one pass over the counts."""
    of_site: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        of_site[line.site].append(line)
    hours: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    services: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for site, service, hour_us, up, down in traffic:
        for counted in (hours[site][hour_us], services[site][service]):
            counted[0] += up
            counted[1] += down
    measured = set(hours)
    uses = [_use(site, hours[site], services[site], of_site[site]) for site in sorted({*measured, *of_site})]
    advice = [one for use in uses for one in _advise(use, of_site[use.site], is_measured=use.site in measured)]
    saves = _sums((one.currency, one.saves_minor) for one in advice if one.saves_minor)
    costs = _sums((line.currency, line.monthly_minor) for line in lines)
    return Report(from_us, until_us, _shares(uses, services), uses, advice, costs, saves)


def _use(site: str, hours: dict[int, list[int]], services: dict[str, list[int]], lines: Sequence[Line]) -> SiteUse:
    busiest = max((max(counted) for counted in hours.values()), default=0) * 8 / HOUR_S / 1000
    return SiteUse(
        site,
        sum(up for up, _ in services.values()),
        sum(down for _, down in services.values()),
        round(busiest, 3),
        sum(line.capacity_kbit_s for line in lines),
        _sums((line.currency, line.monthly_minor) for line in lines),
        {name: up + down for name, (up, down) in sorted(services.items())},
    )


def _shares(uses: Sequence[SiteUse], services: dict[str, dict[str, list[int]]]) -> list[ServiceShare]:
    """Each service's bytes and its part of the sites' lines, the dearest first; rounding leaves no cent over."""
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    costs: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for use in uses:
        for name, (up, down) in services.get(use.site, {}).items():
            total = totals[name]
            total[0], total[1], total[2] = total[0] + 1, total[1] + up, total[2] + down
        for currency, price in use.cost_minor.items():
            for name, part in _split(price, use.services).items():
                costs[name][currency] += part
    shares = [ServiceShare(name, sites, up, down, dict(costs[name])) for name, (sites, up, down) in totals.items()]
    return sorted(shares, key=lambda one: (-sum(one.cost_minor.values()), -one.up_bytes - one.down_bytes, one.service))


def _split(price: int, weights: dict[str, int]) -> dict[str, int]:
    """Whole minor units by weight that add up to the price again: what is over goes by turns to the largest remainders."""
    whole = sum(weights.values())
    if not whole:
        return {}
    parts = {name: price * weight // whole for name, weight in weights.items()}
    over = price - sum(parts.values())
    for name in sorted(weights, key=lambda name: (-(price * weights[name] % whole), name))[:over]:
        parts[name] += 1
    return parts


def _advise(use: SiteUse, lines: Sequence[Line], *, is_measured: bool) -> list[LineAdvice]:
    needed, left = use.busiest_kbit_s * SPARE, use.capacity_kbit_s
    kept = len(lines)
    given: dict[str, tuple[str, str]] = {}
    for line in sorted(lines, key=lambda line: (not line.is_private, -line.monthly_minor, line.name)):
        if is_measured and kept > 1 and left - line.capacity_kbit_s >= needed:
            left -= line.capacity_kbit_s
            kept -= 1
            given[line.name] = "cancel", "private" if line.is_private else "spare"
        elif not is_measured:
            given[line.name] = "keep", "not_measured"
        elif use.capacity_kbit_s < needed:
            given[line.name] = "widen", "busy"
        else:
            given[line.name] = "keep", "needed" if len(lines) > 1 else "only"
    return [
        LineAdvice(
            line.site, line.name, line.supplier, *given[line.name], line.capacity_kbit_s, line.monthly_minor, line.currency,
            line.monthly_minor if given[line.name][0] == "cancel" else 0,
        )
        for line in lines
    ]  # fmt: skip


def _sums(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = defaultdict(int)
    for currency, amount in pairs:
        sums[currency] += amount
    return dict(sorted(sums.items()))
