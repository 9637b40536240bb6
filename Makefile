# Needs python3 (3.11 or later) and make; everything else goes into .venv, in exact versions.
#
#   make demo    a shop's jobs live through a virtual week
#   make test    all tests
#   make help    the rest

PYTHON ?= python3
VENV ?= .venv
# The interpreters of `make test-versions`; those that this machine lacks are named and passed over.
PYTHONS ?= python3.11 python3.12 python3.13 python3.14
# Handed to pytest: make test PYTEST_ARGS="tests/store -x"
PYTEST_ARGS ?=
# Histories of some thirty steps each, other ones in each run.
MODEL_EXAMPLES ?= 7000
DEMO ?= -m scenarios.shop
BENCH ?= -m benchmarks
# Fewer rounds, for a quick look: make bench-simulation ROUNDS='--rounds 3'
ROUNDS ?=
# Options and names: make mutants MUTANTS='--anew --seconds 20'
MUTANTS ?=
EXPLORE ?= 60
CHAOS ?= -m tests.chaos --full --peer both

BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The lower bound stands once, in pyproject.toml.
REDIS_LOWEST := $(shell sed -n 's/^ *"redis>=\([0-9.]*\),.*/\1/p' pyproject.toml)
REDIS_LOWEST_READY := .venv-redis-$(REDIS_LOWEST)/.ready
# The newest redis-py that SAQ accepts.
REDIS_BENCH := 7.4.1
BENCH_READY := .venv-bench/.ready
BENCH_SIMULATION_READY := .venv-bench-simulation/.ready
# The newest redis-py that arq accepts. One environment beside each $(VENV): `make test-versions` has several.
REDIS_ARQ := 5.3.1
ARQ_READY := $(VENV)-arq/.ready
SOURCES := queuekit pytest_plugin tests scenarios benchmarks docs conftest.py

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test quick lint format types model sweep same-traces chaos cron-years mutants explore
.PHONY: test-servers test-arq test-redis-lowest test-versions
.PHONY: bench bench-simulation bench-foreign dist constraints clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null || sed -n 's/^\([a-z-]*\):.*## /  make \1  /p' Makefile

demo: $(READY) ## a shop's jobs live through a virtual week
	@$(BIN)/python $(DEMO)

test: $(READY) $(ARQ_READY) ## all tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)
	$(if $(PYTEST_ARGS),,@$(MAKE) --no-print-directory test-arq)

test-arq: $(ARQ_READY) ## the tests of arq in the simulation, on the redis-py that it accepts
	$(<D)/bin/python -m pytest tests/foreign/arq $(PYTEST_ARGS)

quick: $(READY) ## the tests that take less than a quarter of a second each
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

model: $(READY) ## the store's scripts against a plain model, 200,000 random steps and more
	QUEUEKIT_MODEL_EXAMPLES=$(MODEL_EXAMPLES) $(BIN)/python -m pytest tests/store/test_model.py $(PYTEST_ARGS)

sweep: $(READY) ## kill, hang and cut off a worker at every single step (some minutes)
	QUEUEKIT_SWEEP=full $(BIN)/python -m pytest tests/worker/test_crash_points.py $(PYTEST_ARGS)

same-traces: $(READY) ## thirty seeds of each story on the embedded Redis and on every server there is
	QUEUEKIT_SEEDS=30 $(BIN)/python -m pytest -q tests/exploration/test_servers.py $(PYTEST_ARGS)

lint: $(READY) ## style, formatting, floors
	$(BIN)/ruff check $(wildcard $(SOURCES))
	$(BIN)/ruff format --check $(wildcard $(SOURCES))
	$(BIN)/lint-imports --no-logo

format: $(READY) ## mend what ruff can mend
	$(BIN)/ruff check --fix $(wildcard $(SOURCES))
	$(BIN)/ruff format $(wildcard $(SOURCES))

types: $(READY) ## mypy --strict
	$(BIN)/mypy

test-servers: $(READY) ## store, worker and outages on every server: Valkey, Redis 6.2 to 8, Cluster, Sentinel, ACL
	$(BIN)/python -m tests.servers.suites $(PYTEST_ARGS)
	QUEUEKIT_SERVERS=all $(BIN)/python -m pytest tests/servers $(PYTEST_ARGS)

test-redis-lowest: $(REDIS_LOWEST_READY) ## the suite on the lowest redis-py that we promise
	$(<D)/bin/python -m pytest -m "not slow" --ignore=tests/house $(PYTEST_ARGS)

test-versions: ## the suite on each Python that this machine has
	@ran=; \
	for python in $(PYTHONS); do \
	  if ! $$python -c '' 2>/dev/null; then echo "== $$python: not on this machine, passed over"; continue; fi; \
	  echo "== $$python"; ran=yes; \
	  $(MAKE) --no-print-directory test PYTHON=$$python VENV=.venv-$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])') || exit 1; \
	done; \
	[ -n "$$ran" ] || { echo "None of $(PYTHONS) is here. Name one: make test-versions PYTHONS=python3"; exit 1; }

cron-years: $(READY) ## cron over ten virtual years, in full (three minutes of a quiet machine)
	CRON_YEARS=full $(BIN)/python -m pytest tests/cron $(PYTEST_ARGS)

mutants: $(READY) ## hunt for faults put into the queue, and write docs/mutants.md (goes on where it was stopped)
	$(BIN)/python -m tests.mutants $(MUTANTS)

explore: $(READY) ## look for what breaks a promise of the queue as it is (an hour; EXPLORE=5: minutes)
	$(BIN)/python -m tests.mutants --unbroken $(EXPLORE)

bench: $(BENCH_READY) ## side by side with the peers
	$(<D)/bin/python $(BENCH)

bench-simulation: $(BENCH_SIMULATION_READY) ## what the simulation costs, beside the generic simulators (simloom: PYTHON=python3.12)
	$(<D)/bin/python -m benchmarks.simulation $(ROUNDS)

bench-foreign: $(BENCH_READY) $(ARQ_READY) ## what an application of SAQ's or arq's costs in the simulation
	.venv-bench/bin/python -m benchmarks.foreign
	$(VENV)-arq/bin/python -m benchmarks.foreign

chaos: $(BENCH_READY) ## real processes killed, stopped and cut off: queuekit and SAQ side by side
	$(<D)/bin/python $(CHAOS)

dist: $(READY) ## wheel and sdist, into dist/
	$(BIN)/python -m hatchling build -d dist

constraints: ## choose the newest versions anew and write constraints.txt (with Python 3.11)
	PYTHON="$(PYTHON)" sh .ci/constraints

clean: ## remove all that was made
	rm -rf .venv .venv-* dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

# --- Environments: made again only when what they are made of changes -------------------------------

# $(call environment,python,folder,constraints,extras)
define environment
@$(1) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "queuekit needs Python 3.11 or later; $(1) is $$($(1) --version 2>&1). Name another: make PYTHON=python3.12"; exit 1; }
@[ ! -e $(2) ] || [ -f $(2)/pyvenv.cfg ] || { echo "$(2) exists and is no virtual environment: it stays as it is. Name another: make VENV=.venv"; exit 1; }
@echo "Setting up $(2) (once)"
@$(1) -m venv --clear $(2)
@$(2)/bin/python -m pip install --quiet --disable-pip-version-check -c $(3) -e '.[$(4)]'
@touch $@
endef

$(READY): pyproject.toml constraints.txt
	$(call environment,$(PYTHON),$(VENV),constraints.txt,dev)

$(REDIS_LOWEST_READY): pyproject.toml .venv-redis-$(REDIS_LOWEST).txt
	$(call environment,$(PYTHON),.venv-redis-$(REDIS_LOWEST),.venv-redis-$(REDIS_LOWEST).txt,dev)

$(ARQ_READY): pyproject.toml .venv-redis-$(REDIS_ARQ).txt
	$(call environment,$(PYTHON),$(VENV)-arq,.venv-redis-$(REDIS_ARQ).txt,arq)

$(BENCH_READY): pyproject.toml .venv-redis-$(REDIS_BENCH).txt
	$(call environment,$(PYTHON),.venv-bench,.venv-redis-$(REDIS_BENCH).txt,bench)

$(BENCH_SIMULATION_READY): pyproject.toml constraints.txt
	$(call environment,$(PYTHON),.venv-bench-simulation,constraints.txt,bench-simulation)

# constraints.txt with another redis-py
.venv-redis-%.txt: constraints.txt
	@{ grep -v '^redis==' constraints.txt; echo 'redis==$*'; } > $@
