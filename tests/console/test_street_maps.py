"""A PMTiles file that the operator sets is what the browser draws, read piece by piece from this host alone."""

from __future__ import annotations

from base64 import b64encode
from itertools import pairwise
from pathlib import Path

import pytest
import street_maps
import toytown
from playwright.sync_api import Browser, Page, Request

from rocade.app import configuration as settings

HERE = (2.3522, 48.8566)
HIGHWAY = [(HERE[0] - 0.05, HERE[1]), (HERE[0] + 0.05, HERE[1])]
PARK = [(2.34, 48.84), (2.36, 48.84), (2.36, 48.85), (2.34, 48.85)]
LAND = [(-20.0, 30.0), (30.0, 30.0), (30.0, 65.0), (-20.0, 65.0)]

FOUND = (
    "rocade.map.queryRenderedFeatures({ layers: ['streets-highway', 'streets-earth', 'streets-green'] })"
    ".map((one) => one.sourceLayer + ' ' + one.properties.kind)"
)


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    """Land, a park and a highway through HERE, in the tile about HERE of each zoom."""
    features: list[street_maps.Feature] = [
        ("earth", "earth", True, LAND), ("landuse", "park", True, PARK), ("roads", "highway", False, HIGHWAY)
    ]  # fmt: skip
    tiles = [street_maps.tile_at(zoom, *HERE) for zoom in range(13)]
    (tmp_path / "streets.pmtiles").write_bytes(street_maps.write(features, tiles))
    return tmp_path / "streets.pmtiles"


def test_tiles_are_numbered_along_the_curve() -> None:
    assert [street_maps.identifier(1, *tile) for tile in ((0, 0), (0, 1), (1, 1), (1, 0))] == [1, 2, 3, 4]
    for zoom in range(5):
        side = range(2**zoom)
        places = sorted((street_maps.identifier(zoom, x, y), x, y) for x in side for y in side)
        assert [number for number, _, _ in places] == list(range((4**zoom - 1) // 3, (4 ** (zoom + 1) - 1) // 3))
        assert all(abs(x - a) + abs(y - b) == 1 for (_, x, y), (_, a, b) in pairwise(places)), "each beside the next"


def test_the_setting_names_the_file(streets: Path, tmp_path: Path) -> None:
    plain = settings.Configuration("eu", "test.rocade", http=settings.Http(pmtiles=str(streets)))
    (tmp_path / "rocade.toml").write_text(settings.render(plain))
    assert Path(settings.load(tmp_path).http.pmtiles) == streets


def test_street_maps_are_asked_for_by_range_decoded_and_drawn_and_no_other_host_is_asked(
    browser: Browser, streets: Path, tmp_path: Path
) -> None:
    services, _ = toytown.services(toytown.Toys(3), tmp_path, town=None, pmtiles=streets)
    with toytown.Served(services) as served:
        page = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light").new_page()
        asked: list[Request] = []
        complaints: list[str] = []

        def note(request: Request) -> None:
            asked.append(request)

        page.on("request", note)
        page.on("console", lambda one: toytown.is_complaint(one) and complaints.append(one.text))
        toytown.sign_in(page, served.address)
        page.goto(served.address)
        toytown.wait(page, "window.rocade && rocade.map.loaded()")
        page.evaluate(f"void rocade.map.jumpTo({{ center: {list(HERE)}, zoom: 14 }})")
        toytown.wait(page, f"{FOUND}.includes('roads highway') && rocade.map.loaded()")
        found = page.evaluate(FOUND)
        column = colours(page)
        toytown.leave(page.context)
    pieces = [one for one in asked if one.url.endswith("/live/streets.pmtiles")]
    assert {"roads highway", "earth earth"} <= set(found)
    assert len(pieces) >= 2
    assert all(one.headers["range"].startswith("bytes=") for one in pieces)
    own = (served.address + "/", f"blob:{served.address}/", "data:")
    assert [one.url for one in asked if not one.url.startswith(own)] == []
    assert complaints == []
    assert [255, 223, 142] in column, f"no highway where it should be: {column}"


def colours(page: Page) -> list[list[int]]:
    """What is seen about HERE, from above to below; a blank page decodes the picture."""
    x, y = page.evaluate(
        f"""(() => {{
            const {{ left, top }} = rocade.map.getContainer().getBoundingClientRect(), here = rocade.map.project({list(HERE)});
            return [left + here.x, top + here.y];
        }})()"""
    )
    picture = b64encode(page.screenshot(clip={"x": int(x), "y": int(y) - 20, "width": 1, "height": 40})).decode()
    blank = page.context.new_page()
    found: list[list[int]] = blank.evaluate(
        """async (picture) => {
            const image = new Image();
            image.src = "data:image/png;base64," + picture;
            await image.decode();
            const canvas = new OffscreenCanvas(1, 40).getContext("2d");
            canvas.drawImage(image, 0, 0);
            const { data } = canvas.getImageData(0, 0, 1, 40);
            return Array.from({ length: 40 }, (_, y) => [...data.slice(4 * y, 4 * y + 3)]);
        }""",
        picture,
    )
    return found
