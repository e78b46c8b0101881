# make run: the whole pipeline; make test: the tests. Both install what they need.
PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.setup
RUNTIME := .venv/.runtime
TESTS ?= tests/unit tests/property
# The wheel, unpacked: what the tests and the bench start of the ingress, compiled as in its image.
SHIP := bash deploy/ship.sh
COMPILED := deploy/build_hook.py $(wildcard ingest/*/*.pyx consumer/*/*.pyx)
.DEFAULT_GOAL := help
# Python keeps what it has compiled, whatever the caller's environment says: a worker starts in a third of the time.
export PYTHONDONTWRITEBYTECODE :=
.PHONY: help setup check test fault soak bench bench-quick docs run

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(SETUP) ## make .venv with all dependencies (Python >= 3.11)

$(SETUP): pyproject.toml $(COMPILED)
	@PYTHON='$(PYTHON)' bash deploy/install.sh dev
	@touch $(RUNTIME) $@

# What the pipeline needs, without the tools of developers.
$(RUNTIME): pyproject.toml $(COMPILED)
	@PYTHON='$(PYTHON)' bash deploy/install.sh embedded
	@touch $@

check: $(SETUP) ## format, lint, types, import contracts, Dockerfiles, and TESTS: unit and property tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint deploy/Dockerfile.ingest deploy/Dockerfile.consumer
	$(if $(TESTS),$(BIN)/pytest -q -n 2 $(TESTS))

test: $(SETUP) ## the tests, on real parts
	@$(SHIP)
	bash tests/support/programs.sh
	$(BIN)/pytest -n 4 --dist loadscope --no-loadscope-reorder

fault: $(SETUP) ## kill, freeze and cut real parts under load
	@$(SHIP)
	bash tests/support/programs.sh
	$(BIN)/pytest -s tests/fault

soak: $(SETUP) ## the long forms of storms, schedules and searches (hours)
	@$(SHIP)
	bash tests/support/programs.sh
	HEADRACE_SOAK=1 HYPOTHESIS_PROFILE=long $(BIN)/pytest -s -m soak --timeout 7200

bench: $(SETUP) ## measure ingress and sink; write docs/PERFORMANCE.md and docs/SCALE.md
	@$(SHIP)
	bash tests/support/programs.sh bench
	$(BIN)/python -m bench

bench-quick: $(SETUP) ## compare a few ratios with the kept ones
	@$(SHIP)
	bash tests/support/programs.sh bench
	$(BIN)/python -m bench.quick

docs: $(SETUP) ## generate the tables in docs/ and Grafana's dashboards
	$(BIN)/python -m docs.tables
	$(BIN)/python -m bench.pages
	$(BIN)/python -m deploy.grafana.dashboards

run: $(RUNTIME) ## the whole pipeline on this machine; Ctrl-C stops it; KAFKA=apache: on Apache Kafka
	@$(BIN)/python -m deploy.embedded $(if $(KAFKA),--kafka $(KAFKA)) $(ARGS)
