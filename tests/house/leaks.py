"""No secret and nobody's data in any log line of a test run: what tests make is remembered, what is logged is searched for it.

`Watch` is set up once a session by tests/conftest.py. Remembered: vehicle ids, people's names, one-time links, session
secrets, touches, claim and invitation codes, access tokens, where the code makes them (`MAKERS`) or an HTTP client receives
them; private keys from the files they lie in. Searched: every record of Rocade's loggers in this process, down to debug, and
every *.log file that a process started by a test left in a temporary folder (platform, agents, PostgreSQL). Besides what is
remembered, some things are known by their shape (`SHAPES`), for what another process made. `tests/house/test_leaks.py`
plants one of each.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

MAKERS = {
    "rocade.services.vehicles.service:Registry.add": ("vehicle", "id"),
    "rocade.trust.authority.people.service:People.add": ("name", "name"),
    "rocade.trust.authority.people.parts:Parts.secret": ("secret", ""),
    "rocade.trust.authority.authority:Authority.claim": ("claim code", ""),
    "rocade.trust.authority.machines.tokens:Tokens.issue": ("token", ""),
    "rocade.services.consent.acting:Acts.new_code": ("code", ""),
}
"""Who makes what: the kind, and the argument that is it ('' = the result is)."""
RECEIVED = {
    "access_token": "token",
    "claim_code": "claim code",
    "secret": "secret",
    "link": "secret",
    "touch": "secret",
}
"""Fields of JSON answers."""
SHAPES = {
    "a vehicle's number": re.compile(r"(?<![A-Za-z0-9])(?=[A-Z]*\d)(?=\d*[A-Z])[A-HJ-NPR-Z0-9]{17}(?![A-Za-z0-9])"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a token": re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    "a session": re.compile(r"rocade_session=\S"),
    "a bearer": re.compile(r"[Bb]earer [A-Za-z0-9_-]{16}"),
    "a one-time link": re.compile(r"/signin/link/[A-Za-z0-9_-]{16}"),
}
WORD = re.compile(r"[A-Za-z0-9_-]+")
SHORTEST = 8
"""Shorter words of a secret say nothing by themselves, and shorter ids of test vehicles are words of any language."""
KEPT_BYTES = 64 << 20


class Watch:
    """What was made and what was logged. `found()` tells what of the first stands in the second."""

    def __init__(self) -> None:
        self.words: dict[str, str] = {}
        self.phrases: dict[str, str] = {}
        self.lines: list[str] = []
        self._files: dict[Path, int] = {}
        self._undo: list[Callable[[], None]] = []

    def note(self, kind: str, value: object) -> None:
        """Remember something that must not be logged: by its longest word; a name as it is written."""
        text = str(value)
        if kind == "name":
            if len(text) >= SHORTEST and " " in text:
                self.phrases[text] = kind
            return
        longest = max(WORD.findall(text), key=len, default="")
        if len(longest) >= SHORTEST and not longest.isalpha():
            self.words[longest] = kind

    def found(self) -> list[str]:
        """Each leak in a line: what it is and where. The secret itself is not repeated."""
        leaks = []
        for line in self.lines:
            kinds = {self.words[word] for word in WORD.findall(line) if word in self.words}
            kinds |= {kind for phrase, kind in self.phrases.items() if phrase in line}
            kinds |= {name for name, shape in SHAPES.items() if shape.search(line)}
            leaks += [f"{kind} in: {self._hidden(line)[:300]}" for kind in sorted(kinds)]
        return leaks

    def _hidden(self, line: str) -> str:
        line = WORD.sub(lambda match: "***" if match[0] in self.words else match[0], line)
        for shape in SHAPES.values():
            line = shape.sub("***", line)
        return functools.reduce(lambda text, phrase: text.replace(phrase, "***"), self.phrases, line)

    # --- collecting ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        handler = _Lines(self.lines)
        for logger in (logging.getLogger(), ours := logging.getLogger("rocade")):
            logger.addHandler(handler)
            self._undo.append(functools.partial(logger.removeHandler, handler))
        ours.setLevel(logging.DEBUG)
        for path, (kind, argument) in MAKERS.items():
            self._follow(path, kind, argument)
        self._wrap(httpx.Client, "send", self._received)
        self._wrap(httpx.AsyncClient, "send", self._received)
        self._before(tempfile.TemporaryDirectory, "cleanup", lambda folder: self.collect(Path(folder.name)))

    def stop(self) -> None:
        while self._undo:
            self._undo.pop()()

    def collect(self, folder: Path) -> None:
        """Read the log files below a folder, and remember the private keys that lie there."""
        for file in _files(folder):
            if file.suffix == ".log":
                start = self._files.get(file, 0)
                with file.open("rb") as source:
                    source.seek(start)
                    body = source.read(KEPT_BYTES)
                self._files[file] = start + len(body)
                self.lines += body.decode("utf-8", "replace").splitlines()
            elif file.name.endswith("key.pem"):
                for line in file.read_text("ascii", "replace").splitlines():
                    if not line.startswith("-----"):
                        self.note("private key", line)

    def _follow(self, path: str, kind: str, argument: str) -> None:
        module, _, name = path.partition(":")
        holder, _, method = name.partition(".")
        owner = getattr(importlib.import_module(module), holder, None)
        if owner is None or not hasattr(owner, method):
            return  # `test_every_maker_is_there` says so
        signature = inspect.signature(getattr(owner, method))

        def note(result: object, *given: Any, **named: Any) -> None:
            self.note(kind, signature.bind(*given, **named).arguments[argument] if argument else result)

        self._wrap(owner, method, note)

    def _received(self, response: httpx.Response, *_: Any, **__: Any) -> None:
        for cookie in response.headers.get_list("set-cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            if name == "rocade_session":
                self.note("session", value)
        if "json" in response.headers.get("content-type", "") and response.is_closed:
            body = response.json() if response.content else None
            for field, kind in RECEIVED.items() if isinstance(body, dict) else ():
                if isinstance(body.get(field), str):
                    self.note(kind, body[field])

    def _wrap(self, owner: Any, name: str, note: Callable[..., None]) -> None:
        """Call `note(result, *arguments)` after each call of a method."""
        before = getattr(owner, name)
        if inspect.iscoroutinefunction(before):

            @functools.wraps(before)
            async def call(*given: Any, **named: Any) -> Any:
                result = await before(*given, **named)
                note(result, *given, **named)
                return result

        else:

            @functools.wraps(before)
            def call(*given: Any, **named: Any) -> Any:
                result = before(*given, **named)
                note(result, *given, **named)
                return result

        setattr(owner, name, call)
        self._undo.append(functools.partial(setattr, owner, name, before))

    def _before(self, owner: Any, name: str, act: Callable[[Any], None]) -> None:
        then = getattr(owner, name)

        @functools.wraps(then)
        def call(self: Any, *given: Any, **named: Any) -> Any:
            act(self)
            return then(self, *given, **named)

        setattr(owner, name, call)
        self._undo.append(functools.partial(setattr, owner, name, then))


class _Lines(logging.Handler):
    """Every record as one line: message, facts and stack."""

    _plain = logging.Formatter()

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        stack = self._plain.formatException(record.exc_info) if record.exc_info else ""
        facts = getattr(record, "facts", "")
        self._lines.append(f"{record.name} {record.getMessage()} {facts} {stack}".replace("\n", " | "))


def _files(folder: Path) -> Iterator[Path]:
    """Log files and private keys below a folder; what vanishes meanwhile is passed over."""
    try:
        yield from (file for file in folder.rglob("*") if file.suffix in {".log", ".pem"} and file.is_file())
    except OSError:
        return


@pytest.fixture(scope="session", autouse=True, name="leak_watch")
def watching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """Watches the whole session, and fails it if something was logged that must not be."""
    watch = Watch()
    watch.start()
    yield watch
    watch.stop()
    watch.collect(tmp_path_factory.getbasetemp())
    if leaks := list(dict.fromkeys(watch.found())):
        pytest.fail(f"{len(leaks)} log lines hold what must not be logged:\n" + "\n".join(leaks[:20]), pytrace=False)
