"""The relay: TCP services of sites and of the hub, carried over the lines that agents have dialled out.

`session.Session` is one line, the same at both ends (agents use it too); `door.RelayDoor` the hub's end. Whom a stream may
reach is said by the `Switch` the door is given. Decision: docs/decisions/0046-interconnection.md.
"""
