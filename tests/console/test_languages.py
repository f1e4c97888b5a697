"""Language catalogues: the same keys everywhere, and the best match for a reader."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from rocade.console import languages

CHOICES = [
    (None, "", "en"),
    (None, "fr-FR,fr;q=0.9,en;q=0.8", "fr"),
    (None, "en;q=0.3,zh-CN;q=0.7", "zh"),
    (None, "de,it;q=0.5", "en"),
    (None, "fr;q=nonsense,zh;q=0.1", "zh"),
    ("zh", "fr", "zh"),
    ("klingon", "fr", "fr"),
]


@pytest.mark.parametrize(("cookie", "accepted", "code"), CHOICES)
def test_the_cookie_wins_then_the_browser_then_english(cookie: str | None, accepted: str, code: str) -> None:
    assert languages.choose(cookie, accepted) == code


def test_all_catalogues_have_the_same_keys_and_placeholders() -> None:
    english = languages.texts("en")
    for code in languages.CODES:
        other = languages.texts(code)
        assert english.keys() == other.keys()
        for key, text in english.items():
            assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", other[key])), key


def test_every_text_a_page_names_exists() -> None:
    root = resources.files("rocade.console")
    sources = [
        *Path(str(root.joinpath("templates"))).rglob("*.html"),
        *(f for f in root.joinpath("static").iterdir() if f.name.endswith(".js")),
    ]
    named = {key for file in sources for key in re.findall(r"\bt(?:\[|\()['\"]([a-z_.0-9]+)['\"]", file.read_text())}
    assert len(named) > 40
    assert {key for key in named if not key.endswith((".", "_"))} <= languages.texts("en").keys()
