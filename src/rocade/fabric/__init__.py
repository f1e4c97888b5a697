"""What Rocade runs on, each need behind a small interface with an embedded and a distributed engine.

`database` (PostgreSQL), `log` (durable streams), `history` (columnar time series), later `blobs`. No business words.
"""
