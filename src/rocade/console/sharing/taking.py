"""All of one's own data as one zip, with an index anybody can read, in the reader's language."""

from __future__ import annotations

from importlib import resources

from litestar import get
from litestar.params import FromPath
from litestar.response import Stream

from rocade.console import languages, pages
from rocade.console.my.frame import car_of, figure, mask_names
from rocade.console.sharing.desk import ShareDependency
from rocade.doors.http import AnyRequest, does, permit_of
from rocade.services.sharing.whole import Contents
from rocade.trust.authority.gate import acts

STYLE = resources.files("rocade.console").joinpath("static", "whole.css")


@get("/my/{ref:int}/download/all", opt=does(acts.DOWNLOAD), include_in_schema=False)
async def download_all(request: AnyRequest, ref: FromPath[int], share_desk: ShareDependency) -> Stream:
    """Everything kept of this vehicle in the viewer's time; a driver gets the classes he may see, and no agreements."""
    car = await car_of(request, share_desk.mine, ref)
    language = pages.language_of(request)

    def index(contents: Contents) -> dict[str, bytes]:
        html = pages.filled(
            "my/whole.html", t=languages.texts(language), language=language, car=car, contents=contents,
            n=lambda value: figure(language, value), iso=pages.iso,
        )  # fmt: skip
        return {"index.html": html.encode(), "style.css": STYLE.read_bytes()}

    is_owner = permit_of(request).right.relation in {"owner", "former"}
    body = share_desk.whole.zipped(ref, mask_names(request), index, is_owner=is_owner)
    name = f"rocade-{pages.iso(share_desk.mine.clock.now_us())[:10]}.zip"
    headers = {"cache-control": "no-store", "content-disposition": f'attachment; filename="{name}"'}
    return Stream(body, media_type="application/zip", headers=headers)


HANDLERS = [download_all]
