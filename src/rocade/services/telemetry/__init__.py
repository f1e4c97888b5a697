"""Telemetry: what vehicles send, from the gateway's check to twin and history, and what is missing of it.

`TelemetryIntake` runs in the gateway (structure check, quota, log), `Worker` takes records from the log to twin and
history exactly once, `Asker` asks vehicles for missing numbers, `Ledger` and `quarantine` are for operators' questions; `store`
reads history for services that stand on telemetry.
"""

from rocade.services.telemetry import chunks, quarantine, store
from rocade.services.telemetry.erasing import Eraser, Place
from rocade.services.telemetry.export import Sink
from rocade.services.telemetry.handover import Forget, Handover
from rocade.services.telemetry.hiding import follow_erased, hide_erased
from rocade.services.telemetry.intake import Quota, TelemetryIntake
from rocade.services.telemetry.ledger import Ledger
from rocade.services.telemetry.quality import Rules
from rocade.services.telemetry.resend import Asker
from rocade.services.telemetry.trips import Series, series_of
from rocade.services.telemetry.worker import Worker

__all__ = [
    "Asker",
    "Eraser",
    "Forget",
    "Handover",
    "Ledger",
    "Place",
    "Quota",
    "Rules",
    "Series",
    "Sink",
    "TelemetryIntake",
    "Worker",
    "chunks",
    "follow_erased",
    "hide_erased",
    "quarantine",
    "series_of",
    "store",
]
