"""From a verified envelope to a signed answer: find the operation, read the question, ask the desk, write what it says.

The desk is whoever answers (`app.desk` in the hub, the sandbox's, a test's). A refusal becomes a signed fault with the
refusal's own code in its detail; so does what nobody foresaw, without a word about it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec
from lxml import etree

from rocade.core.errors import Refused, RocadeError, Unavailable
from rocade.core.identifiers import Identity
from rocade.core.ports import Clock, Random
from rocade.doors.soap import names
from rocade.doors.soap.signing import Credential, seal
from rocade.doors.soap.verification import Signed, Verifier, replayed
from rocade.wire.resources import NAMESPACE, Message, PriceLine, Receipt
from rocade.wire.resources.operations import OPERATIONS, GetPrice, GetPriceChanges, GetReceipts, GetSites, Page
from rocade.wire.resources.xml_form import append, read
from rocade.wire.strict_xml import Element

_log = logging.getLogger("rocade.soap")


class Desk(Protocol):
    """Who answers the five questions. Each may raise Refused, which the caller is told."""

    async def price(self, caller: Identity, asked: GetPrice) -> PriceLine: ...
    async def price_changes(self, caller: Identity, asked: GetPriceChanges) -> Page: ...
    async def send(self, caller: Identity, message: Message, evidence: bytes) -> Receipt:
        """Take a message; `evidence` is the whole signed envelope it came in."""
        ...

    async def receipts(self, caller: Identity, asked: GetReceipts) -> Page: ...
    async def sites(self, caller: Identity, asked: GetSites) -> Page: ...


class Answer(msgspec.Struct, frozen=True):
    """What goes back over HTTP. `code` is that of the refusal, "" where there was none."""

    status: int
    content_type: str
    body: bytes
    operation: str = ""
    code: str = ""


class Dispatcher:
    """Answers envelopes. `credential()` is what the hub signs with at the moment."""

    def __init__(
        self,
        verifier: Verifier,
        desk: Desk,
        credential: Callable[[], Credential],
        clock: Clock,
        random: Random,
        is_new: Callable[[bytes, int], Awaitable[bool]] | None = None,
    ) -> None:
        """`is_new(digest, until_us)` asks the memory that all processes share, after the verifier's own."""
        self._verifier = verifier
        self._desk = desk
        self._credential = credential
        self._clock = clock
        self._random = random
        self._is_new = is_new

    async def answer(self, content: bytes, content_type: str, connected_as: str, request_id: str = "") -> Answer:
        """`connected_as` is the identity URI that the TLS client certificate proved."""
        version: names.Version = "1.1" if content_type.lower().startswith("text/xml") else "1.2"
        signed: Signed | None = None
        operation = ""
        try:
            signed = self._verifier.verify(content, content_type)
            if signed.signer.identity.uri != connected_as:
                raise Refused("soap.identity", "the envelope is signed by somebody else than the one who is connected")
            if self._is_new is not None and not await self._is_new(signed.digest, signed.until_us):
                raise replayed()
            operation = etree.QName(signed.content).localname
            body = await self._result(signed, content)
        except RocadeError as error:
            body = _fault(error, signed.version if signed else version, request_id)
            return self._sealed(body, signed, version, operation, error)
        except Exception as error:
            _log.exception("unforeseen error", extra={"request_id": request_id})
            unforeseen = Unavailable("soap.unforeseen", "something went wrong here; the request id finds it in the log")
            unforeseen.__cause__ = error
            body = _fault(unforeseen, signed.version if signed else version, request_id)
            return self._sealed(body, signed, version, operation, unforeseen)
        return self._sealed(body, signed, version, operation, None)

    async def _result(self, signed: Signed, evidence: bytes) -> Element:
        name = etree.QName(signed.content)
        operation = OPERATIONS.get(name.localname) if name.namespace == NAMESPACE else None
        if operation is None:
            raise Refused("soap.operation.unknown", "there is no such operation; the WSDL names them")
        asked, caller = read(signed.content, operation.asks), signed.signer.identity
        ask: dict[str, Callable[[], Awaitable[Any]]] = {
            "GetPrice": lambda: self._desk.price(caller, asked),
            "GetPriceChanges": lambda: self._desk.price_changes(caller, asked),
            "SendMessage": lambda: self._desk.send(caller, asked, evidence),
            "GetReceipts": lambda: self._desk.receipts(caller, asked),
            "GetSites": lambda: self._desk.sites(caller, asked),
        }
        found = await ask[operation.name]()
        page = found if isinstance(found, Page) else Page([found])
        answer = etree.Element(f"{{{NAMESPACE}}}{operation.name}Response", nsmap={"r": NAMESPACE})
        for row in page.rows:
            append(answer, row, operation.gives)
        if page.cursor:
            etree.SubElement(answer, f"{{{NAMESPACE}}}NextCursor").text = page.cursor
        return answer

    def _sealed(
        self, body: Element, signed: Signed | None, version: names.Version, operation: str, error: RocadeError | None
    ) -> Answer:
        if signed is not None:
            version = signed.version
        confirms = signed.signature if signed else ""
        now_us = self._clock.now_us()
        envelope = seal(body, version, self._credential(), now_us, self._random, confirms=confirms).envelope
        status = 200 if error is None else 400 if version == "1.2" and isinstance(error, Refused) else 500
        content_type = f"{names.CONTENT_TYPES[version]}; charset=utf-8"
        return Answer(status, content_type, envelope, operation, error.code if error else "")


def _fault(error: RocadeError, version: names.Version, request_id: str) -> Element:
    """A fault whose detail holds our code; the sender's fault or ours."""
    soap, is_senders = names.NAMESPACES[version], isinstance(error, Refused)
    says = (
        error.message
        if isinstance(error, Refused | Unavailable)
        else "stored data or the set-up is not as it should be"
    )
    fault = etree.Element(f"{{{soap}}}Fault", nsmap={"s": soap})
    if version == "1.1":
        etree.SubElement(fault, "faultcode").text = "s:Client" if is_senders else "s:Server"
        etree.SubElement(fault, "faultstring").text = says
        detail = etree.SubElement(fault, "detail")
    else:
        code = etree.SubElement(fault, f"{{{soap}}}Code")
        etree.SubElement(code, f"{{{soap}}}Value").text = "s:Sender" if is_senders else "s:Receiver"
        reason = etree.SubElement(etree.SubElement(fault, f"{{{soap}}}Reason"), f"{{{soap}}}Text")
        reason.set("{http://www.w3.org/XML/1998/namespace}lang", "en")
        reason.text = says
        detail = etree.SubElement(fault, f"{{{soap}}}Detail")
    problem = etree.SubElement(detail, f"{{{NAMESPACE}}}Problem", nsmap={"r": NAMESPACE})
    for name, text in (("Code", error.code), ("Detail", says), ("RequestID", request_id)):
        etree.SubElement(problem, f"{{{NAMESPACE}}}{name}").text = text
    return fault
