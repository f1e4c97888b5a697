"""The dealer's side of the road: one process at the point of sale (or hosted, or both), one SQLite file, no server parts.

Flow: `line` holds an MQTT connection over mutual TLS to each hub -> signed price heads come down, `following` fetches the
encrypted blobs and has them applied (`prices`) -> what the dealer's software hands in (`api`) is sealed with the site's own
key and waits on disk (`outbox`) until the hub has it, its receipts are checked and kept -> staff look at it on the LAN
(`lan`, `pages`), with or without the line. `pair` joins an active and a standby agent of one site. `agent.Dealer` ties it
together, `doctor` tests it from outside.
It imports `core`, `wire`, `trust.identity` and the agents' own link: it runs without chDB, PostgreSQL and the console.
"""
