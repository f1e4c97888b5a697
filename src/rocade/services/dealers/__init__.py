"""Dealers: who is at the other end of the dealer road. Groups, companies, points of sale, brands, providers, people's roles.

`Dealers` holds the acts and the reading, `SiteTable` the same in memory for every process that decides, `importing` takes a
whole network from CSV, `opening` reads opening hours.
"""

from rocade.services.dealers import opening
from rocade.services.dealers.importing import Report, import_file
from rocade.services.dealers.model import (
    FOREVER_US,
    MOVE_STATES,
    PROVIDER_ACTS,
    ROLES,
    BrandAt,
    Dealer,
    Delegation,
    Group,
    NationalException,
    Provider,
    Role,
    Site,
    SitesPage,
)
from rocade.services.dealers.moving import Moving
from rocade.services.dealers.orders import Orders
from rocade.services.dealers.service import Dealers
from rocade.services.dealers.table import SiteTable

__all__ = [
    "FOREVER_US",
    "MOVE_STATES",
    "PROVIDER_ACTS",
    "ROLES",
    "BrandAt",
    "Dealer",
    "Dealers",
    "Delegation",
    "Group",
    "Moving",
    "NationalException",
    "Orders",
    "Provider",
    "Report",
    "Role",
    "Site",
    "SiteTable",
    "SitesPage",
    "import_file",
    "opening",
]
