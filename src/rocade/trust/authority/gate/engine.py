"""Cedar behind a wrapper that fails closed (`Engine`), and the gate everybody calls (`Gate`).

The flow of `Gate.permit`: the caller's right to the vehicle from the compiled consent table -> the question (`asked`) ->
Cedar, or the remembered answer to an equal question -> a `Permit`, or a refusal that says what was missing. Allowed is only
what Cedar allows with no error at all; an unknown act, a missing attribute, a failing policy or engine is a refusal.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources

import cedarpy
import msgspec

from rocade.core import data_classes
from rocade.core.errors import Misconfigured, Refused
from rocade.trust.authority.gate import acts
from rocade.trust.authority.gate.asked import KINDS, RESOURCES, Asked, Proof, ask, schema
from rocade.trust.authority.gate.model import Act, Permit, Principal, Right, Rights, SiteRight, SiteRights

REMEMBERED = 16_384
_log = logging.getLogger("rocade.gate")


class Answer(msgspec.Struct, frozen=True):
    """`policies`: ids of those that allowed or forbade; `errors`: what went wrong, each of which is a refusal."""

    is_allowed: bool
    policies: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


class Engine:
    """Policies and schema, parsed once. Raises: Misconfigured `gate.policies` if they do not fit each other."""

    def __init__(self, policies: Mapping[str, str] | None = None) -> None:
        texts = policies if policies is not None else policy_texts()
        self._schema = _schema(written := schema())
        self._entities = lru_cache(REMEMBERED)(self._parse_principal)
        self._policies = {of: _parse(texts["walls"] + texts[file], written) for of, file in FILES.items()}

    def _parse_principal(self, kind: str, proof: Proof) -> cedarpy.Entities:
        """A principal checked against the schema, with the hierarchy of acts that stands in it."""
        one = {"uid": {"type": KINDS[kind], "id": "one"}, "attrs": proof, "parents": ()}
        return cedarpy.Entities.from_json_str(msgspec.json.encode([one]).decode(), self._schema)

    def decide(self, asked: Asked) -> Answer:
        """Ask Cedar. Never raises: what goes wrong is a refusal with its error."""
        try:
            request = {
                "principal": {"type": KINDS[asked.kind], "id": "one"},
                "action": {"type": "Action", "id": asked.act},
                "resource": {"type": RESOURCES[asked.of], "id": "one"},
                "context": msgspec.json.encode(asked.facts).decode(),
            }
            entities = self._entities(asked.kind, asked.proof)
            result = cedarpy.is_authorized(request, self._policies[asked.of], entities, self._schema)
        except Exception as error:
            return Answer(is_allowed=False, errors=(f"{type(error).__name__}: {error}",))
        told = result.diagnostics
        is_allowed = result.decision is cedarpy.Decision.Allow and not told.errors
        return Answer(is_allowed, tuple(sorted(told.id_annotations_by_reason.values())), tuple(told.errors))


@lru_cache(1)
def _schema(written: str) -> cedarpy.Schema:
    return cedarpy.Schema.from_str(written)


@lru_cache(16)
def _parse(text: str, written: str) -> cedarpy.PolicySet:
    """Policies that fit this schema; 35 ms for each new text. Raises: Misconfigured `gate.policies`."""
    checked = cedarpy.validate_policies(text, _schema(written))
    if not checked.validation_passed:
        raise Misconfigured("gate.policies", "; ".join(one.error for one in checked.errors))
    return cedarpy.PolicySet.from_str(text)


FILES = {"nothing": "region", "region": "region", "vehicle": "vehicle", "account": "account", "site": "site"}
"""Which file decides on acts of what; `walls` stand around each."""


def policy_texts() -> dict[str, str]:
    folder = resources.files(__package__).joinpath("policies")
    return {name: folder.joinpath(f"{name}.cedar").read_text() for name in ("walls", *dict.fromkeys(FILES.values()))}


def policy_text() -> str:
    """All policies, for reading."""
    return "\n".join(policy_texts().values())


class Gate:
    """The gate of one region.

    `rights` answers what ties a principal to a vehicle (`services.consent`), `sites` what ties him to a point of sale
    (`services.dealers`); without `sites` nobody is tied to any.
    """

    def __init__(
        self, region: str, rights: Rights, engine: Engine | None = None, sites: SiteRights | None = None
    ) -> None:
        self._region = region
        self.rights = rights
        self.sites = sites
        self._decide = lru_cache(REMEMBERED)((engine or Engine()).decide)

    def right(self, principal: Principal, ref: int, purpose: str, at_us: int) -> Right:
        """What somebody may see of one of several vehicles: what the table says where a policy lets him look, else no class."""
        right = self.rights.right(principal, ref, purpose, at_us)
        if right.classes and not self._ask(principal, acts.READ_TWIN, right, purpose).is_allowed:
            return msgspec.structs.replace(right, classes=0, grant="")
        return right

    def refs(self, principal: Principal, purpose: str, at_us: int) -> list[int]:
        """The owned vehicles somebody may see anything of; none where no consent could let him look (no token, no region)."""
        granted = Right("none", data_classes.ALL, is_owned=True)
        may_look = self._ask(principal, acts.READ_TWIN, granted, purpose).is_allowed
        return self.rights.refs(principal, purpose, at_us) if may_look else []

    def permit(
        self, principal: Principal, act: Act, *, ref: int | None = None, purpose: str, at_us: int, touched: bool = False,
        account: str | None = None, site: str | None = None, brand: str = "",
    ) -> Permit:  # fmt: skip
        """Allow one act, on vehicle `ref`, on `account` (`person:<hex>`, default his own) or at `site` where it is of one.

        Raises: Refused `gate.denied` saying what was missing, `gate.touch` if a fresh touch of a passkey would do.
        """
        right, touched = Right(), touched and act.needs_touch
        if act.of == "vehicle":
            if ref is None:
                raise Refused("gate.denied", "this is an act on a vehicle: name one", act=act.name, missing="engine")
            right = self.rights.right(principal, ref, purpose, at_us)
        at_site = self._at_site(principal, act, site, brand, at_us)
        is_own = account in {None, principal.id}
        answer = self._ask(principal, act, right, purpose, touched=touched, is_own=is_own, at_site=at_site)
        if answer.is_allowed:
            return Permit(principal, act, purpose, right, answer.policies, at_site)
        if (
            not touched
            and self._ask(principal, act, right, purpose, touched=True, is_own=is_own, at_site=at_site).is_allowed
        ):
            raise Refused("gate.touch", "touch your passkey to confirm this", act=act.name)
        missing = _missing(principal, act, right, answer)
        raise Refused("gate.denied", f"this is not open to you: {missing} is missing", act=act.name, missing=missing)

    def _at_site(self, principal: Principal, act: Act, site: str | None, brand: str, at_us: int) -> SiteRight:
        """Raises: Refused `gate.denied` if the act is on a point of sale and none was named."""
        if act.of != "site":
            return SiteRight()
        if site is None:
            raise Refused("gate.denied", "this is an act at a point of sale: name one", act=act.name, missing="engine")
        return self.sites.site_right(principal, site, brand, at_us) if self.sites is not None else SiteRight()

    def _ask(
        self, principal: Principal, act: Act, right: Right, purpose: str, *, touched: bool = False, is_own: bool = False,
        at_site: SiteRight = SiteRight(),  # noqa: B008 - frozen, and the same nothing for everybody
    ) -> Answer:  # fmt: skip
        asked = ask(principal, act, right, self._region, purpose, touched=touched, is_own=is_own, at_site=at_site)
        answer = self._decide(asked)
        if answer.errors:
            _log.error("the gate refused %s because it failed: %s", act.name, "; ".join(answer.errors))
        return answer


def _missing(principal: Principal, act: Act, right: Right, answer: Answer) -> str:
    """What the caller lacks, in the words of a fact; the first that applies."""
    if answer.errors:
        return "engine"
    walls = {"region-wall": "region", "token-purposes": "purpose", "touch": "passkey"}
    for wall, word in walls.items():
        if wall in answer.policies and (wall != "touch" or principal.means != "passkey"):
            return "proof" if principal.kind == "nobody" else word
    if act.of == "region":
        return f"duty {act.by}" if act.by in {"support", "security", "release"} else act.by
    if act.of == "account":
        return "account"
    if act.of == "site":
        return "delegation" if principal.kind == "partner" and act.by in {"site_look", "site_run"} else "role"
    if not {"look", "command"} & {*acts.groups_of(act)}:
        return "ownership"
    if principal.kind in {"partner", "dealer"} and principal.means != "token":
        return "token"
    lacking = [
        name for name in act.classes if name not in {"*", "control"} and not right.classes & data_classes.bit(name)
    ]
    return ",".join(lacking) if right.classes and lacking else "consent"
