"""Proofs of entries, erasures, growth, forks and receipts: the good ones hold, each forgery is refused for what it is."""

from __future__ import annotations

import pytest
from tests.trust.identity.proof_cases import AT_US, CHANGES, Cases

from rocade.core.errors import Refused
from rocade.core.ports import SystemClock
from rocade.trust.identity import proof

SAYS = {
    "audit entry": "This audit entry is number 7 of the 13",
    "erasure": "Data of vehicle:4711 were erased (scope vehicle)",
    "consistency": "all 6 entries of the older head are the first of the 13",
    "fork": "two different histories of 13 entries",
    "receipt": "This receipt is number 0 of the 1",
}
CODES = {
    "entry under a head from the future": "future",
    "entry without a witness": "witness",
    "entry with another witness": "witness",
    "entry whose witness saw another head": "witness",
    "entry under a stranger's head": "signer",
    "erasure of what is none": "erasure",
    "growth called a fork": "fork",
    "fork of one head": "fork",
    "a proof of no kind": "malformed",
    "entry called a miracle": "malformed",
    "entry whose position is a text": "malformed",
    "entry whose path is no base64": "malformed",
    "receipt of another service": "signer",
    "receipt before its certificate": "signer",
    "receipt before its certificate, in the root's name": "signer",
    "receipt without its chain": "signer",
    "erasure with other counts": "path",
    "growth from another root": "path",
    "growth to another root": "path",
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    return Cases(tmp_path_factory.mktemp("cases"))


def judge(cases: Cases, kind: str, file: bytes) -> str:
    """The first sentence, or the code."""
    now_us = SystemClock().now_us() if kind == "receipt" else AT_US + 10**9
    seen_by = [proof.read_key(cases.witness)] if kind in {"audit entry", "erasure", "consistency"} else []
    try:
        return proof.verify(file, proof.read_trust(cases.trust[kind]), witnesses=seen_by, now_us=now_us)[0]
    except Refused as refusal:
        return refusal.code


@pytest.mark.parametrize("kind", SAYS)
def test_a_good_proof_says_what_it_proves(cases: Cases, kind: str) -> None:
    assert SAYS[kind] in judge(cases, kind, cases.files[kind])


def test_an_erasure_says_what_was_removed(cases: Cases) -> None:
    said = proof.verify(cases.files["erasure"], proof.read_trust(cases.trust["erasure"]))
    assert "12000 stored rows, 3 files of the history that held them, 0 that still do" in said[1]
    assert "40 records of the log, 2 records of the archive" in said[1]
    assert "erasure e-7, entry 4 of the ledger" in said[2]


def test_each_forgery_is_refused_for_what_it_is(cases: Cases) -> None:
    forged = cases.forged()
    assert len(forged) > len(CHANGES) + 9
    said = {name: judge(cases, kind, file) for name, (kind, file) in forged.items()}
    wrong = {name: code for name, code in said.items() if not code.startswith("proof.")}
    assert wrong.pop("entry under another's head").startswith("This audit entry")  # the root itself may sign
    assert wrong == {}
    assert {name: said[name] for name in CODES} == {name: f"proof.{code}" for name, code in CODES.items()}


def test_brackets_within_brackets_are_no_proof(cases: Cases) -> None:
    deep = b"[" * 200_000 + b"]" * 200_000
    made = cases.files["audit entry"].strip()[:-1] + b',"more":' + deep + b"}"
    with pytest.raises(Refused, match=r"proof\.malformed"):
        proof.verify(made, proof.read_trust(cases.trust["audit entry"]))
