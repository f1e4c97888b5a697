"""`free_port`, for what has to be told its port before it starts."""

from __future__ import annotations

from rocade.fabric.ports import free_port

__all__ = ["free_port"]
