"""Rows from before their column was sealed are sealed once, at the first start after the migration, before any role runs.

Each room says how its columns are sealed (`Older`); what is done is marked in a table, so that a start asks one question. The
tables are written anew then (VACUUM FULL): no dead row keeps what stood there. Old segments of PostgreSQL's own log
are used again in its time, and backups from before hold what they held: docs/sealing.md.
"""

from rocade.trust.authority.sealing.older.store import Older, body, seal_older

__all__ = ["Older", "body", "seal_older"]
