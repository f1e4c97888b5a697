"""What a process that stood still for some seconds may go on with, for tests that mean something else.

The platform shuts what it cannot be sure of after ten seconds without the database (consents, who sells where) and calls itself not
ready after two; on a machine that does much else a whole test may stand still for so long. That it does shut is tested with
each of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rocade.doors.http import operations
from rocade.services.consent import table as consents
from rocade.services.dealers import table as sites

LONG_S = 600.0


@pytest.fixture(scope="module")
def patience() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as longer:
        longer.setattr(consents, "STALE_S", LONG_S)
        longer.setattr(consents, "READ_S", LONG_S)
        longer.setattr(sites, "STALE_S", LONG_S)
        longer.setattr(operations, "CHECK_TIMEOUT_S", LONG_S)
        yield
