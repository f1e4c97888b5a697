#!/usr/bin/env bash
# Make sure that the system programs of packages.txt are there: install what is missing as root, else stop naming it.
set -euo pipefail
cd "$(dirname "$0")/.."

is_there() { # is_there <program, file or file pattern>...
  local proof
  for proof in "$@"; do
    command -v "$proof" >/dev/null && return
    compgen -G "$proof" >/dev/null && return
  done
  return 1
}

missing=()
while read -r package proofs; do
  # Unquoted on purpose: one word a proof; patterns are matched in is_there, not here.
  set -f; is_there $proofs || missing+=("$package"); set +f
done < <(grep -vE '^[[:space:]]*(#|$)' packages.txt)

if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Missing system packages: ${missing[*]}. Install them (Debian: sudo apt-get install ${missing[*]}) and try again." >&2
    exit 1
  fi
  echo "Installing system packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null ||
    { echo "apt-get could not install ${missing[*]}; its last words: $(tail -n 1 "$log")" >&2; exit 1; }
fi
