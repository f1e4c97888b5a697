#!/usr/bin/env bash
# Make the virtual environment .venv with the first Python >= 3.12 that works, and say plainly what to do if there is none.
# Tried in order: $PYTHON, python3.12, python3.13, python3.14, python3, python (pyenv's shims obey .python-version),
# every Python that pyenv holds, uv (which may fetch one).
set -euo pipefail
cd "$(dirname "$0")/.."

is_new_enough() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; }

if [ -x .venv/bin/python ] && .venv/bin/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
  exit 0
fi
rm -rf .venv

for candidate in ${PYTHON:-} python3.12 python3.13 python3.14 python3 python \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python; do
  if is_new_enough "$candidate"; then
    echo "Virtual environment with $("$candidate" --version) ($candidate)"
    exec "$candidate" -m venv .venv
  fi
done
if command -v uv >/dev/null; then
  echo "Virtual environment with uv"
  exec uv venv --quiet --seed --python '>=3.12' .venv
fi
cat >&2 <<'TXT'
Rocade needs Python 3.12 or newer with its venv module, and none was found. Install one of:
  Debian, Ubuntu   apt-get install python3 python3-venv     (Debian 13, Ubuntu 24.04 or newer)
  pyenv            pyenv install 3.12
  uv               uv python install 3.12
or name one yourself: make demo PYTHON=/path/to/python3.12
TXT
exit 1
