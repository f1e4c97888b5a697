"""Every code and every doubt is explained: what it means, what brought it about, what to do, in three languages."""

from __future__ import annotations

import ast
import functools
import re
import string
from pathlib import Path

import pytest
from programs import tool

from rocade.core.signals import Quality
from rocade.core.why import LANGUAGES
from rocade.core.why.model import PARTS
from rocade.core.why.texts import part, texts
from rocade.trust.identity import tls
from rocade.wire.batch import CODES

ROOT = Path(__file__).resolve().parents[2]
MQTT_ACTIONS = {"mqtt.connect", "mqtt.connection", "mqtt.publish", "mqtt.subscribe"}
SOURCES = sorted((ROOT / "src").rglob("*.py"))


@functools.cache
def codes() -> set[str]:
    """Every code of the source; one that is filled in at run time as its family, `a.b.*`. Not read by who only collects."""
    calls = tool("write_lists").calls
    found = {re.sub(r"<[^>]*>.*", "*", code) for file in SOURCES for _, code, _ in calls(file.read_text("utf-8"))}
    table = (ROOT / "docs/trust.md").read_text("utf-8").partition("## Reasons for refusing a certificate")[2]
    certificates, _, handshakes = table.partition("## Reasons for a failed handshake")
    rows = re.compile(r"^\| (`[a-z_0-9`, ]+`) \|", re.MULTILINE)
    for prefix, text in (("trust.certificate.", certificates), ("trust.handshake.", handshakes)):
        found |= {prefix + name for row in rows.findall(text) for name in re.findall(r"[a-z_0-9]+", row)}
    found |= {f"trust.handshake.{name}" for name in (*tls._VERIFY_REASONS.values(), *tls._SSL_REASONS.values())}
    found |= {f"quality.{(flag.name or '').lower()}" for flag in Quality} | {"quality.good", "telemetry.gap"}
    found |= {
        "http.request.invalid",
        "http.path.unknown",
        "http.method.refused",
        "http.body.too_large",
        "http.unforeseen",
        "http.status.*",
    }
    door = "".join(file.read_text("utf-8") for file in (ROOT / "src/rocade/doors/mqtt").glob("*.py"))
    found |= {*re.findall(r'"(mqtt\.[a-z_]+)"', door)} - MQTT_ACTIONS | {"worker.failed"}
    stations = "".join(
        file.read_text("utf-8")
        for folder in ("doors/ocpp", "services/charging/stations")
        for file in (ROOT / "src/rocade" / folder).glob("*.py")
    )
    found |= {*re.findall(r'"((?:ocpp\.[a-z_.]+|stations\.(?:vehicle|profile|action|message)[a-z_.]*))"', stations)}
    found -= {"ocpp.connect"}
    relay = [*(ROOT / "src/rocade/doors/relay").glob("*.py"), ROOT / "src/rocade/agents/dealer/relay.py"]
    found |= {*re.findall(r'"(relay\.[a-z_]+)"', "".join(file.read_text("utf-8") for file in relay))}
    return found | {*CODES} | {f"audit.{what}" for what in ("altered", "dropped", "reordered", "truncated")}


def test_the_list_of_codes_is_whole() -> None:
    assert len(codes()) > 330
    assert {"gate.denied", "trust.certificate.*", "trust.certificate.uri_port", "batch.checksum"} <= codes()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_code_is_explained_in_each_language(language: str) -> None:
    known = texts(language).codes
    missing = [
        f"{code}: {name}"
        for code in sorted(codes())
        for name in PARTS
        if not part(code.replace("*", "any"), name, language)
        and not (name == "means" and code.endswith(".*") and code in known)  # a family whose members are all named
    ]
    assert missing == [], f"write them into src/rocade/core/why/languages/{language}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_explanation_is_left_of_a_code_that_is_gone(language: str) -> None:
    families = {code for code in codes() if code.endswith(".*")}
    stale = [
        code
        for code in texts(language).codes
        if code not in codes()
        and not any(code.startswith(family[:-1]) for family in families)
        and not (code.endswith("*") and any(known.startswith(code[:-1]) for known in codes()))
    ]
    assert stale == []


def test_the_languages_say_the_same_things() -> None:
    english = texts("en")
    for language in LANGUAGES[1:]:
        other = texts(language)
        assert other.codes.keys() == english.codes.keys()
        assert other.facts.keys() == english.facts.keys()
        shapes = {code: [bool(text) for text in parts] for code, parts in english.codes.items()}
        assert {code: [bool(text) for text in parts] for code, parts in other.codes.items()} == shapes
        for key, sentence in english.facts.items():
            assert fields(other.facts[key]) == fields(sentence), f"{language}: {key}"


def fields(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}


def test_sentences_are_written_not_copied() -> None:
    english = {text for parts in texts("en").codes.values() for text in parts} | {*texts("en").facts.values()}
    for language in LANGUAGES[1:]:
        other = {text for parts in texts(language).codes.values() for text in parts} | {*texts(language).facts.values()}
        assert english & other <= {""}, language


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_end_and_stay_short(language: str) -> None:
    ends = "。？！" if language == "zh" else ".?!…"
    said = [text for parts in texts(language).codes.values() for text in parts if text] + [
        *texts(language).facts.values()
    ]
    assert [text for text in said if text.rstrip("`»”\"')")[-1] not in ends and not text.endswith(("}", "`"))] == []
    assert [text for text in said if len(text) > 330] == []


def facts_used() -> dict[str, set[str]]:
    """Keys of facts in the source, with the names of the values each is given where they stand there as a literal."""
    found: dict[str, set[str]] = {}
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Fact" and node.args:
                key = tool("write_lists").text_of(node.args[0])
                values = node.args[1] if len(node.args) > 1 else None
                names = (
                    {str(ast.literal_eval(name)) for name in values.keys if name is not None}
                    if isinstance(values, ast.Dict) and all(values.keys)
                    else set()
                )
                for one in re.split(r" or (?![^<]*>)", key or ""):
                    if one and not one.startswith("code."):
                        found.setdefault(one, set()).update(names)
    return found


def test_every_fact_has_its_sentence_and_every_value_of_a_sentence_is_given() -> None:
    known, wrong = texts("en").facts, []
    for key, given in facts_used().items():
        pattern = re.compile(re.sub(r"<[^>]*>", "[a-z_-]+", re.escape(key).replace(r"\<", "<").replace(r"\>", ">")))
        matching = [name for name in known if pattern.fullmatch(name)]
        wrong += [] if matching else [f"{key}: no sentence"]
        wrong += [
            f"{name}: {fields(known[name]) - given} not given"
            for name in matching
            if "<" not in key and given and not fields(known[name]) <= given
        ]
    assert wrong == []


def test_every_action_with_a_sentence_is_still_done_somewhere() -> None:
    sources = "".join(file.read_text("utf-8") for file in SOURCES)
    actions = [key.removeprefix("did.") for key in texts("en").facts if key.startswith("did.")]
    assert [action for action in actions if f'"{action}"' not in sources] == []
