"""A software vendor's first day: a small hub, three points of sale and a pretend DMS on one machine, and a report of how one did.

`hub.Sandbox` runs it, `watching.Watched` writes down what the vendor's program does and loses its first receipt on purpose,
`conformance` turns that into a report, `rehearsal` is our own client going through all of it.
"""
