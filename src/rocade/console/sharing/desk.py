"""What the pages of sharing ask, put together by `app`."""

from __future__ import annotations

from dataclasses import dataclass

from litestar.di import NamedDependency
from litestar.params import SkipValidation

from rocade.console.my import Mine
from rocade.services.sharing import Sharing
from rocade.services.sharing.whole import Whole


@dataclass(frozen=True, kw_only=True)
class ShareDesk:
    """`has_webhooks`: whether this region posts feeds."""

    sharing: Sharing
    mine: Mine
    whole: Whole
    has_webhooks: bool


ShareDependency = NamedDependency[SkipValidation[ShareDesk]]
