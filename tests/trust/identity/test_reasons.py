"""Every reason the code can give stands in docs/trust.md."""

import re
from pathlib import Path

import pytest

from rocade.trust.identity import certificates, der, names, tls

DOCUMENT = Path(__file__).parents[3].joinpath("docs/trust.md").read_text("utf-8")
REASON = re.compile(r'(?:refuse\(|return \(?|only_service\(kind,)\s*"(\w+)",|"(uri_\w+)"')


@pytest.mark.parametrize("module", [certificates, names, der])
def test_every_reason_of_the_check_stands_in_the_document(module: object) -> None:
    source = Path(str(getattr(module, "__file__", ""))).read_text("utf-8")
    reasons = {first or second for first, second in REASON.findall(source)}
    assert len(reasons) >= 4
    assert {reason for reason in reasons if f"| `{reason}` |" not in DOCUMENT} == set()


def test_every_reason_of_the_handshake_stands_in_the_document() -> None:
    reasons = {*tls._VERIFY_REASONS.values(), *tls._SSL_REASONS.values(), "certificate", "protocol", "alert", "timeout"}
    assert {reason for reason in reasons if f"`{reason}`" not in DOCUMENT} == set()
