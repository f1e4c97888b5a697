"""Why: the chain of facts behind a refusal, a flag, a decision, as sentences in three languages, with ids to check.

Every service answers through one small interface: an `Explainer` takes what follows the kind in an id
(`gap:<ref>:<epoch>:<first>`), reads its own tables and returns a `Chain` of `Fact`s, each a sentence's key with its values
and, where it rests on something else, the id to ask next. `About` says whom the facts concern; who may read them is the
gate's business, not the explainer's. `texts` turns facts into sentences; the texts are data (`languages/`).
"""

from rocade.core.why.model import About, Chain, Explainer, Fact, code_facts, unknown
from rocade.core.why.texts import LANGUAGES, Sentence, has_sentence, is_code, sentence, sentences

__all__ = [
    "LANGUAGES",
    "About",
    "Chain",
    "Explainer",
    "Fact",
    "Sentence",
    "code_facts",
    "has_sentence",
    "is_code",
    "sentence",
    "sentences",
    "unknown",
]
