"""Which of Debian's two Chromiums shows pages to tests.

The whole program for stories, for figures and for `make test FULL=1`; its headless shell, the same engine without the window that
nobody sees, where many pages are looked at: the whole program draws each window's own bar, tabs and buttons as pages
too, half of what a browser test costs.
"""

from __future__ import annotations

import shutil

WHOLE = "/usr/bin/chromium"
SHELL = shutil.which("chromium-headless-shell") or WHOLE
