"""The vehicle's side of the road: samples in, batches out, nothing lost on the way.

Flow: a source (`tables` for CSV, `can_logs` for CAN, `simulation`) gives `Series` -> `batching` packs them by the minute
-> `journal` keeps the bodies on disk -> `link` sends them over mutual TLS and MQTT 5 -> what the platform acknowledged
leaves the journal after a while, so that a resend request can still be answered. `agent.Agent` ties it together,
`replay` sends whole log files through it, `fleet` runs many simulated vehicles.
It imports `core`, `wire` and `trust.identity` only: it must run in a car without the platform.
"""
