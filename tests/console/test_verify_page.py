"""The page /verify in a real browser with the network off: every kind of proof, good and forged, judged as `rocade verify` does."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from litestar.static_files import create_static_files_router
from playwright.sync_api import Browser, Page, expect
from tests.agents.dealer.prices.stand import BEGIN_US, DAY_US, Stand
from tests.trust.identity.proof_cases import Cases
from tests.trust.identity.test_proof import FORGERIES, proven

from rocade.console import pages, verifying
from rocade.core.errors import Refused
from rocade.core.ports import SystemClock, SystemRandom
from rocade.doors.http import Access, Listeners, build, does, loopback_sockets
from rocade.trust.authority.gate import Gate, Right, acts
from rocade.trust.identity import proof

WITNESSED = {"audit entry", "erasure", "consistency"}


class Nobody:
    """Rights and audit of a region in which nothing happens."""

    def right(self, *_: Any) -> Right:
        return Right()

    mask = refs = hidden = note = right


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The page and its static files, served as the region serves them."""
    nobody: Any = Nobody()
    access = Access(
        lambda *_: pytest.fail("nobody has a certificate"), lambda _: False, Gate("eu", nobody), nobody, SystemClock()
    )
    static = create_static_files_router(
        path="/static",
        directories=[Path(str(resources.files("rocade.console") / "static"))],
        opt=does(acts.READ_STATIC),
    )
    app = build([pages.router(verifying.HANDLERS), static], {}, access, version="0")
    sockets, started, ended = loopback_sockets(0), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        listeners = Listeners(app, SystemRandom(), pages=sockets)
        serving = asyncio.create_task(listeners.serve())
        await listeners.started()
        started.set()
        await ended.wait()
        listeners.stop()
        await serving

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(30)
    yield f"http://localhost:{sockets[0].getsockname()[1]}"
    loop.call_soon_threadsafe(ended.set)
    thread.join(30)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    return Cases(tmp_path_factory.mktemp("cases"))


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Stand:
    stand = Stand(tmp_path_factory.mktemp("prices"), 70)
    stand.apply()
    stand.publish([(7, BEGIN_US + DAY_US, 5000)])
    stand.publish([(7, BEGIN_US, 4000)], [stand.part(7, label="RENOMMÉ")])
    stand.publish([(8, BEGIN_US + DAY_US, 1)])
    stand.publish([(7, BEGIN_US + 5 * DAY_US, None)])
    stand.apply()
    return stand


def pem_of(stand: Stand) -> bytes:
    return stand.root.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


type Asked = tuple[str, bytes, bytes, list[bytes]]
"""Name, proof file, PEM to trust, PEMs of witnesses."""


def table(cases: Cases, prices: Stand) -> list[Asked]:
    """Every good proof, and every forgery that the verifier in Python is tested with."""

    def witness(kind: str) -> list[bytes]:
        return [cases.witness] if kind in WITNESSED else []

    asked: list[Asked] = [(kind, file, cases.trust[kind], witness(kind)) for kind, file in cases.files.items()]
    asked += [(name, file, cases.trust[kind], witness(kind)) for name, (kind, file) in cases.forged().items()]
    asked += [("entry, a stranger trusted", cases.files["audit entry"], pem_of(prices), [])]
    for name, day, known in (("price", 2, None), ("price then", 2, 2), ("price withdrawn", 5, None)):
        asked.append((name, proven(prices, day, known), pem_of(prices), []))
    for name, (_, change) in FORGERIES.items():
        file = json.loads(proven(prices))
        change(file)
        asked.append((f"price: {name}", json.dumps(file).encode(), pem_of(prices), []))
    return asked


def judged(file: bytes, trust: bytes, witnesses: list[bytes], now_us: int) -> str:
    try:
        proof.verify(file, proof.read_trust(trust), witnesses=[proof.read_key(one) for one in witnesses], now_us=now_us)
    except Refused as refusal:
        return refusal.code
    return "proven"


JUDGE = """async (asked) => {
    const [{ verify }, { readTrust }] = await Promise.all([import("/static/proof.js"), import("/static/proof-trust.js")]);
    const plain = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const said = [];
    for (const { file, keys, nowUs } of asked) {
        const [trust, ...witnesses] = await Promise.all(keys.map(readTrust));
        said.push(await verify(plain(file), { trust, witnesses, nowUs }).then(() => "proven", (error) => error.code ?? String(error)));
    }
    return said;
}"""


def test_the_browser_judges_every_good_and_forged_proof_as_python_does(
    browser: Browser, address: str, cases: Cases, prices: Stand
) -> None:
    page = browser.new_context().new_page()
    page.goto(f"{address}/verify")
    expect(page.locator("#verdict")).to_have_attribute("data-state", "waiting")
    page.context.set_offline(True)
    asked = table(cases, prices)
    now_us = SystemClock().now_us()
    given = [
        {
            "file": base64.b64encode(file).decode(),
            "keys": [one.decode() for one in (trust, *witnesses)],
            "nowUs": now_us,
        }
        for _, file, trust, witnesses in asked
    ]
    said = page.evaluate(JUDGE, given)
    expected = [judged(*rest, now_us) for _, *rest in asked]
    wrong = [
        f"{one[0]}: {here} in the browser, {there} in Python"
        for one, here, there in zip(asked, said, expected, strict=True)
        if here != there
    ]
    assert wrong == []
    assert expected.count("proven") == 5 + 3 + 1  # and the entry under the root's own head
    assert len(asked) > 80
    page.context.close()


SHOWN = {
    "audit entry": ("Proven", r"number 7 of the 13.*trust\.revoke.*vouches for.*Witness [0-9a-f]{40} saw", b"revoke", b"praise"),
    "erasure": ("Proven", r"Data of vehicle:4711 were erased.*12000 stored rows.*entry 4 of the ledger", b"InJvd3MiOjEyMDAw", b"InJvd3MiOjEyMDAx"),
    "consistency": ("Proven", r"only grew: all 6 entries.*13", b'"path": "', b'"path": "AAAA'),
    "fork": ("Proven: the log was forked", r"two different histories of 13", b"eyJzaXpl", b"eyJzaXpm"),
    "receipt": ("Proven", r"number 0 of the 1.*m-1", b'"position": 0', b'"position": 1'),
    "price": ("Proven", r"costs 50\.00 EUR.*All 4 changes", b'"price_minor": 5000', b'"price_minor": 4999'),
}  # fmt: skip


def choose(page: Page, file: bytes, trust: bytes, witnesses: list[bytes]) -> None:
    def payload(name: str, content: bytes) -> Any:
        return {"name": name, "mimeType": "application/octet-stream", "buffer": content}

    page.set_input_files("#witness", [payload("witness.pem", one) for one in witnesses])
    page.set_input_files("#key", payload("trust.pem", trust))
    page.set_input_files("#proof", payload("proof.json", file))


def tampered(kind: str, file: bytes) -> bytes:
    *_, before, after = SHOWN[kind]
    if kind == "audit entry":
        read = json.loads(file)
        read["content"] = base64.b64encode(base64.b64decode(read["content"]).replace(before, after)).decode()
        return json.dumps(read).encode()
    changed = file.replace(before, after)
    if changed == file:  # the base64 of what was to be changed begins elsewhere
        read = json.loads(file)
        read["content"] = base64.b64encode(base64.b64decode(read["content"]).replace(b"12000", b"12001")).decode()
        changed = json.dumps(read).encode()
    assert changed != file
    return changed


def walk_kinds(page: Page, cases: Cases, prices: Stand) -> None:
    """Each kind by the page's own fields: good, then tampered with."""
    for kind, (verdict, says, *_) in SHOWN.items():
        file = cases.files[kind] if kind != "price" else proven(prices)
        trust = cases.trust[kind] if kind != "price" else pem_of(prices)
        witnesses = [cases.witness] if kind in WITNESSED else []
        choose(page, file, trust, witnesses)
        expect(page.locator("#verdict")).to_have_text(verdict)
        expect(page.locator("#sentences")).to_have_text(re.compile(says, re.DOTALL))
        choose(page, tampered(kind, file), trust, witnesses)
        expect(page.locator("#verdict")).to_have_text("Not proven")
        expect(page.locator("#sentences")).to_have_text(re.compile(r"\[proof\.\w+\]"))


def test_each_kind_of_proof_is_shown_by_the_page_with_the_network_off(
    browser: Browser, address: str, cases: Cases, prices: Stand
) -> None:
    context = browser.new_context(locale="en")
    page, complaints = context.new_page(), []
    page.on("console", lambda said: complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{address}/verify", wait_until="networkidle")  # its icon too
    context.set_offline(True)
    walk_kinds(page, cases, prices)
    assert complaints == []
    context.close()


def test_the_page_kept_as_one_file_needs_no_region_and_may_reach_nothing(
    browser: Browser, address: str, cases: Cases, prices: Stand
) -> None:
    """Saved, and served by a server that knows nothing else: as from a stick."""
    context = browser.new_context(locale="en", accept_downloads=True)
    page = context.new_page()
    page.goto(f"{address}/verify")
    with page.expect_download() as kept:
        page.get_by_role("link", name="Keep this page as one file").click()
    content, asked = Path(kept.value.path()).read_bytes(), []

    class Stick(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("localhost", 0), Stick) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"http://localhost:{server.server_port}/rocade-verify.html")
        context.set_offline(True)
        walk_kinds(page, cases, prices)
        context.set_offline(False)
        policy = page.evaluate("fetch('/anything').then(() => 'reached', () => 'refused')")
        server.shutdown()
    assert (policy, complaints) == ("refused", [])
    assert [path for path in asked if path != "/favicon.ico"] == ["/rocade-verify.html"]
    context.close()


@pytest.mark.parametrize(("language", "heading"), [("fr", "Vérifier une preuve"), ("zh", "核验证明")])
def test_the_page_speaks_the_readers_language(
    browser: Browser, address: str, cases: Cases, language: str, heading: str
) -> None:
    context = browser.new_context(locale=language)
    page = context.new_page()
    page.goto(f"{address}/verify")
    expect(page.locator("h1")).to_have_text(heading)
    choose(page, cases.files["consistency"], cases.trust["consistency"], [cases.witness])
    expect(page.locator("#verdict")).to_have_attribute("data-state", "proven")
    assert not re.search(r"\{\w+\}|undefined", page.inner_text("body"))
    context.close()
