"""Signal batches: the binary form (protobuf envelope, columns of narrow deltas) and the JSON form.

A vehicle's agent packs (`pack`, `Template`), the gateway checks structure without decoding values (`check_many`), a
worker decodes hundreds of batches in one numpy pass (`decode_many`). Specification with test vectors: docs/batch.md.
"""

from __future__ import annotations

from rocade.wire.batch.checking import Checked, check_many, sequence_of
from rocade.wire.batch.decoding import Clocks, Columns, Decoded, decode_many, scaled
from rocade.wire.batch.familiar import Familiar
from rocade.wire.batch.model import Batch, Clock, Column, Mark
from rocade.wire.batch.packing import Template, pack
from rocade.wire.batch.parsing import CODES

__all__ = [
    "CODES",
    "Batch",
    "Checked",
    "Clock",
    "Clocks",
    "Column",
    "Columns",
    "Decoded",
    "Familiar",
    "Mark",
    "Template",
    "check_many",
    "decode_many",
    "pack",
    "scaled",
    "sequence_of",
]
