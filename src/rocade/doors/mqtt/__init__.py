"""The road's entrance: an MQTT 3.1.1 and 5 ingest gateway over TLS 1.3 with mandatory client certificates.

Parties publish to `rocade/v1/<own id>/up/<tail>` (vehicles: batch, json) and subscribe below `rocade/v1/<own id>/down/`; nothing is
routed between clients, nothing is retained. A PUBACK leaves after `Intake.accept` has the message on disk.
`Door(...)`, `await open(host, port)`, `await drain()`. Rules and figures: docs/decisions/0008-mqtt-door.md, 0019.
"""

from rocade.doors.mqtt.contract import (
    Client,
    Intake,
    OneGateway,
    Publish,
    Sessions,
    Settings,
    Verdict,
    Verified,
)
from rocade.doors.mqtt.door import Door
from rocade.doors.mqtt.meter import Histogram, Meter

__all__ = [
    "Client",
    "Door",
    "Histogram",
    "Intake",
    "Meter",
    "OneGateway",
    "Publish",
    "Sessions",
    "Settings",
    "Verdict",
    "Verified",
]
