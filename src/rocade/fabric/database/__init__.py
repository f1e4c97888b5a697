"""PostgreSQL: an embedded server or any server >= 15 by URL, connections, migrations, partition leases.

Flow at start: `EmbeddedPostgres(directory).start()` (or `ROCADE_DATABASE_URL`) gives a URL, `migrate(url, packages)`
brings every package's tables up, `Database.connect(url)` opens the connections. Decision: docs/decisions/0003-database.md.
"""

from rocade.fabric.database.connection import Database
from rocade.fabric.database.embedded import EmbeddedPostgres
from rocade.fabric.database.leases import Leases
from rocade.fabric.database.migration import migrate

__all__ = ["Database", "EmbeddedPostgres", "Leases", "migrate"]
