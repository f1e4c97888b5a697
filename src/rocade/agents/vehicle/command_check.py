"""Whether a command is the platform's, for this vehicle and of now: the vehicle's own judgement, whoever carried it here.

Flow: the signer's chain is checked against the region's issuers (`read_signers`, once per chain and table) -> the envelope's
signature -> the whole command is understood -> it names this vehicle -> its signer's key was in force when it was issued and is
now -> it was not issued in the future, and does not live longer than a week. Whether it has expired is asked when it is acted on.
Refuses: `command.malformed`, `command.chain`, `command.target`, `command.time.future`, `command.time.life`, `trust.signer.*`,
`trust.certificate.*`, `trust.envelope.*`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from rocade.core.errors import Refused
from rocade.trust.identity import IssuerTable, envelope, signers
from rocade.trust.identity.signers import Signers
from rocade.wire.commands import COMMAND_TYPE, MOST_LIFE_US, SERVICE, Command, read_command, read_down

TOLERANCE_US = 300_000_000
"""How far this vehicle's clock may lie behind the platform's before a command counts as not of now."""
MOST_CHAIN_BYTES = 16 << 10
_KEPT = 8


class Checker:
    """Checks what comes down for one vehicle; many vehicles of one process may share `signers`."""

    def __init__(self, vehicle_id: str, signer_keys: SignerCache) -> None:
        self._id, self._signers = vehicle_id, signer_keys

    def check(self, body: bytes, now_us: int) -> Command:
        """The command, proven; its act and parameters still have to be judged. Raises: Refused, see above."""
        sealed, chain = read_down(body)
        payload, signer = signers.unseal(COMMAND_TYPE, sealed, self._signers.read(chain))
        command = read_command(payload)
        if command.vehicle != self._id:
            raise Refused("command.target", "this command is meant for another vehicle")
        signers.check_time(signer, command.issued_us)
        if command.issued_us > now_us + TOLERANCE_US:
            raise Refused("command.time.future", "the command was issued in the future of this vehicle's clock; set it")
        signers.check_time(signer, max(now_us, command.issued_us))
        if command.expires_us - command.issued_us > MOST_LIFE_US:
            raise Refused("command.time.life", "a command may live for a week; give an earlier deadline")
        return command


class SignerCache:
    """Chains that were checked, by their bytes and the version of the issuer table they were checked with."""

    def __init__(self, issuers: Callable[[], IssuerTable]) -> None:
        self._issuers = issuers
        self._known: dict[tuple[int, bytes], Signers] = {}

    def read(self, chain_pem: str) -> Signers:
        """The keys of a chain. Raises: Refused `command.chain`, `trust.certificate.*`, `trust.signer.unknown`."""
        if len(chain_pem) > MOST_CHAIN_BYTES:
            raise Refused("command.chain", f"a certificate chain may have {MOST_CHAIN_BYTES} bytes")
        chain, table = chain_pem.encode(), self._issuers()
        key = table.version, hashlib.sha256(chain).digest()
        found = self._known.get(key)
        if found is None:
            found = signers.read_signers([chain], table, SERVICE)
            while len(self._known) >= _KEPT:
                del self._known[next(iter(self._known))]
            self._known[key] = found
        return found


def claimed(body: bytes) -> Command | None:
    """What a refused body says it is, unproven: only good for naming it in the answer."""
    try:
        return read_command(envelope.payload_of(read_down(body)[0]))
    except Refused:
        return None
