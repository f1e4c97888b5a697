"""The "pull the plug" corner's hand: asks the supervisor over its control socket; counts come from the senders."""

from __future__ import annotations

from rocade.app.configuration import Configuration
from rocade.app.supervisor import ask_control
from rocade.console.chaos import Counts

_REQUESTS = {
    "kill_store": {"do": "kill", "role": "store"},
    "kill_worker": {"do": "kill", "role": "worker"},
    "fill_disk": {"do": "fill"},
    "cut_vehicle": {"do": "cut"},
}


class SupervisorChaos:
    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    @staticmethod
    def is_allowed(configuration: Configuration) -> bool:
        """True in `rocade demo --chaos`, which opens the control socket before the API starts."""
        return (configuration.socket_directory / "control.sock").exists()

    async def act(self, act: str, vehicle: str) -> str:
        answer = await ask_control(self._configuration, {**_REQUESTS[act], "vehicle": vehicle})
        return str(answer.get("said", act))

    async def counts(self) -> Counts:
        answer = await ask_control(self._configuration, {"do": "totals"})
        return Counts(*(int(str(answer[name])) for name in ("acked", "lost", "resent", "missing")))
