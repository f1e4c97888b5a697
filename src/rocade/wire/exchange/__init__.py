"""Messages between points of sale, hubs and systems, and the receipts they get: `bytes <-> typed value`, nothing else.

A sender seals `encode(message)` as `MESSAGE_TYPE` (trust.identity.envelope); the hub answers with bundles of receipts, each a leaf
of one RFC 6962 tree whose root it signed as `ROOT_TYPE`. Reading one, three lines: `bundle = read_receipts(body)`,
`root = read_root(unseal(ROOT_TYPE, bundle.root, keys))`, `receipts = proven(bundle, root)`. Described in docs/exchange.md.
"""

from rocade.wire.exchange.keys import KEYS_TYPE, REVOCATIONS_TYPE, Keys, RevocationList, read_keys, read_revocations
from rocade.wire.exchange.messages import (
    BODY_LIMIT_BYTES,
    CLASSES,
    DECISION_TYPE,
    MESSAGE_TYPE,
    UNREADABLE,
    Address,
    Decision,
    Delivery,
    Message,
    encode,
    read_decision,
    read_delivery,
    read_message,
    sha256_of,
)
from rocade.wire.exchange.receipts import (
    ROOT_TYPE,
    Bundle,
    Leaf,
    Receipt,
    Root,
    bundle_of,
    proven,
    read_receipt,
    read_receipts,
    read_root,
)
from rocade.wire.exchange.tree import Tree, leaf_hash, root_of_path

__all__ = [
    "BODY_LIMIT_BYTES",
    "CLASSES",
    "DECISION_TYPE",
    "KEYS_TYPE",
    "MESSAGE_TYPE",
    "REVOCATIONS_TYPE",
    "ROOT_TYPE",
    "UNREADABLE",
    "Address",
    "Bundle",
    "Decision",
    "Delivery",
    "Keys",
    "Leaf",
    "Message",
    "Receipt",
    "RevocationList",
    "Root",
    "Tree",
    "bundle_of",
    "encode",
    "leaf_hash",
    "proven",
    "read_decision",
    "read_delivery",
    "read_keys",
    "read_message",
    "read_receipt",
    "read_receipts",
    "read_revocations",
    "read_root",
    "root_of_path",
    "sha256_of",
]
