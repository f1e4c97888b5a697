"""Telling somebody at an address he chose: POSTs that reach public addresses only (`posting`), signed as Standard Webhooks has it
(`signing`). What is told, to whom and when is the services' business (`exchange.webhooks`, `sharing`).
"""

from rocade.doors.webhooks.posting import Kept, Poster, target_of

__all__ = ["Kept", "Poster", "target_of"]
