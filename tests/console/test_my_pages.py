"""The pages of owners and drivers in a real browser, over real consents, people, gate and history."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import toytown
from household import Household
from phones import GARAGE, INSURER, Phone, allow, forget, grants, with_passkey
from playwright.sync_api import Browser, Page, expect
from pyarrow import parquet

from rocade.core import data_classes
from rocade.fabric.history.process import StoreProcess

DAY_US = 86_400_000_000


@pytest.fixture(scope="module")
def house(postgres_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Household]:
    from city import fresh_database

    with tempfile.TemporaryDirectory(prefix="rocade-my-") as directory:
        process = StoreProcess(Path(directory))
        process.start()
        with Household(
            fresh_database(postgres_url, template, "household"), process.url, tmp_path_factory.mktemp("my")
        ) as made:
            for name in ("e208", "c3", "lune"):
                made.call(made.drive(name))
            yield made
        process.stop()


type Phones = Callable[..., Phone]


@pytest.fixture
def phone(browser: Browser, house: Household) -> Iterator[Phones]:
    made: list[Phone] = []

    def make(who: str = "Léa", **options: Any) -> Phone:
        made.append(Phone(browser, house, who, **options))
        return made[-1]

    yield make
    for one in made:
        one.leave()


@pytest.fixture
def clean(house: Household) -> Iterator[Household]:
    """The household without permissions and drivers before and after."""
    forget(house)
    yield house
    forget(house)


# --- now --------------------------------------------------------------------------------------------------------------


def test_my_vehicles_show_charge_fuel_range_and_place_of_every_kind(phone: Phones, clean: Household) -> None:
    one = phone()
    page = one.open("/my")
    expect(page.locator(".wheels")).to_have_count(4)
    assert re.search(r"Charge\s*74\s*%\s*Range 251 km", page.inner_text(f"[data-car='{clean.ref('e208')}']"))
    assert re.search(r"Fuel\s*12\s*%\s*5\.4 l\s*parked", page.inner_text(f"[data-car='{clean.ref('c3')}']"))
    assert "No motor" in page.inner_text(f"[data-car='{clean.ref('lune')}']")
    assert "41" in page.inner_text(f"[data-car='{clean.ref('volta')}']")
    assert page.get_attribute(f"[data-car='{clean.ref('c3')}'] meter", "value") == "12.0"
    toytown.wait(page, "window.rocade && rocade.spots.size === 4 && document.querySelectorAll('.spot').length === 4")
    assert "near " in page.inner_text(f"[data-car='{clean.ref('e208')}'] .place")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert one.foreign() == []
    assert one.complaints == []


def test_a_value_reaches_the_open_page_by_itself(phone: Phones, clean: Household) -> None:
    page = phone().open(f"/my/{clean.ref('volta')}")
    page.wait_for_selector("#live[data-state=live]")
    key = "Vehicle.Powertrain.TractionBattery.StateOfCharge.Current"
    clean.call(clean.see("volta", **{key: 63.0}))
    expect(page.locator("#glance strong")).to_contain_text("63")
    assert page.get_attribute("#glance meter", "value") == "63.0"
    clean.call(clean.see("volta", **{key: 41.25}))


def test_all_values_are_listed_by_kind_of_data_and_fetched_when_asked_for(phone: Phones, clean: Household) -> None:
    one = phone()
    page = one.open(f"/my/{clean.ref('e208')}")
    assert not [url for url in one.requests if url.endswith("/values")]
    page.click("#values summary")
    expect(page.locator("#readings h3")).to_have_text(["Place", "Driving", "Energy", "Condition", "Cabin"])
    assert "StateOfHealth" in page.inner_text("#readings")
    assert one.complaints == []


# --- trips ------------------------------------------------------------------------------------------------------------

USED = {
    "e208": (r"17 km", r"kWh \([\d.]+.kWh per 100 km\)"),
    "c3": (r"18\.8 km", r"1\.[5-7].l \(8\.\d.l per 100 km\)"),
    "lune": (r"5\.7 km", r"does not report energy or fuel"),
}


@pytest.mark.parametrize("name", USED)
def test_a_trip_is_on_the_map_with_its_speed_and_what_it_used(phone: Phones, clean: Household, name: str) -> None:
    one = phone()
    page = one.open(f"/my/{clean.ref(name)}/trips")
    way, used = USED[name]
    expect(page.locator(".trips li")).to_have_count(1)
    assert re.search(way, page.inner_text(".trips"))
    assert re.search(used, page.inner_text(".trips"))
    toytown.wait(page, "window.rocade?.ride?.lines.length === 1 && rocade.map.getLayer('ride') !== undefined")
    assert page.evaluate("rocade.ride.lines[0].length") > 400
    assert page.evaluate("Math.max(...rocade.ride.speed)") > 15
    assert page.evaluate("rocade.ride.level_of") == {"e208": "charge"}.get(name, "")
    expect(page.locator("#trip-chart canvas")).to_be_visible()
    assert one.foreign() == []
    assert one.complaints == []


# --- permissions ------------------------------------------------------------------------------------------------------


def test_one_tap_gives_a_permission_and_one_tap_takes_it_back(phone: Phones, clean: Household) -> None:
    one = phone()
    page = one.open(f"/my/{clean.ref('e208')}/sharing")
    page.get_by_role("button", name="Allow: Workshop garage-ronville, service and repair").click()
    expect(page.locator(".said")).to_contain_text("Workshop garage-ronville may now see it")
    assert grants(clean) == [(GARAGE, "maintenance", ("condition",))]
    page.get_by_role("button", name="Take back: Workshop garage-ronville, service and repair").click()
    expect(page.locator(".said")).to_contain_text("open connections included")
    assert grants(clean) == []
    page.wait_for_timeout(900)
    assert "another window" not in page.inner_text("body"), "one's own act is not another window's"
    assert one.complaints == []


def test_a_permission_is_made_smaller_and_gets_an_end(phone: Phones, clean: Household) -> None:
    allow(clean, "condition", "energy", "driving")
    page = phone(timezone_id="Europe/Paris").open(f"/my/{clean.ref('e208')}/sharing")
    page.locator(".change summary").click()
    page.uncheck(".change input[value=driving]")
    page.fill(".change input[type=date]", "2099-03-01")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".said")).to_contain_text("now sees only what is left")
    assert grants(clean) == [(GARAGE, "maintenance", ("energy", "condition"))]
    made = clean.call(clean.consents.grants(clean.ref("e208"), True))[0]
    assert made.until_us == (4_076_092_800 - 3600 - 1) * 1_000_000, "the end of that day, in Paris"
    expect(page.locator(".grants").first).to_contain_text("until Mar 1, 2099")


def test_any_permission_can_be_composed_by_hand(phone: Phones, clean: Household) -> None:
    page = phone().open(f"/my/{clean.ref('c3')}/sharing")
    page.locator(".more summary").click()
    page.select_option("#f-recipient", INSURER)
    page.select_option("#f-purpose", "insurance")
    page.check(".more input[value=driving]")
    page.check(".more input[value=location]")
    page.select_option("#f-days", "30")
    page.locator(".more").get_by_role("button", name="Allow").click()
    expect(page.locator(".said")).to_be_visible()
    assert grants(clean, "c3") == [(INSURER, "insurance", ("location", "driving"))]


def test_what_is_collected_says_how_much_and_who_sees_it(phone: Phones, clean: Household) -> None:
    allow(clean, "driving", recipient=INSURER, purpose="insurance")
    page = phone().open(f"/my/{clean.ref('e208')}/data")
    kinds = page.locator(".kind")
    expect(kinds).to_have_count(7)
    expect(kinds.nth(1)).to_contain_text("2,880 values")
    assert "Partner assur-nord for insurance" in kinds.nth(2).inner_text()
    assert "Only you." in kinds.nth(1).inner_text()


# --- looks ------------------------------------------------------------------------------------------------------------


def test_who_looked_says_when_what_for_and_under_which_permission(phone: Phones, clean: Household) -> None:
    id = allow(clean, "condition")
    clean.call(clean.note_look("e208", GARAGE, "maintenance", data_classes.mask(["condition"]), id, times=5))
    page = phone().open(f"/my/{clean.ref('e208')}/looks")
    line = page.locator(".looks li").first
    for word in ("Workshop garage-ronville", "live values", "service and repair", "5 times", "Condition", id):
        expect(line).to_contain_text(word)
    assert re.fullmatch(r"/why/\S+", str(line.locator(".why").get_attribute("href")))
    page.get_by_role("button", name="You", exact=True).click()
    expect(page.locator(".looks li").first).to_contain_text("You")


# --- drivers ----------------------------------------------------------------------------------------------------------


def test_a_driver_is_invited_accepts_sees_what_was_allowed_and_is_ended(phone: Phones, clean: Household) -> None:
    owner, driver = phone(), phone("Max")
    page = owner.open(f"/my/{clean.ref('c3')}/drivers")
    for name in ("location", "driving", "cabin"):
        page.uncheck(f".more input[value={name}]")
    page.get_by_role("button", name="Make the invitation").click()
    link = page.inner_text("#the-code")
    assert link.startswith(f"{clean.address}/my/invitations/")
    toytown.wait(page, "document.querySelector('img.qr').naturalWidth > 0")
    assert "invitation not used yet" in page.inner_text("#board")

    guest = driver.open(link.removeprefix(clean.address))
    assert "Citroën C3" in guest.inner_text("main")
    assert "Battery, fuel" in guest.inner_text("main")
    assert "Where it is" not in guest.inner_text("main")
    guest.get_by_role("button", name="Accept").click()
    guest.wait_for_url(f"**/my/{clean.ref('c3')}")
    assert "5.4 l" in guest.inner_text("#glance")
    assert "not shared with you" in guest.inner_text("#glance")
    assert guest.locator("#place-map").count() == 0
    assert [one.split("/")[-1] for one in hrefs(guest)] == ["data", "download"]
    expect(page.locator("#board")).to_contain_text("drives")  # the owner's page follows by itself

    page.get_by_role("button", name="End: Max").click()
    expect(guest.locator("h1")).to_have_text("Your access to this vehicle has ended")
    assert "5.4 l" not in guest.content()


def hrefs(page: Page) -> list[str]:
    return [str(one.get_attribute("href")) for one in page.locator(".menu-list a").all()]


def test_an_invitation_is_good_once(phone: Phones, clean: Household) -> None:
    owner, ref = clean.persons["Léa"], clean.ref("lune")
    until_us = clean.clock.now_us() + DAY_US
    _, code = clean.call(clean.consents.invite(ref, owner, data_classes.mask(["energy"]), until_us))
    clean.call(clean.consents.accept(code, clean.persons["Max"]))
    page = phone("Ida").open(f"/my/invitations/{code}")
    assert "consent.invitation.used" in page.inner_text("main")
    assert "Lune" not in page.inner_text("main")
    page = phone().open(f"/my/invitations/{'0' * 25}")
    assert "consent.invitation.unknown" in page.inner_text("main")


# --- two tabs ---------------------------------------------------------------------------------------------------------


def test_two_tabs_the_other_one_says_that_permissions_changed(phone: Phones, clean: Household) -> None:
    allow(clean, "condition")
    one = phone()
    first, second = (
        one.open(f"/my/{clean.ref('e208')}/sharing"),
        one.open(f"/my/{clean.ref('e208')}/sharing", one.tab()),
    )
    second.wait_for_selector("#live[data-state=live]")
    first.get_by_role("button", name="Take back: Workshop garage-ronville, service and repair").click()
    expect(second.locator("#notices")).to_contain_text("changed in another window")
    expect(second.locator("#board")).to_contain_text("You have given no permission")
    expect(first.locator("#notices")).not_to_contain_text("another window")


def test_two_tabs_an_act_that_comes_too_late_says_so_and_changes_nothing(phone: Phones, clean: Household) -> None:
    id = allow(clean, "condition", "energy")
    one = phone()
    page = one.open(f"/my/{clean.ref('e208')}/sharing")
    before = len(clean.notes.entries)
    page.route("**/my/live/**", lambda route: route.abort())  # this window heard of nothing
    page.reload()
    clean.call(clean.consents.withdraw(clean.ref("e208"), clean.persons["Léa"], id))
    page.get_by_role("button", name="Take back: Workshop garage-ronville, service and repair").click()
    expect(page.locator(".said")).to_contain_text("already ended, perhaps in another window")
    assert grants(clean) == []
    refused = [
        entry.reason
        for entry in clean.notes.entries[before:]
        if entry.action == "consent.withdraw" and entry.outcome == "refused"
    ]
    assert refused == ["consent.grant.unknown"]


def test_two_tabs_signed_out_in_one_empties_the_other(phone: Phones, clean: Household) -> None:
    one = phone()
    first, second = one.open("/my"), one.open(f"/my/{clean.ref('e208')}", one.tab())
    second.wait_for_selector("#live[data-state=live]")
    first.evaluate("fetch('/signout', {method: 'POST'})")
    expect(second.locator("h1")).to_have_text("You are signed out")
    assert "251" not in second.inner_text("body"), "the range"


def test_rights_that_end_while_the_connection_is_down_are_found_when_it_is_back(
    phone: Phones, clean: Household
) -> None:
    until_us = clean.clock.now_us() + DAY_US
    guest, code = clean.call(
        clean.consents.invite(clean.ref("volta"), clean.persons["Léa"], data_classes.mask(["energy"]), until_us)
    )
    clean.call(clean.consents.accept(code, clean.persons["Max"]))
    one = phone("Max")
    page = one.open(f"/my/{clean.ref('volta')}")
    page.wait_for_selector("#live[data-state=live]")
    one.context.set_offline(True)
    clean.call(clean.consents.end(clean.ref("volta"), clean.persons["Léa"], guest.id))
    page.wait_for_timeout(300)
    one.context.set_offline(False)
    expect(page.locator("h1")).to_have_text("Your access to this vehicle has ended")


# --- others -----------------------------------------------------------------------------------------------------------

OWNERS_PAGES = ("", "/values", "/trips", "/data", "/sharing", "/looks", "/drivers", "/download", "/handover", "/erase")


@pytest.mark.parametrize("who", ["Max", "Ida"])
def test_nobody_opens_a_page_of_somebody_else_s_vehicle(phone: Phones, clean: Household, who: str) -> None:
    one = phone(who)
    for path in OWNERS_PAGES:
        answer = one.page.goto(f"{clean.address}/my/{clean.ref('e208')}{path}")
        assert answer is not None
        assert (answer.status, "gate.denied" in one.page.content()) == (403, True), path
        assert "e-208" not in one.page.content()
    assert one.open("/my").locator(".wheels").count() == 0


def test_an_operator_who_owns_a_vehicle_sees_it_as_its_owner(phone: Phones, clean: Household) -> None:
    clean.persons["Ada"] = clean.call(clean.people.add("Ada", ("support",))).id
    ref = clean.call(clean.registry.add("LUNE-9001", "bicycle", "lune", "Ada's", "none", "eu")).ref
    clean.call(clean.consents.own(ref, clean.persons["Ada"]))
    one = phone("Ada")
    expect(one.open("/my").locator(".wheels")).to_have_count(1)
    one.open(f"/my/{ref}/sharing")
    expect(one.page.locator("#board")).to_contain_text("You have given no permission")
    assert one.page.goto(f"{clean.address}/my/{clean.ref('e208')}?purpose=operation").status == 403  # type: ignore[union-attr]


def test_a_driver_gets_none_of_the_owner_s_pages_nor_acts(phone: Phones, clean: Household) -> None:
    until_us = clean.clock.now_us() + DAY_US
    _, code = clean.call(
        clean.consents.invite(clean.ref("c3"), clean.persons["Léa"], data_classes.mask(["energy"]), until_us)
    )
    clean.call(clean.consents.accept(code, clean.persons["Max"]))
    one = phone("Max")
    for path in ("/trips", "/sharing", "/looks", "/drivers", "/handover", "/erase"):
        answer = one.page.goto(f"{clean.address}/my/{clean.ref('c3')}{path}")
        assert answer is not None
        assert answer.status == 403, path
    posts = ("grants", "grants/grant-1/withdraw", "drivers", f"drivers/{code}/end", "handover", "erase")
    one.open("/my")
    for path in posts:
        status = one.page.evaluate(
            "path => fetch(path, {method: 'POST', body: new URLSearchParams()}).then(r => r.status)",
            f"/my/{clean.ref('c3')}/{path}",
        )
        assert status == 403, path


def test_another_page_cannot_post_for_an_owner(phone: Phones, clean: Household) -> None:
    one = phone()
    one.open("/my")
    answer = one.context.request.post(
        f"{clean.address}/my/{clean.ref('e208')}/grants",
        form={"recipient": GARAGE},
        headers={"origin": "http://evil.example"},
    )
    assert answer.status == 403
    assert answer.json()["code"] == "access.cross_site"
    assert grants(clean) == []


# --- what cannot be undone --------------------------------------------------------------------------------------------


def test_a_claim_a_sale_and_an_erasure_with_the_passkey(phone: Phones, clean: Household) -> None:
    """Ida claims the scooter, sells it to Max; each sees his own time and nothing of the other's."""
    ida, max_ = phone(""), phone("Max")
    ida.who = "Ida"
    with_passkey(ida)
    code = clean.call(clean.consents.hand_out(clean.ref("patin"), "operator"))
    page = ida.open("/my/claim")
    page.fill("#f-code", "00000-00000-00000-00000-00000")
    page.get_by_role("button", name="This is my vehicle").click()
    expect(page.locator(".field.wrong")).to_contain_text("not known")
    assert "consent.claim.unknown" in page.inner_text("main")
    page.fill("#f-code", code.lower().replace("-", " "))
    page.get_by_role("button", name="This is my vehicle").click()
    page.wait_for_url(f"**/my/{clean.ref('patin')}")
    clean.call(clean.drive("patin", 1.0, 4))

    page = ida.open(f"/my/{clean.ref('patin')}/handover")
    page.check(".sure input")
    page.get_by_role("button", name="Make the code").click()
    sale = page.inner_text("#the-code")
    assert re.fullmatch(r"([0-9A-Z]{5}-){4}[0-9A-Z]{5}", sale)
    watching = ida.open(f"/my/{clean.ref('patin')}", ida.tab())
    watching.wait_for_selector("#live[data-state=live]")

    buyer = max_.open("/my/claim")
    buyer.fill("#f-code", sale)
    buyer.get_by_role("button", name="This is my vehicle").click()
    buyer.wait_for_url(re.compile(rf"/my/(?!claim)(?!{clean.ref('patin')})\d+"))
    new = buyer.url.rpartition("/")[2]
    expect(watching.locator("h1")).to_have_text("Your access to this vehicle has ended")
    assert "not sent anything yet" in buyer.inner_text("#glance")
    buyer.goto(f"{clean.address}/my/{new}/trips")
    expect(buyer.locator("#trips")).to_contain_text("No trips in this period")
    assert buyer.goto(f"{clean.address}/my/{clean.ref('patin')}").status == 403  # type: ignore[union-attr]

    page = ida.open("/my")
    expect(page.locator(".wheels")).to_have_count(0)
    page.locator(".plain-list a").click()
    page.wait_for_url(f"**/my/{clean.ref('patin')}")
    assert [one.split("/")[-1] for one in hrefs(page)] == ["trips", "data", "looks", "download", "erase"]
    page = ida.open(f"/my/{clean.ref('patin')}/erase")
    expect(page.locator("#count")).to_contain_text("720 values would be erased")
    page.check(".sure input")
    page.get_by_role("button", name="Erase for good").click()
    expect(page.locator("#board")).to_contain_text("Erased: 720 values")
    expect(page.locator("#board a[download]")).to_have_attribute("href", "/v1/erasures/00000000000000aa/certificate")
    assert ida.page.goto(f"{clean.address}/my/{new}").status == 403  # type: ignore[union-attr]


def test_without_a_passkey_nothing_is_erased(phone: Phones, clean: Household) -> None:
    page = phone().open(f"/my/{clean.ref('c3')}/erase")
    expect(page.locator("#count")).to_contain_text("values would be erased")
    page.check(".sure input")
    page.get_by_role("button", name="Erase for good").click()
    expect(page.locator("#notices .notice.bad")).to_be_visible()
    status = page.evaluate("path => fetch(path, {method: 'POST'}).then(r => r.json())", f"/my/{clean.ref('c3')}/erase")
    assert status["code"] == "gate.denied"
    assert clean.call(clean.twins.latest(clean.ref("c3"))) is not None


# --- taken along ------------------------------------------------------------------------------------------------------


def test_my_data_come_along_as_csv_json_and_parquet(phone: Phones, clean: Household, tmp_path: Path) -> None:
    one = phone()
    page = one.open(f"/my/{clean.ref('c3')}/download")
    page.fill(
        "#f-from", "2020-01-01"
    )  # the page begins with the day the car was given; the drive was three hours before
    page.uncheck("input[value=location]")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download").click()
    rows = list(csv.DictReader(io.StringIO(Path(waiting.value.path()).read_text())))
    assert re.fullmatch(r"rocade-\d{4}-\d\d-\d\d-\d{4}-\d\d-\d\d\.csv", waiting.value.suggested_filename)
    assert {row["signal"] for row in rows} == {"Vehicle.Speed", "Vehicle.Powertrain.FuelSystem.AbsoluteLevel"}
    assert len(rows) == 2 * 24 * 60
    answer = one.context.request.get(
        page.url.replace("/download", "/download/file") + "?since=2020-01-01&until=2099-01-01&format=parquet"
    )
    (tmp_path / "all.parquet").write_bytes(answer.body())
    table = parquet.read_table(tmp_path / "all.parquet")
    assert table.num_rows == 4 * 24 * 60
    bad = one.context.request.get(
        page.url.replace("/download", "/download/file") + "?since=2020-13-01&until=2099-01-01"
    )
    assert (bad.status, "console.date" in bad.text()) == (400, True)
