"""What goes wrong, as a browser's reader sees it: a page in his language; and as programs do: the document, as ever."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import toytown

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    services, _ = toytown.services(toytown.Toys(3), tmp_path_factory.mktemp("problems"))
    with toytown.Served(services) as served:
        yield served.address


PAGES = [
    # address, language, status, what is said
    ("/no-such-page", "en", 404, "There is nothing here"),
    ("/no-such-page", "fr", 404, "Il n’y a rien ici"),
    ("/v1/no-such-thing", "zh-CN", 404, "这里没有内容"),
    ("/static/no-such.css", "fr", 404, "Il n’y a rien ici"),
    ("/vehicles/%00", "fr", 400, "Demande impossible"),
    ("/vehicles/99999999999999999999", "zh", 404, "这里没有内容"),
    ("/vehicles/12345", "en", 404, "There is nothing here"),
    ("/v1/vehicles?limit=many", "en", 400, "limit"),
]


@pytest.mark.parametrize(("path", "language", "status", "said"), PAGES)
def test_a_reader_is_told_in_his_language(address: str, path: str, language: str, status: int, said: str) -> None:
    headers = {"accept": BROWSER, "accept-language": language, **toytown.signed_in(address)}
    answer = httpx.get(address + path, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert said in answer.text
    assert 'href="/why/' in answer.text
    assert answer.headers["x-request-id"] in answer.text


@pytest.mark.parametrize(("path", "status"), [(path, status) for path, _, status, _ in PAGES])
@pytest.mark.parametrize("accept", ["*/*", "application/json", ""])
def test_a_program_is_told_as_ever(address: str, path: str, status: int, accept: str) -> None:
    answer = httpx.get(address + path, headers={"accept": accept, **toytown.signed_in(address)})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_the_loopbacks_number_leads_a_reader_to_its_name(address: str) -> None:
    port = address.rpartition(":")[2]
    for host in (f"127.0.0.1:{port}", f"[::1]:{port}"):
        answer = httpx.get(f"{address}/vehicles?find=a%20b", headers={"accept": BROWSER, "host": host})
        assert (answer.status_code, answer.headers["location"]) == (307, f"{address}/vehicles?find=a%20b")
        assert httpx.post(f"{address}/signout", headers={"accept": BROWSER, "host": host}).status_code == 421


def test_another_name_leads_nowhere(address: str) -> None:
    answer = httpx.get(address, headers={"accept": BROWSER, "host": "rebound.example"})
    assert (answer.status_code, answer.headers["content-type"]) == (421, "text/html; charset=utf-8")
    assert "rebound.example" not in answer.text
