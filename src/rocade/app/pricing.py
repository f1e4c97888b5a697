"""Price lists as the processes that speak of them open them."""

from __future__ import annotations



