"""Live samples: whatever a program in the car says comes out of the journal as it was said."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rocade.agents.vehicle.agent import Agent
from rocade.agents.vehicle.journal import Journal
from rocade.agents.vehicle.recorder import Recorder
from rocade.core.catalogue import Catalogue
from rocade.core.errors import Refused
from rocade.core.ports import SystemClock
from rocade.wire.batch import decode_many

START_US = 1_700_000_040_000_000


async def test_samples_become_batches_by_the_minute(
    make_journal: Callable[..., Journal], make_agent: Callable[[Journal], Agent], standard: Catalogue
) -> None:
    journal = make_journal()
    recorder = Recorder(make_agent(journal), standard, SystemClock(), "renault")
    for second in (61, 0, 1, 2):
        recorder.sample("Vehicle.Speed", 10.25 + second, START_US + second * 1_000_000)
        recorder.sample("Soc", 50 - second, START_US + second * 1_000_000)
    recorder.sample("Mode", "D", START_US)
    recorder.sample("Vehicle.IsMoving", value=True, at_us=START_US)
    assert recorder.flush() == 10
    assert recorder.flush() == 0
    decoded = decode_many([entry.body for entry in journal.waiting(0, 9)])
    found = [
        (standard.by_id(int(signal)).name, list(decoded.columns.values_of(place)), decoded.clocks.times_of(int(decoded.columns.clock[place])).tolist())
        for place, signal in enumerate(decoded.columns.signal)
    ]  # fmt: skip
    speeds = sorted((one for one in found if one[0] == "Vehicle.Speed"), key=lambda one: one[2])
    assert [values for _, values, _ in speeds] == [[10.25, 11.25, 12.25], [71.25]]
    assert speeds[0][2] == [START_US, START_US + 1_000_000, START_US + 2_000_000]
    assert ("Vehicle.Renault.DriveMode", ["D"], [START_US]) in found
    assert any(name == "Vehicle.IsMoving" and values == [True] for name, values, _ in found)
    assert len(decoded.reasons) == 2


async def test_unknown_names_and_mixed_types_are_refused(
    make_journal: Callable[..., Journal], make_agent: Callable[[Journal], Agent], standard: Catalogue
) -> None:
    recorder = Recorder(make_agent(make_journal()), standard, SystemClock())
    with pytest.raises(Refused):
        recorder.sample("Vehicle.Nothing", 1)
    recorder.sample("Vehicle.Speed", 1)
    with pytest.raises(Refused) as refused:
        recorder.sample("Vehicle.Speed", "fast")
    assert refused.value.code == "recorder.value"
