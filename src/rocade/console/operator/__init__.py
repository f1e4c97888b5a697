"""The operator's pages: the fleet on a map and in a list, one vehicle, ingestion, and the region's papers."""

from rocade.console.operator import fleet, vehicle

HANDLERS = [*fleet.HANDLERS, *vehicle.HANDLERS]

__all__ = ["HANDLERS"]
