"""People's rows from before names were sealed."""

from rocade.trust.authority.people.older.store import OLDER

__all__ = ["OLDER"]
