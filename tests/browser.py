"""Which Chromium shows pages to tests: its headless shell, the same engine without the window that nobody sees.

The whole program draws each window's own bar, tabs and buttons as pages too: half of what a browser test cost. Where the
shell is missing it is taken all the same, and for figures of what a reader's own browser does.
"""

from __future__ import annotations

import shutil

WHOLE = "/usr/bin/chromium"
CHROMIUM = shutil.which("chromium-headless-shell") or WHOLE
