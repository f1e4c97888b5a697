# Rocade's commands. Each sets up what it needs in .venv; a second run finds it done. `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test real check sbom updates advisories format bench wheel lock lists clean distclean

RUN := .venv/bin
ARGS ?=
NOT_SLOW := $(if $(FULL),, and not slow)
# Where the real test data lies; the default is a folder beside the repository.
export ROCADE_DATA ?= $(abspath ../shared/data)

help: ## list the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

demo: .venv/demo.stamp .venv/assets.stamp ## a whole platform with a moving fleet: make demo ARGS="--for 20 --vehicles 50"
	@$(RUN)/rocade demo $(ARGS)

# First what measures the machine, by itself; then the others, a few files at a time (ARGS="-n 0" for one after the other).
test: .venv/test.stamp .venv/foreign.stamp ## all tests but the slow ones and those on real data (FULL=1: the slow ones too)
	@tools/packages.sh
	@failed=0; run="$(RUN)/python -m pytest --ignore=tests/real"; \
	$$run -m "alone$(NOT_SLOW)" $(ARGS) -n 0 || [ $$? = 5 ] || failed=1; \
	$$run -m "not alone$(NOT_SLOW)" -n 6 --dist loadfile $(ARGS) || [ $$? = 5 ] || failed=1; \
	exit $$failed

real: .venv/test.stamp .venv/foreign.stamp ## tests on the real data sets in ROCADE_DATA (default ../shared/data)
	@tools/packages.sh
	@test -d "$(ROCADE_DATA)" || { echo "No test data in $(ROCADE_DATA): set ROCADE_DATA to the folder that holds it." >&2; exit 1; }
	$(RUN)/python -m pytest -m "not alone$(NOT_SLOW)" tests/real $(ARGS)

check: .venv/check.stamp ## format, lint, types, and which room may import which
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/lint-imports --no-logo
	$(RUN)/bandit -q -c pyproject.toml -r src

sbom: .venv/check.stamp ## build/sbom.cdx.json: what an installation is made of (CycloneDX, validated)
	$(RUN)/python tools/sbom.py

updates: .venv/check.stamp ## is everything locked at its newest release, or the newer one younger than its days? (docs/updates.md)
	@$(NODE)
	@$(RUN)/python tools/updates.py $(ARGS)

advisories: .venv/check.stamp ## known holes in what is locked: make advisories ARGS="--source FOLDER" (docs/updates.md)
	@$(RUN)/python tools/advisories.py $(ARGS)

format: .venv/check.stamp ## put every file into the house's layout
	$(RUN)/ruff check --fix --quiet . || true
	$(RUN)/ruff format .

bench: .venv/bench.stamp .venv/assets.stamp ## figures beside a peer in the same run; ONLY=road for one area, FULL=1 for the whole length
	@tools/packages.sh
	$(RUN)/python -m benchmarks $(if $(ONLY),--only $(ONLY)) $(if $(FULL),--full) $(ARGS)

wheel: .venv/test.stamp .venv/assets.stamp ## build/dist: a wheel with everything in it
	$(RUN)/python -m build --wheel --no-isolation --outdir build/dist .

lock: .venv/check.stamp ## write requirements/*.txt anew from pyproject.toml (UPGRADE=--upgrade for the newest)
	$(RUN)/python -m pip install -qq pip-tools
	UPGRADE='$(UPGRADE)' tools/lock.sh

lists: .venv/demo.stamp ## write docs/errors.md and the index of decisions from the source
	$(RUN)/python tools/write_lists.py

clean: ## remove what builds and tests leave
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache rocade-demo
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean ## remove the virtual environment and the fetched browser libraries too
	rm -rf .venv src/rocade/console/static/vendor src/*.egg-info

# --- set-up; a stamp is older than what it was made from when that has changed --------------------------------------

.venv/%.stamp: requirements/%.txt pyproject.toml
	@tools/python.sh
	@echo "Installing requirements/$*.txt (a minute the first time)"
	@$(RUN)/python -m pip install -qq --disable-pip-version-check --require-hashes --no-deps -r $<
	@$(RUN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $@

# The browser's libraries, from package-lock.json; with Node from a wheel where the machine has none.
NODE = command -v npm >/dev/null || $(RUN)/python -m pip install -qq --disable-pip-version-check --require-hashes --no-deps -r requirements/node.txt

.venv/assets.stamp: .venv/demo.stamp package.json package-lock.json src/rocade/console/vendor.py
	@$(NODE)
	@$(RUN)/python -m rocade.console.vendor
	@touch $@

# The same, and the foreign MQTT client in JavaScript that tests use.
.venv/foreign.stamp: .venv/assets.stamp
	@$(NODE)
	@$(RUN)/python -m rocade.console.vendor --node-modules
	@touch $@
