"""SOAP door: the trade's oldest web services, with the strictest reading of WS-Security that its clients still pass.

`Verifier` checks envelopes (requests here, answers in the client SDK), `signing` makes them, `dispatch` answers the five
operations, `door` is the HTTP route over mutual TLS. Nothing in here imports the HTTP framework but `door`.
"""

from rocade.doors.soap.signers import Authorities, RegionSigners, Signer, Signers
from rocade.doors.soap.verification import Replays, SeenBefore, Signed, Verifier

__all__ = ["Authorities", "RegionSigners", "Replays", "SeenBefore", "Signed", "Signer", "Signers", "Verifier"]
