"""What operators do from their pages, in a real browser on real engines: search, enrol, revoke, mend quarantine, invite.

The passkey's part is played: `passkey.js` answers at once and its touch is taken; real touches are tested with the sign-in.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import toytown
from city import City, fresh_database
from playwright.sync_api import Browser, Page, expect

from rocade.core.errors import Refused
from rocade.fabric.history.process import StoreProcess
from rocade.trust.authority.people import Session

PASSKEY = "export const touch = async (act, subject) => `touched ${act} on ${subject}`;"


@pytest.fixture(scope="module")
def city(postgres_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    with tempfile.TemporaryDirectory(prefix="rocade-acts-") as directory:
        process = StoreProcess(Path(directory))
        process.start()
        with City(fresh_database(postgres_url, template, "acts"), process.url, tmp_path_factory.mktemp("acts")) as made:

            async def redeem(_session: Session, touch: str, act: str, subject: str) -> None:
                if touch != f"touched {act} on {subject}".strip():
                    raise Refused("people.touch.unknown", "touch again")

            made.people.touches.redeem = redeem  # type: ignore[method-assign]  # the passkey's part
            yield made
        process.stop()


type Open = Callable[..., Page]


@pytest.fixture
def sign_in(browser: Browser, city: City) -> Iterator[Open]:
    contexts = []

    def open_page(who: str, path: str, width: int = 1280) -> Page:
        context = browser.new_context(locale="en", viewport={"width": width, "height": 800})
        contexts.append(context)
        page = context.new_page()
        page.route("**/static/passkey.js", lambda route: route.fulfill(body=PASSKEY, content_type="text/javascript"))
        city.sign_in(page, who)
        page.goto(city.address + path)
        return page

    yield open_page
    toytown.leave(*contexts)


def test_vehicles_are_searched_and_filtered_without_a_reload(sign_in: Open, city: City) -> None:
    page = sign_in("Ada", "/vehicles")
    page.evaluate("window.isTheSame = true")
    expect(page.locator(".found")).to_have_text("65 of 65")
    page.fill("#f-find", "twizy")
    expect(page.locator(".found")).to_have_text("12 of 65")
    page.select_option("#f-vehicle_state", "moving")
    expect(page.locator(".found")).to_have_text("12 of 65")
    page.select_option("#f-vehicle_state", "silent")
    expect(page.locator("#list")).to_contain_text("No vehicle fits")
    assert "vehicle_state=silent" in page.url
    assert page.evaluate("window.isTheSame")


def test_an_owners_vehicle_shows_only_what_is_shared_and_says_so(sign_in: Open, city: City) -> None:
    page = sign_in("Ben", f"/vehicles/{city.ref('e208')}")
    expect(page.locator(".owned")).to_contain_text("you see")
    expect(page.locator("#twin")).to_contain_text("Vehicle.Speed")
    assert "TraveledDistance" not in page.inner_text("#twin")
    page.goto(f"{city.address}/vehicles/{city.ref('lune')}")
    expect(page.locator(".owned")).to_contain_text("nothing of it is shared")
    assert page.locator("#twin").count() == 0


def test_a_claim_code_is_made_with_its_picture_and_without_a_style(sign_in: Open) -> None:
    page = sign_in("Ben", "/enrolment")
    page.fill("#f-id", "VF3CTYZZZ99999999")
    page.select_option("#f-brand", "peugeot")
    page.click("text=Make a claim code")
    page.wait_for_selector(".qr svg path")
    assert len(page.inner_text(".secret-text")) == 29
    assert page.locator(".qr [style]").count() == 0
    page.fill("#f-id", "no vin")
    page.click("text=Make a claim code")
    expect(page.locator("#notices .bad code")).to_contain_text("vehicles.vin")
    assert page.locator("text=Dealer, partner or program").count() == 0, "support may not enrol parties"


def test_a_party_is_revoked_after_a_touch_and_not_without(sign_in: Open) -> None:
    page = sign_in("Ada", "/certificates?paper_state=live")
    row = page.locator("tr", has_text="voltaire-charge")
    row.locator("button").click()
    page.wait_for_selector("#revoke[open] select")
    expect(page.locator("#revoke")).to_contain_text("This cannot be undone")
    page.unroute("**/static/passkey.js")
    page.route(
        "**/static/passkey.js",
        lambda route: route.fulfill(
            body="export const touch = async () => { throw new DOMException('', 'NotAllowedError') }",
            content_type="text/javascript",
        ),
    )
    page.click("text=Revoke now")
    expect(page.locator("#notices")).to_contain_text("nothing was done")
    page = sign_in("Ada", "/certificates?paper_state=live")
    page.locator("tr", has_text="voltaire-charge").locator("button").click()
    page.click("text=Revoke now")
    expect(page.locator("#notices .good")).to_contain_text("1 certificates of voltaire-charge are revoked")
    page.goto(page.url.replace("live", "revoked"))
    expect(page.locator("#list")).to_contain_text("voltaire-charge")


def test_a_record_is_dropped_and_one_tried_again(sign_in: Open) -> None:
    page = sign_in("Ada", "/quarantine")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    rows.nth(0).locator("text=Drop…").click()
    page.click("text=Drop for good")
    expect(rows.nth(0)).to_contain_text("is dropped")
    rows.nth(1).locator("text=Try again").click()
    expect(rows.nth(1)).to_contain_text("on the road again")
    page.reload()
    expect(rows).to_have_count(1)


def test_somebody_is_invited_with_a_duty_and_ended(sign_in: Open, city: City) -> None:
    page = sign_in("Ada", "/people")
    page.click("text=Invite somebody")
    page.fill("#f-name", "Grace")
    page.check("input[name=duties][value=support]")
    page.select_option("select[name=hours]", "24")
    page.click("text=Make the invitation")
    page.wait_for_selector("#made .qr svg")
    secret = page.inner_text(".secret-text").rpartition("/signin/link/")[2]
    expect(page.locator("#made")).to_contain_text("is shown a number")
    asked = city.call(city.people.links.ask(secret, "her browser", "peer:192.0.2.7"))
    page.reload()
    row = page.locator("tr", has_text="Grace")
    expect(row).to_contain_text("support")
    row.locator("text=Confirm…").click()
    page.fill("#f-number", asked.number)
    page.click("text=Let in")
    expect(page.locator("#made .good")).to_contain_text("Confirmed")
    assert city.call(city.people.links.ask(secret, "her browser", "peer:192.0.2.7")).is_confirmed
    row.locator("text=End…").click()
    page.click("text=End for good")
    expect(page.locator("#made .good")).to_contain_text("The access is ended")
    page.reload()
    assert page.locator("tr", has_text="Grace").count() == 0


def test_a_conflict_is_settled_by_who_saw_the_papers(sign_in: Open, city: City) -> None:
    page = sign_in("Ada", "/consents")
    row = page.locator("tr", has_text="Max")
    expect(row).to_contain_text("Léa")
    row.locator("text=It stays").click()
    expect(page.locator("tbody").last).to_contain_text("settled")
    assert city.call(city.consents.conflicts()) == []


def test_the_audit_log_is_narrowed_and_proven(sign_in: Open, city: City) -> None:
    page = sign_in("Ada", f"/audit?subject=vehicle:{city.ref('fleet-0')}")
    expect(page.locator("tbody tr")).to_have_count(3)
    page.click("text=Check the whole log")
    expect(page.locator("#verified .good")).to_contain_text("The log holds")
    page.fill("#f-subject", "")
    page.select_option("#f-outcome", "refused")
    expect(page.locator("tbody")).to_contain_text("access.missing")


def test_only_what_may_be_done_is_offered_and_the_rest_is_a_page_that_says_why(sign_in: Open, city: City) -> None:
    page = sign_in("Ben", "/vehicles")
    assert page.locator("nav a[href='/audit'], nav a[href='/people'], nav a[href='/certificates']").count() == 0
    answer = page.goto(city.address + "/audit")
    assert answer is not None
    assert answer.status == 403
    expect(page.locator(".problem")).to_contain_text("gate.denied")
    expect(page.locator(".problem a[href^='/why/']")).to_be_visible()


def test_the_bar_folds_into_a_menu_on_a_phone_and_opens_by_keyboard(sign_in: Open) -> None:
    page = sign_in("Ada", "/vehicles", 360)
    expect(page.locator("nav a").first).not_to_be_visible()
    page.focus(".burger")
    page.keyboard.press("Enter")
    expect(page.locator("nav a").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("nav a").first).not_to_be_visible()
    assert page.evaluate("document.activeElement.className").endswith("burger")


def test_an_export_is_seen_and_let_go_by_somebody_else(sign_in: Open, city: City) -> None:
    page = sign_in("Ada", "/crossings/2")
    expect(page.locator("main")).to_contain_text("somebody else has to release it")
    page.goto(f"{city.address}/crossings")
    page.select_option("#f-topic", "quality.reasons")
    page.fill("#f-to", "cn")
    page.click("text=Make the draft")
    page.wait_for_url("**/crossings/3")
    page.goto(f"{city.address}/crossings/1")
    expect(page.locator("table")).to_contain_text("renault")
    page.click("text=Let it cross")
    expect(page.locator("main header b")).to_have_text("released")
    with page.expect_download() as packet:
        page.click("text=Download the packet")
    assert "application/vnd.rocade.crossing+json" in packet.value.path().read_text()
