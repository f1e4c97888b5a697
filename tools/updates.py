"""Is everything locked here at its newest release, or the newer one younger than its days? The documented times: docs/updates.md.

    make updates      (.venv/bin/python tools/updates.py ...)

Flow: every locked version and the newest there is (newest_releases.py: pip, npm and apt answer) -> what is behind, since when a newer
release is out and until when it may stay -> what is held back on purpose (tools/updates.toml) -> the age of the locks -> a table,
build/updates.json, and an exit code: 0 everything within its days, 1 something is overdue, 2 could not be asked.

Days count from the release of the first one newer than what is locked; where nobody tells that day, from the day the locks were renewed.
A package that is only built and tested with may be held by those that need it (npm says who); whatever is installed may not without
a line in tools/updates.toml, and such a line holds one below a version: within that line the same days hold.
Refuses: a package nobody answers for, a hold without a reason or an end.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import newest_releases
from advisories import DAYS, DEVELOPMENT_DAYS, RENEWED_DAYS, ROOT, Unreadable, lock_age_days
from advisory_matching import Locked, is_before
from newest_releases import Newest, NotAsked

STATES = ("overdue", "in time", "held", "held by others")


@dataclass(frozen=True)
class Hold:
    ecosystem: str
    name: str
    below: str
    reason: str
    until: date


@dataclass(frozen=True)
class Behind:
    ecosystem: str
    name: str
    version: str
    newest: str
    released: str
    """The day of the first release after the locked one; empty where nobody tells."""
    until: str
    state: str
    """One of STATES."""
    reason: str


def main(arguments: Sequence[str] | None = None, today: date | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=ROOT / "build/updates.json")
    options = parser.parse_args(arguments)
    on = today or datetime.now(UTC).date()
    try:
        holds = read_holds(options.root / "tools/updates.toml", on)
        age = lock_age_days(options.root, on)
        answers = newest_releases.newest_of(options.root)
        renewed = on - timedelta(days=age)
        found = judge(answers, holds, renewed, on, newest_releases.released, newest_releases.releases)
    except (Unreadable, NotAsked) as error:
        print(error, file=sys.stderr)
        return 2
    is_old = age > RENEWED_DAYS
    report = {
        "on": on.isoformat(), "components": len(answers), "lock_age_days": age, "locks_overdue": is_old,
        "behind": [asdict(one) for one in found],
    }  # fmt: skip
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    show(found)
    counts = ", ".join(f"{sum(one.state == state for one in found)} {state}" for state in STATES)
    print(
        f"{len(answers)} components, {len(answers) - len(found)} at the newest release, {counts}; locks renewed {age} days ago"
    )
    if is_old:
        print(f"the locks are older than {RENEWED_DAYS} days: make lock UPGRADE=--upgrade", file=sys.stderr)
    return int(is_old or any(one.state == "overdue" for one in found))


def judge(
    answers: Mapping[Locked, Newest],
    holds: Sequence[Hold],
    renewed: date,
    on: date,
    released: Callable[[Locked, str, date], date | None],
    releases: Callable[[Locked], list[str]],
) -> list[Behind]:
    """What is behind its newest release, worst first. Raises: NotAsked."""
    found: list[Behind] = []
    for one, newest in answers.items():
        if not is_before(one.ecosystem, one.version, newest.version):
            continue
        hold = _hold_of(one, holds)
        is_held = hold is not None and hold.until >= on
        target = _newest_below(one, hold.below, releases(one)) if hold and is_held else newest.version
        row = functools.partial(Behind, one.ecosystem, one.name, one.version)
        if is_before(one.ecosystem, one.version, target) and not (newest.holders and one.is_development):
            day = released(one, target, on)
            until = (day or renewed) + timedelta(days=_days(one))
            ended = f"its hold ended on {hold.until}: {hold.reason}" if hold and not is_held else ""
            state = "overdue" if on > until else "in time"
            found.append(row(target, day.isoformat() if day else "", until.isoformat(), state, ended))
        elif hold and is_held:
            found.append(row(newest.version, "", hold.until.isoformat(), "held", f"below {hold.below}: {hold.reason}"))
        else:
            found.append(row(newest.version, "", "", "held by others", f"by {newest.holders}"))
    return sorted(found, key=lambda one: (STATES.index(one.state), one.until, one.ecosystem, one.name))


def _days(one: Locked) -> int:
    """No release says for sure what it mends: each counts as if it mended something of unknown severity."""
    return DEVELOPMENT_DAYS if one.is_development else DAYS["unknown"]


def _hold_of(one: Locked, holds: Sequence[Hold]) -> Hold | None:
    return next(
        (
            hold
            for hold in holds
            if (hold.ecosystem, hold.name) == (one.ecosystem, one.name)
            and is_before(one.ecosystem, one.version, hold.below)
        ),
        None,
    )


def _newest_below(one: Locked, below: str, versions: Sequence[str]) -> str:
    newest = one.version
    for version in versions:
        if is_before(one.ecosystem, version, below) and is_before(one.ecosystem, newest, version):
            newest = version
    return newest


def read_holds(path: Path, on: date) -> list[Hold]:
    """What is held back on purpose; those whose day has passed too, they hold no longer. Raises: Unreadable."""
    try:
        entries = tomllib.loads(path.read_text("utf-8")).get("held", []) if path.exists() else []
        holds = [Hold(**entry) for entry in entries]
        for hold in holds:
            if not hold.reason.strip() or hold.until > on + timedelta(days=366):
                raise Unreadable(f"{path}: {hold.name} needs a reason, and an end within a year")
    except (TypeError, AttributeError, tomllib.TOMLDecodeError) as error:
        raise Unreadable(f"{path}: a hold has ecosystem, name, below, reason and until (a date): {error}") from error
    return holds


def show(found: Sequence[Behind]) -> None:
    """A table of all but what others hold; those are in build/updates.json."""
    rows = [("state", "allowed until", "component", "locked", "newest", "newer since", "why")]
    rows += [
        (one.state, one.until, f"{one.ecosystem} {one.name}", one.version, one.newest, one.released or "-", one.reason)
        for one in found
        if one.state != "held by others"
    ]
    widths = [max(len(row[at]) for row in rows) for at in range(6)]
    for row in rows if len(rows) > 1 else ():
        print("  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[6]]).rstrip())


if __name__ == "__main__":
    sys.exit(main())
