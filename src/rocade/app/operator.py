"""The operator's identity as the command line uses it: renewed when due, and what to do when it has ended.

`init` gives an operator certificate of seven days. Each command renews it over EST once two thirds of its life are over;
a renewal that fails is said and tried again by the next command. One that has ended proves nothing any more: whoever
holds the region's disk issues a new one (`rocade operator renew`), recorded like every certificate.
"""

from __future__ import annotations

import fcntl
import os
import sys
from datetime import UTC, datetime

from rocade.app.configuration import Configuration
from rocade.core.errors import Misconfigured, RocadeError
from rocade.core.ports import Clock, SystemClock
from rocade.trust.identity.directory import load_leaf, renewal_due_us
from rocade.trust.identity.issuers import to_us


def keep(configuration: Configuration, clock: Clock | None = None) -> None:
    """Renew the operator's certificate if that is due.

    Raises: Misconfigured `app.operator.ended`, `trust.directory.*`.
    """
    now_us = (clock or SystemClock()).now_us()
    leaf = load_leaf(configuration.operator)
    end_us = to_us(leaf.not_valid_after_utc)
    day = datetime.fromtimestamp(end_us / 1e6, UTC).date()
    if now_us >= end_us:
        raise Misconfigured(
            "app.operator.ended",
            f"the operator certificate ended on {day}; on the region's own machine "
            f"`rocade operator renew --config {configuration.root}` issues a new one",
        )
    if now_us >= renewal_due_us(leaf) and (problem := _renew(configuration)):
        print(f"rocade: the operator certificate ends on {day} and was not renewed: {problem}", file=sys.stderr)


def _renew(configuration: Configuration) -> str:
    """Renew over EST unless another command is at it; what went wrong, or ''."""
    from rocade.trust.identity import est_client

    lock = os.open(configuration.operator / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        est_client.renew(est_client.Server("localhost", configuration.est.port), configuration.operator)
    except BlockingIOError:
        return ""
    except RocadeError as error:
        return f"{error.message}  [{error.code}]"
    finally:
        os.close(lock)
    return ""
