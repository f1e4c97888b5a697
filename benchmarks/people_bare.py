"""The ceiling: a bare Litestar handler over asyncpg that reads the same twin and authorises nothing.

`people_bare.py DIRECTORY PORT URL`: uvicorn's own mutual TLS, no guard, no gate, no note of the look, no request id, no
counters; every signal is shown to whoever has a certificate. The database row, the answer's shape and the encoder are the same.
"""

from __future__ import annotations

import ssl
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import uvicorn
from litestar import Litestar, get
from litestar.datastructures import State
from litestar.params import FromPath

from rocade.core import catalogue
from rocade.core.data_classes import ALL
from rocade.doors.http import tcp_socket
from rocade.services.vehicles.api import TwinView, twin_view
from rocade.services.vehicles.twin import Twin, values_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

QUERY = "SELECT ref, updated_us, arrived_us, skew_us, latitude, longitude, speed_kmh, reported FROM twin WHERE ref = $1"


@get("/v1/vehicles/{ref:int}/twin")
async def show(state: State, ref: FromPath[int]) -> TwinView:
    row = await state.pool.fetchrow(QUERY, ref)
    plain: dict[str, Any] = {**row, "reported": values_of(row["reported"]), "desired": {}}
    return twin_view(Twin(**plain), catalogue.standard(), ALL)


def main() -> None:
    directory, port, url = sys.argv[1:]

    @asynccontextmanager
    async def connected(app: Litestar) -> AsyncIterator[None]:
        async with asyncpg.create_pool(url, min_size=8, max_size=8) as pool:
            app.state.pool = pool
            yield

    app = Litestar([show], lifespan=[connected], openapi_config=None)
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", ws="none", access_log=False, log_level="warning",
        ssl_certfile=f"{directory}/certificate.pem", ssl_keyfile=f"{directory}/key.pem",
        ssl_ca_certs=f"{directory}/trust.pem", ssl_cert_reqs=ssl.CERT_REQUIRED,
    )  # fmt: skip
    uvicorn.Server(config).run([tcp_socket("127.0.0.1", int(port), shared=True)])


if __name__ == "__main__":
    main()
