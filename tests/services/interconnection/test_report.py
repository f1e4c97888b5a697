"""The report of lines: bytes, money, and what may be cancelled."""

from __future__ import annotations

from rocade.services.interconnection import report
from rocade.services.interconnection.model import Line
from rocade.services.interconnection.report import HOUR_S

HOUR_US = 3_600_000_000


def kbit_s(rate: float) -> int:
    """Bytes of an hour at a mean rate."""
    return int(rate * 1000 / 8 * HOUR_S)


FIBRE = Line(site="FR-1", name="fibre", supplier="Telco", capacity_kbit_s=100_000, monthly_minor=4_900)
MPLS = Line(site="FR-1", name="mpls", supplier="Carrier", capacity_kbit_s=2_000, monthly_minor=39_000, is_private=True)
LTE = Line(site="FR-1", name="lte", capacity_kbit_s=10_000, monthly_minor=1_900)


def test_the_old_private_network_is_the_first_to_cancel_and_the_last_line_is_never() -> None:
    traffic = [("FR-1", "till", 0, kbit_s(1_000), 10), ("FR-1", "till", HOUR_US, 10, 10)]
    made = report.make(traffic, [FIBRE, MPLS, LTE], 0, 1)
    advice = {one.line: (one.advice, one.why) for one in made.lines}
    assert advice == {"mpls": ("cancel", "private"), "fibre": ("cancel", "spare"), "lte": ("keep", "needed")}
    assert made.saves_minor == {"EUR": 43_900}
    assert made.cost_minor == {"EUR": 45_800}


def test_a_line_that_is_needed_for_the_busiest_hour_stays() -> None:
    made = report.make([("FR-1", "backup", 0, 5, kbit_s(20_000))], [FIBRE, MPLS, LTE], 0, 1)
    assert {one.line: one.advice for one in made.lines} == {"mpls": "cancel", "fibre": "keep", "lte": "cancel"}
    assert made.sites[0].busiest_kbit_s == 20_000


def test_too_small_a_line_is_to_be_widened_and_an_unmeasured_site_keeps_all() -> None:
    other = Line(site="FR-2", name="dsl", capacity_kbit_s=1_000, monthly_minor=100)
    made = report.make([("FR-2", "till", 0, kbit_s(900), 0)], [FIBRE, MPLS, other], 0, 1)
    assert [(one.site, one.advice, one.why) for one in made.lines] == [
        ("FR-1", "keep", "not_measured"), ("FR-1", "keep", "not_measured"), ("FR-2", "widen", "busy"),
    ]  # fmt: skip


def test_the_cost_of_a_site_is_shared_by_bytes_to_the_last_cent() -> None:
    line = Line(site="FR-1", name="a", capacity_kbit_s=1_000, monthly_minor=100)
    made = report.make([("FR-1", name, 0, 1, 0) for name in ("a", "b", "c")], [line], 0, 1)
    assert sorted(share.cost_minor["EUR"] for share in made.services) == [33, 33, 34]
    assert sum(share.cost_minor["EUR"] for share in made.services) == 100
    assert {share.sites for share in made.services} == {1}
