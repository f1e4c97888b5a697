#!/usr/bin/env bash
# Write requirements/*.txt from pyproject.toml: exact versions with the hashes of all published files, no index names.
# Usage: make lock   (keeps locked versions; `make lock UPGRADE=--upgrade` takes the newest that pyproject.toml allows)
set -euo pipefail
cd "$(dirname "$0")/.."

compile() { # compile <name> <arguments...>: pins that stand in requirements/<name>.txt already are kept
  local output=requirements/$1.txt
  shift
  PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS='' CUSTOM_COMPILE_COMMAND='make lock' .venv/bin/pip-compile \
    --quiet --generate-hashes --allow-unsafe --strip-extras --no-annotate \
    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options \
    --output-file "$output" ${UPGRADE:-} "$@"
}

compile check --extra jetstream --extra test --extra check --extra bench --build-deps-for editable pyproject.toml # the largest set first: the others take its versions
[ -z "${UPGRADE:-}" ] || date -u +%F >requirements/renewed # tools/advisories.py says when that is too long ago
UPGRADE=''
for part in test bench; do
  cp requirements/check.txt requirements/$part.txt
  compile $part --extra jetstream --extra $part --build-deps-for editable pyproject.toml
done
cp requirements/check.txt requirements/demo.txt
compile demo --build-deps-for editable pyproject.toml
for agent in vehicle dealer; do
  cp requirements/check.txt requirements/$agent.txt
  compile $agent requirements/$agent.in
done
cp requirements/check.txt requirements/node.txt
compile node requirements/node.in
