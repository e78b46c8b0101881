# make run: the whole pipeline; make test: every test. Both install what they need.
PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.setup
.DEFAULT_GOAL := help
.PHONY: help setup check test fault soak docs run

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup: $(SETUP) ## make .venv with all dependencies (Python >= 3.11)

$(SETUP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "headrace needs Python 3.11 or later")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	bash deploy/compiler.sh
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

check: $(SETUP) ## format, lint, types, import contracts, Dockerfiles, unit and property tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint deploy/Dockerfile.ingest deploy/Dockerfile.consumer
	$(BIN)/pytest -q tests/unit tests/property

test: $(SETUP) ## every test, on real parts
	bash tests/support/programs.sh
	$(BIN)/pytest -n 3 --dist loadscope --no-loadscope-reorder

fault: $(SETUP) ## kill, freeze and cut real parts under load
	bash tests/support/programs.sh
	$(BIN)/pytest -s tests/fault

soak: $(SETUP) ## the long forms of storms, schedules and searches (hours)
	bash tests/support/programs.sh
	HEADRACE_SOAK=1 HYPOTHESIS_PROFILE=long $(BIN)/pytest -s -m soak --timeout 7200

docs: $(SETUP) ## generate the tables in docs/
	$(BIN)/python -m docs.tables

run: $(SETUP) ## the whole pipeline on this machine; Ctrl-C stops it
	$(BIN)/python -m deploy.embedded $(ARGS)
