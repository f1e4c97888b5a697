"""Stations' rows from before what was measured there was sealed."""

from rocade.services.charging.stations.older.store import OLDER

__all__ = ["OLDER"]
