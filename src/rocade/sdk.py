"""A small client of the hub's SOAP door, for makers of dealer management systems: it signs what it asks and checks what it gets.

    with Client(directory, "https://hub.example:8443") as hub:
        print(hub.price("acme-fr-retail", "1610001234").price_minor)

`directory` is an identity directory (`rocade enrol`): key, certificate, root and issuer table. A DMS that only talks to the
dealer's own agent needs none of this: the key stays with the dealer, who gives it a scoped token instead.

An answer counts only if its own signature covers all of it, was made by a service of this region, is fresh, and confirms this
very question. Libraries of the trade check less: one accepts an answer whose signed part was moved aside for another
(tests/doors/soap/test_foreign_clients.py shows it). Raises Refused with the hub's own code where the hub refuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from rocade.core.errors import Refused, Unavailable
from rocade.core.ports import Clock, Random, SystemClock, SystemRandom
from rocade.doors.soap import RegionSigners, Verifier, names
from rocade.doors.soap.signing import Credential, seal
from rocade.trust.identity.directory import LiveIssuers, load_key, load_leaf
from rocade.trust.identity.issuers import IssuerTable
from rocade.trust.identity.tls import client_context
from rocade.wire.resources import NAMESPACE, Message, PriceChange, PriceLine, Receipt, Site
from rocade.wire.resources.operations import (
    OPERATIONS,
    GetPrice,
    GetPriceChanges,
    GetReceipts,
    GetSites,
    Operation,
    Page,
)
from rocade.wire.resources.xml_form import append, read
from rocade.wire.strict_xml import Element

TIMEOUT_S = 30.0


class Answers:
    """Makes questions and reads answers; no network, so that anybody's HTTP library can carry them."""

    def __init__(
        self, credential: Credential, verifier: Verifier, clock: Clock, random: Random, version: names.Version = "1.2"
    ) -> None:
        self._credential = credential
        self._verifier = verifier
        self._clock = clock
        self._random = random
        self._version = version

    @property
    def content_type(self) -> str:
        return f"{names.CONTENT_TYPES[self._version]}; charset=utf-8"

    def ask(self, operation: Operation, question: msgspec.Struct) -> tuple[bytes, str]:
        """A signed envelope, and the signature that its answer must confirm."""
        content = append(etree.Element("question"), question, operation.asks)
        content.getparent().remove(content)
        sealed = seal(content, self._version, self._credential, self._clock.now_us(), self._random)
        return sealed.envelope, sealed.signature

    def read(self, operation: Operation, envelope: bytes, content_type: str, signature: str) -> Page:
        """What the hub answered.

        Raises: Refused with the code of the hub's fault; `soap.*` where the answer itself does not hold;
        `sdk.answer.other` (not to this question), `sdk.answer.shape`.
        """
        signed = self._verifier.verify(envelope, content_type)
        name = etree.QName(signed.content)
        if name.localname == "Fault":
            raise _fault(signed.content)
        if signed.confirms != signature:
            raise Refused("sdk.answer.other", "the answer was signed for another question than this one")
        if (name.namespace, name.localname) != (NAMESPACE, f"{operation.name}Response"):
            raise Refused("sdk.answer.shape", "the answer is not one of this operation")
        rows, cursor = [], ""
        for child in signed.content:
            if child.tag == f"{{{NAMESPACE}}}NextCursor":
                cursor = child.text or ""
            else:
                rows.append(read(child, operation.gives))
        if not operation.is_many and len(rows) != 1:
            raise Refused("sdk.answer.shape", "the answer must hold one element")
        return Page(rows, cursor)


class Client:
    """Questions to one hub, over mutual TLS with the identity of a directory."""

    def __init__(self, directory: Path | str, address: str, version: names.Version = "1.2") -> None:
        directory, clock = Path(directory), SystemClock()
        issuers = LiveIssuers(directory)

        def table() -> IssuerTable:
            return issuers.table

        verifier = Verifier(RegionSigners(table, ("service",), lambda _serial: False), clock)
        leaf = load_leaf(directory).public_bytes(Encoding.DER)
        self._answers = Answers(Credential(load_key(directory), leaf), verifier, clock, SystemRandom(), version)
        self._http = httpx.Client(
            base_url=address, verify=client_context(directory), trust_env=False, timeout=TIMEOUT_S
        )

    def price(self, list: str, ref: str, at_us: int | None = None, known_seq: int | None = None) -> PriceLine:
        """The price of a part at an instant (None = now), as known at a number of its list (None = the newest)."""
        (line,) = self._call("GetPrice", GetPrice(list=list, ref=ref, at_us=at_us, known_seq=known_seq)).rows
        return _as(line, PriceLine)

    def price_changes(self, list: str, since_seq: int) -> Iterator[PriceChange]:
        """What releases after a number changed, page by page."""
        for one in self._pages("GetPriceChanges", GetPriceChanges(list=list, since_seq=since_seq)):
            yield _as(one, PriceChange)

    def send(self, message: Message) -> Receipt:
        """Send a message; the receipt says that it is kept. The same message again gets the same receipt."""
        (receipt,) = self._call("SendMessage", message).rows
        return _as(receipt, Receipt)

    def receipts(self, message_id: str = "") -> Iterator[Receipt]:
        """Receipts of one's own messages, or of one of them."""
        for one in self._pages("GetReceipts", GetReceipts(message_id=message_id)):
            yield _as(one, Receipt)

    def sites(self, country: str = "", brand: str = "") -> Iterator[Site]:
        """Points of sale."""
        for one in self._pages("GetSites", GetSites(country=country, brand=brand)):
            yield _as(one, Site)

    def _pages(self, name: str, question: Any) -> Iterator[Any]:
        while True:
            page = self._call(name, question)
            yield from page.rows
            if not page.cursor:
                return
            question = msgspec.structs.replace(question, cursor=page.cursor)

    def _call(self, name: str, question: msgspec.Struct) -> Page:
        operation = OPERATIONS[name]
        envelope, signature = self._answers.ask(operation, question)
        headers = {"content-type": self._answers.content_type}
        try:
            response = self._http.post("/v1/soap", content=envelope, headers=headers)
        except httpx.HTTPError as error:
            raise Unavailable("sdk.hub", f"the hub did not answer: {type(error).__name__}") from error
        content_type = response.headers.get("content-type", "")
        if content_type.startswith("application/problem+json"):
            raise Refused("sdk.door", f"the door refused before reading: {response.json().get('code', '')}")
        return self._answers.read(operation, response.content, content_type, signature)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _as[T](value: Any, kind: type[T]) -> T:
    assert isinstance(value, kind)
    return value


def _fault(fault: Element) -> Refused:
    code = fault.findtext(f".//{{{NAMESPACE}}}Problem/{{{NAMESPACE}}}Code") or "sdk.answer.shape"
    detail = fault.findtext(f".//{{{NAMESPACE}}}Problem/{{{NAMESPACE}}}Detail") or "a fault without a problem in it"
    return Refused(code, detail)
