# genpipe: `make` or `make help` lists the targets. Settings: PYTHON=python3.12 VENV=.venv DEVICE=cpu|cuda
# A set-up runs before each target that needs one and costs milliseconds when nothing changed.
.DEFAULT_GOAL := help
.PHONY: help demo test test-all mutants faults soak check audit fuzz bench setup setup-dev lock format clean
MAKEFLAGS += --no-print-directory

export VENV ?= .venv
export DEVICE ?=
export PYTHON ?=
PY := $(VENV)/bin/python
CODE := $(wildcard genpipe flows tests benchmarks examples infra)
TYPED := genpipe infra/alerts.py infra/validate.py infra/consistency.py infra/torch_build.py infra/audit.py
ARGS ?=
# Test processes, a file each. Each may start a Ray of its own, so memory and not CPUs is the limit
WORKERS ?= 2

help: ## this list
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {sub(/%/, "<name>", $$1); printf "  \033[1mmake %-13s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\n  settings: PYTHON=python3.12  VENV=.venv  DEVICE=cpu|cuda  WORKERS=2  ARGS="more words for pytest or genpipe demo"\n'

demo: setup ## set up if needed, then run the whole pipeline on a small table
	@$(VENV)/bin/genpipe demo $(ARGS)

# Lint failures must not hide the tests' result, so both run and either fails the target; pytest's line comes last.
test: setup-dev ## set up if needed, then lint and run all tests but the slow ones
	@$(PY) -m ruff check --quiet $(CODE); lint=$$?; \
	$(PY) -m pytest -q -m "not slow" -n $(WORKERS) --dist loadfile $(ARGS) tests; tests=$$?; \
	[ $$lint -eq 0 ] || echo "ruff check failed (above)" >&2; exit $$((lint | tests))

test-all: setup-dev ## all tests, the slow ones too
	@$(PY) -m pytest -q -n $(WORKERS) --dist loadfile $(ARGS) tests

mutants: setup-dev ## small wrong edits to copies of the code, each of which a test must notice (see docs/testing.md)
	@$(PY) tests/mutants/mutants.py $(ARGS)

faults: setup-dev ## what real faults do: fault x stage x verdict x seconds, of every such test and 100 random kills (two hours)
	@$(PY) -m benchmarks.faults $(ARGS)

check: setup-dev ## ruff, formatting, mypy, the architecture test, infra/ offline
	@$(PY) -m ruff check --quiet $(CODE)
	@$(PY) -m ruff format --quiet --check $(CODE) || { echo "badly formatted files: run 'make format'" >&2; exit 1; }
	@$(PY) -m mypy --no-error-summary $(TYPED)
	@$(PY) -m pytest -q tests/test_architecture.py
	@$(PY) infra/validate.py

soak: setup-dev ## thirty nights in one process: does anything grow, stay open, or keep it from ending? (ten minutes)
	@$(PY) -m benchmarks.soak $(ARGS)

audit: setup-dev ## the locks' known vulnerabilities and licences; writes build/sbom.cdx.json (ARGS="--advisories all.zip")
	@$(PY) infra/audit.py $(ARGS)

fuzz: setup-dev ## an hour of coverage-guided fuzzing of all that strangers send (ARGS="--seconds 60 csv wav"; see .fuzz/)
	@$(PY) -m pip install --quiet --require-hashes --no-deps --only-binary=:all: -r infra/fuzz.txt
	@$(PY) tests/fuzz/run.py $(ARGS)

bench: setup-dev ## every benchmark in benchmarks/, one after another
	@for file in benchmarks/[a-z]*.py; do \
		[ -e "$$file" ] || continue; name=$$(basename "$$file" .py); \
		echo "== $$name"; $(PY) -m benchmarks.$$name $(ARGS) || exit 1; done

bench-%: setup-dev ## one benchmark
	@[ -e benchmarks/$(subst -,_,$*).py ] || { echo "no benchmarks/$(subst -,_,$*).py; there are:" benchmarks/[a-z]*.py >&2; exit 2; }
	@$(PY) -m benchmarks.$(subst -,_,$*) $(ARGS)

setup: ## the virtual environment alone, for running
	@infra/setup.sh run

setup-dev: ## the virtual environment alone, with the developers' tools
	@infra/setup.sh dev

format: setup-dev ## let ruff format and sort imports
	@$(PY) -m ruff format --quiet $(CODE) && $(PY) -m ruff check --quiet --fix --select I $(CODE)

lock: setup-dev ## write the lock files anew from pyproject.toml (UPGRADE=1: take newer versions)
	@UPGRADE=$(UPGRADE) infra/lock.sh

clean: ## remove the environment and caches (not .genpipe, which holds your data)
	@rm -rf $(VENV) build dist ./*.egg-info .pytest_cache .mypy_cache .ruff_cache
