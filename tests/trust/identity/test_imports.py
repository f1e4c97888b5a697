"""The identity package runs in cars and at dealers: it must not bring the server's engines with it."""

import subprocess
import sys

SERVER_SIDE = ("asyncpg", "sqlalchemy", "alembic", "litestar", "h11", "rocade.fabric", "rocade.trust.authority")


def test_identity_brings_nothing_of_the_server() -> None:
    modules = ["certificates", "directory", "envelope", "est_client", "issuers", "keys", "names", "tls"]
    program = "import sys\n" + "".join(f"import rocade.trust.identity.{module}\n" for module in modules)
    program += f"print([name for name in {SERVER_SIDE} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
