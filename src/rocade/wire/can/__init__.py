"""CAN logs and their dictionaries: DBC files, GVRET CSV logs, whole-column decoding, ISO-TP reassembly.

Flow: `gvret.read(bytes)` -> `Frames` -> `decoding.decode(frames, {bus: dbc})` -> one `Column` of exact raw integers per
signal; diagnostics pass through `isotp.reassemble(frames)` first. Pure: bytes in, arrays out.
"""

from rocade.wire.can.dbc import Dbc, Message, Signal, parse
from rocade.wire.can.decoding import Column, decode
from rocade.wire.can.frames import Frames
from rocade.wire.can.gvret import Reading, read
from rocade.wire.can.isotp import Transfers, reassemble

__all__ = [
    "Column",
    "Dbc",
    "Frames",
    "Message",
    "Reading",
    "Signal",
    "Transfers",
    "decode",
    "parse",
    "read",
    "reassemble",
]
