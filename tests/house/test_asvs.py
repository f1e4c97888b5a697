"""docs/asvs.md: every requirement of levels 1 and 2 stands there once, and each test it names is a test; what no other test shows is shown here."""

from __future__ import annotations

import ast
import base64
import hashlib
import inspect
import re
from collections import Counter
from functools import cache
from pathlib import Path
from unittest.mock import Mock

import pytest

from rocade.agents.dealer.pages import frame
from rocade.console import pages
from rocade.core.ports import SystemRandom
from rocade.doors.http.shell import SECURITY_HEADERS
from rocade.services.charging.stations import proving
from rocade.trust.authority.people.parts import Parts

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src/rocade"
LINES = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in (ROOT / "docs/asvs.md").read_text("utf-8").splitlines()
    if line.startswith("| V")
]
PER_CHAPTER = {
    1: 27,
    2: 11,
    3: 19,
    4: 10,
    5: 9,
    6: 35,
    7: 18,
    8: 7,
    9: 7,
    10: 29,
    11: 14,
    12: 9,
    13: 13,
    14: 9,
    15: 13,
    16: 16,
    17: 7,
}
"""Requirements of levels 1 and 2 in ASVS 5.0.0."""
HOSTILE = "<img src=x onerror='alert(1)'>\"&"
ESCAPED = "&lt;img src=x onerror=&#39;alert(1)&#39;&gt;&#34;&amp;"


@cache
def _tests_of(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return frozenset(one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))


@cache
def _python() -> dict[str, str]:
    return {str(path.relative_to(SOURCE)): path.read_text("utf-8") for path in SOURCE.rglob("*.py")}


def _modules() -> dict[str, str]:
    """Our own scripts of the pages."""
    found = [*SOURCE.rglob("*.js"), *SOURCE.rglob("*.mjs")]
    return {str(path.relative_to(SOURCE)): path.read_text("utf-8") for path in found if "vendor" not in path.parts}


def test_every_requirement_stands_there_once() -> None:
    numbers = [line[0] for line in LINES]
    assert len(set(numbers)) == len(numbers) == 253
    assert Counter(line[1] for line in LINES) == {"1": 70, "2": 183}
    assert Counter(int(number[1:].split(".")[0]) for number in numbers) == PER_CHAPTER
    assert {line[3] for line in LINES} <= {"yes", "no", "n/a"}


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0])
def test_a_line_names_tests_that_exist_or_says_why_it_needs_none(line: list[str]) -> None:
    number, _, short, met, how, tests = line
    assert short, number
    assert len(how) > 4 or met == "yes", f"{number} says nothing about why"
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
    assert named or met == "n/a", f"{number} names no test"
    assert len(named) == tests.count("::")
    for path, name in named:
        assert name in _tests_of(ROOT / "tests" / path), f"{number}: {path}::{name}"


def test_no_pattern_is_built_from_input() -> None:
    """A pattern made at run time is one of constants of its own module."""
    made = {
        name
        for name, text in _python().items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "re"
        and node.func.attr in {"compile", "match", "search", "fullmatch", "sub", "split", "findall", "finditer"}
        and not isinstance(node.args[0], ast.Constant | ast.JoinedStr | ast.Name | ast.BinOp | ast.Attribute)
    }
    assert not made


def test_nothing_evaluates_code() -> None:
    for name, text in _python().items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile", "__import__"}, name
            if isinstance(node, ast.Import | ast.ImportFrom):
                named = {alias.name for alias in node.names} | {getattr(node, "module", "") or ""}
                assert not named & {"pickle", "marshal", "shelve", "yaml", "dill"}, name
    for name, text in _modules().items():
        assert not re.search(r"\beval\(|new Function\(|document\.write", text), name


def test_old_hashes_are_not_used() -> None:
    for name, text in _python().items():
        assert not re.search(r"hashlib\.(md5|sha1)|hashes\.(MD5|SHA1)\b|ECB\(", text), name


def test_no_page_listens_to_messages() -> None:
    for name, text in _modules().items():
        assert not re.search(r"""addEventListener\(\s*["']message["']|\.onmessage\s*=(?!=)|postMessage\(""", text), name


def test_pages_store_nothing_but_language_and_theme() -> None:
    """And, for the tab, the numbers of the signals whose curves are shown."""
    stored = {
        found[1]
        for text in _modules().values()
        for found in re.finditer(r"""(?:local|session)Storage\.\w+Item\(\s*["'](\w+)["']""", text)
    }
    assert stored <= {"theme", "language", "signals"}
    assert not [name for name, text in _modules().items() if "indexedDB" in text]


def test_every_answer_keeps_addresses_to_itself() -> None:
    headers = dict(SECURITY_HEADERS)
    assert headers[b"referrer-policy"] == b"same-origin"
    policy = headers[b"content-security-policy"]
    for part in (b"object-src 'none'", b"base-uri 'none'", b"frame-ancestors 'none'", b"script-src 'self'"):
        assert part in policy
    assert b"unsafe" not in policy


def test_no_route_takes_trace() -> None:
    for name, text in _python().items():
        assert not re.search(r"http_method\s*=\s*[^)\n]*TRACE", text), name


def test_templates_are_files_of_the_package_and_escape_what_is_put_in() -> None:
    made = {name: text for name, text in _python().items() if "jinja2" in text}
    assert {name for name, text in made.items() if "Environment(" in text} == {
        "console/pages.py", "agents/dealer/pages/frame.py",
    }  # fmt: skip
    for name, text in made.items():
        assert not re.search(
            r"from_string\(|jinja2\.Template|\bTemplate\(|autoescape=False|DictLoader|FileSystemLoader", text
        ), name
    for environment in (pages._templates(), frame._templates()):
        shown = environment.from_string('<a title="{{ word }}">{{ word }}</a>').render(word=HOSTILE)
        assert shown == f'<a title="{ESCAPED}">{ESCAPED}</a>'
    written = [path for folder in ("console", "agents/dealer/pages") for path in (SOURCE / folder).rglob("*.html")]
    assert len(written) > 20
    for path in written:
        assert not re.search(r"\|\s*safe\b|autoescape|__html__", path.read_text("utf-8")), path


def test_markup_is_put_into_pages_in_named_places_only() -> None:
    """Everything else a module shows is text. In Python: JSON for a script element, a drawing, the verifier's own files."""
    put = {(name.rpartition("/")[2], found[1]) for name, text in _modules().items()
           for found in re.finditer(r"(\S+?)(?:\.(?:inner|outer)HTML\s*\+?=(?!=)|\.(?:insertAdjacentHTML|setHTMLUnsafe|createContextualFragment|parseFromString)\()", text)}  # fmt: skip
    fragments = {
        ("charging.js", 'by("goal-wrong")'),
        ("depots.js", "node"),
        ("my.js", "node"),
        ("state.js", "DOMParser()"),
    }
    assert put == fragments, "what stands there is a fragment of the server's, filled by a template that escapes"
    properties = [
        (name.rpartition("/")[2], found[1])
        for name, text in _modules().items()
        for found in re.finditer(r"(?:inner|outer)HTML: ([^,}]+?)\s*[,}]", text)
    ]
    assert properties == [("map.js", "mark(hueOf(group))")], "a circle of one of our own colours"
    marked = {name for name, text in _python().items() if re.search(r"__html__|\bMarkup\(", text)}
    assert marked == {"console/pages.py", "console/operator/desk.py", "console/verifying.py"}
    assert HOSTILE not in pages._json({"name": HOSTILE})
    assert "<" not in pages._json({"name": HOSTILE})


def test_no_name_from_outside_becomes_a_property_of_an_object() -> None:
    """Names written to by variable are constants of the module, or places in an array; what has foreign keys is a Map."""
    written = {
        (name.rpartition("/")[2], found[1])
        for name, text in _modules().items()
        for found in re.finditer(r"([\w.]+)\[[A-Za-z_][\w. +]*\]\s*(?:[-+*|&?]{0,2}=(?![=>])|\+\+|--)", text)
        if found[1] not in {"const", "let"}
    }
    arrays = {("fleet.js", "d"), ("fleet.js", "this.data"), ("map.js", "states")}
    constants = {("passkey.js", "parts"), ("verify.js", "chosen"), ("ingest.js", "lines")}
    assert written == arrays | constants
    for name, text in _modules().items():
        assert not re.search(r"__proto__|setPrototypeOf|Object\.assign\(\s*\{|for \((?:const|let) \w+ in ", text), name


def test_a_sessions_secret_is_256_bits_of_the_systems_randomness() -> None:
    asked: list[int] = []

    class Counted(SystemRandom):
        def bits(self, count: int) -> int:
            asked.append(count)
            return (1 << count) - 1

    parts = Parts(Mock(), Mock(), Mock(), Counted(), Mock())
    assert base64.urlsafe_b64decode(parts.secret() + "=") == b"\xff" * 32
    assert asked == [256]
    assert "secrets.randbits(" in inspect.getsource(SystemRandom.bits)


def test_a_stations_password_is_kept_as_salted_scrypt_of_100_random_bits() -> None:
    password = proving.new_password(SystemRandom())
    kept, again = proving.hash_password(password), proving.hash_password(password)
    assert len(password) * 5 == 100
    assert kept[16:] == hashlib.scrypt(password.encode(), salt=kept[:16], n=1 << 12, r=8, p=1, dklen=32)
    assert kept[:16] != again[:16]
    assert proving.is_password(password, kept)
    assert not proving.is_password(password[:-1], kept)


def test_personal_answers_are_not_stored() -> None:
    """Who answers with data of people or vehicles says so at the answer."""
    for service in ("services/telemetry/history_api.py", "services/consent/api.py", "services/sharing/api.py"):
        assert "no-store" in _python()[service], service
    assert "no-store" in (SOURCE / "doors/http/openid_provider.py").read_text("utf-8")
