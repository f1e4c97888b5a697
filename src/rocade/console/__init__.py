"""Web pages for the operator: live map, vehicle, ingestion; server-rendered, live by server-sent events.

`create_app(Services(...))` gives the application of the API process (API and pages); `doors.http.Listeners` serves it.
Browser libraries are fetched by `python -m rocade.console.vendor` and served from here: no page asks another host.
"""

from rocade.console.application import Services, create_app
from rocade.console.chaos import Chaos, Counts

__all__ = ["Chaos", "Counts", "Services", "create_app"]
