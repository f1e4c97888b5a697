"""`rocade why`, as people use it: a code without a region, ids of a running one, the hint beside a refusal."""

from __future__ import annotations

import json

import httpx
import pytest
from click.testing import CliRunner
from tests.app.conftest import Car
from tests.app.stand import Region

from rocade.app.cli import main
from rocade.app.client import _raise_problem
from rocade.core.errors import Refused, Unavailable
from rocade.core.why import LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_code_is_explained_where_no_region_runs(language: str) -> None:
    done = CliRunner().invoke(main, ["why", "trust.certificate.expired", "--language", language])
    assert done.exit_code == 0
    assert len(done.output.splitlines()) == 3
    as_json = CliRunner().invoke(main, ["why", "quality.jump", "--language", language, "--json"])
    assert [bool(one["text"]) for one in json.loads(as_json.output)["sentences"]] == [True] * 3


def test_a_language_that_is_not_spoken_is_wrong_use() -> None:
    assert CliRunner().invoke(main, ["why", "quality.jump", "--language", "de"]).exit_code == 2


def test_ids_of_a_running_region_lead_from_one_to_the_next(region: Region, car: Car) -> None:
    tail = [json.loads(line) for line in region.rocade("audit", "tail", "-n", "100").splitlines()]
    enrolled = next(one for one in tail if one["action"] == "trust.enrol" and "certificate:" in one["subject"])
    told = region.rocade("why", f"audit:{enrolled['position']}")
    assert "a claim code was traded for a certificate" in told
    assert f"[{enrolled['subject']}]" in told
    assert f"[audit:{enrolled['position']}]" in region.rocade("why", enrolled["subject"])
    claimed = next(one for one in tail if one["action"] == "trust.claim" and one["position"] < enrolled["position"])
    assert enrolled["subject"] in region.rocade("why", claimed["subject"], "--language", "fr")
    assert car.vin not in told
    region.rocade("why", "audit:99999999", code=1, says="[why.unknown]")
    ref = json.loads(region.rocade("twin", car.vin, "--json"))["ref"]
    assert "fleet's own" in region.rocade("why", f"vehicle:{ref}")


PROBLEMS = [
    (403, {"code": "gate.denied", "detail": "no", "why": "/v1/why/0123456789abcdef"}, Refused, "0123456789abcdef"),
    (404, {"code": "vehicles.unknown", "detail": "no", "why": "/v1/why/vehicles.unknown"}, Refused, None),
    (503, {"code": "log.down", "detail": "no"}, Unavailable, None),
]


@pytest.mark.parametrize(("status", "problem", "family", "why"), PROBLEMS)
def test_a_refusal_that_is_written_down_comes_with_its_id(
    status: int, problem: dict[str, str], family: type[Exception], why: str | None
) -> None:
    with pytest.raises(family) as caught:
        _raise_problem(httpx.Response(status, json=problem))
    assert caught.value.facts.get("why") == why  # type: ignore[attr-defined]  # both families have facts
