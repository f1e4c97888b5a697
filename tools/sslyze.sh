#!/usr/bin/env bash
# Print the path of sslyze, installed into build/sslyze the first time.
# It lives apart from .venv: it wants an older `cryptography` than Rocade runs on. Versions and hashes: tools/sslyze.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! [ -x build/sslyze/bin/sslyze ] || [ tools/sslyze.txt -nt build/sslyze/stamp ]; then
  .venv/bin/python -m venv build/sslyze
  build/sslyze/bin/python -m pip install -qq --disable-pip-version-check --require-hashes --no-deps -r tools/sslyze.txt >&2
  touch build/sslyze/stamp
fi
echo "$PWD/build/sslyze/bin/sslyze"
