# One verb each. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
COMPILE := $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

export UV_PYTHON_DOWNLOADS := never
# As pip does: trust what the machine trusts, a company's own authority included.
export UV_SYSTEM_CERTS := true
# An interpreter of somebody else's environment must not lead out of this one.
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH

# An interpreter is found by running it: a shim on the PATH may stand for nothing.
FIND_PYTHON = for python in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo "$$python"; exit 0; }; done; \
	echo "no Python 3.11 or newer (with venv) on the PATH: install one, or say PYTHON=/path/to/python" >&2; exit 1

# The requirement lines of a lock: a file that an index adds to a release later changes hashes only.
PINS = grep -vE '^ *(--hash|\#)' $(1) | sed 's/ *\\$$//'

.PHONY: help setup install dev api-run consumer-run scheduler-run migrate up down test check locks lint format lock docs fuzz faults-full models-full bugs-full chaos failpoints bench bench-check bench-bounds bench-scale bench-peers clean

help:  ## List the verbs
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*## / { printf "%-13s %s\n", $$1, $$2 }' Makefile

setup: $(VENV)/.done  ## Install everything, pinned, into .venv
install: setup  ## The same

# Compiled here and once: where PYTHONDONTWRITEBYTECODE is set, every start of a process would do it anew (1.4 s of CPU).
$(VENV)/.done: pyproject.toml requirements-dev.lock $(PLUGINS:=/pyproject.toml)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { python=$$($(FIND_PYTHON)) \
	&& echo "making $(VENV) with $$("$$python" -V)" && "$$python" -m venv --clear $(VENV); }
	@awk '/^[^ #]/ { wanted = /^uv==/ } wanted && !/#/' requirements-dev.lock >$(VENV)/uv.lock
	@{ $(PIP) install --require-hashes -r $(VENV)/uv.lock \
	&& $(UV) pip sync -q --compile-bytecode --python $(BIN)/python --require-hashes requirements-dev.lock; } \
	|| { echo "not with uv: once more, with pip" >&2; $(PIP) install --require-hashes -r requirements-dev.lock; }
	@$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation $(patsubst %,-e %,. $(PLUGINS)) \
	|| $(PIP) install --no-deps --no-build-isolation $(patsubst %,-e %,. $(PLUGINS))
	@touch $@

dev: setup  ## Start everything in one process (ARGS="--port 9000")
	@exec $(BIN)/taskflow dev $(ARGS)

# The roles apart, each a process of its own, on the servers that taskflow.toml or the environment names.
api-run: setup  ## Run the API
	@exec $(BIN)/taskflow run --roles api $(ARGS)

consumer-run: setup  ## Run a consumer
	@exec $(BIN)/taskflow run --roles consumer $(ARGS)

scheduler-run: setup  ## Run a scheduler
	@exec $(BIN)/taskflow run --roles scheduler $(ARGS)

migrate: setup  ## Bring the database's schema up to date
	@exec $(BIN)/taskflow db upgrade $(ARGS)

# An engine is found by asking it: docker may be there without compose.
STACK := compose
COMPOSE = for engine in docker podman; do \
	$$engine compose version >/dev/null 2>&1 && exec $$engine compose $(STACK:%=--file compose/%.yaml) $(1); done; \
	echo "neither 'docker compose' nor 'podman compose' works here: install one, or run 'make dev' without containers" >&2; exit 1

up:  ## Start all in containers, on http://127.0.0.1:8000, and wait until it works (STACK=single: in one)
	@$(call COMPOSE,up --detach --wait --build $(ARGS))

down:  ## Stop the containers; their data stay (ARGS=--volumes: they go)
	@$(call COMPOSE,down $(ARGS))

PROCESSES := 2
test: setup  ## Run the tests, in PROCESSES=2 at a time (ARGS="tests/core -k retry")
	$(BIN)/pytest -q -n $(PROCESSES) --dist loadfile $(ARGS)

check: setup  ## Lint, format, types, architecture, locks
	@failed=; run() { echo "== $$*"; "$$@" || failed="$$failed\n  $$*"; }; \
	run $(BIN)/ruff check --quiet .; \
	run $(BIN)/ruff format --quiet --check .; \
	run $(BIN)/mypy; \
	run $(BIN)/lint-imports --no-cache; \
	run $(MAKE) --no-print-directory locks; \
	[ -z "$$failed" ] || { printf "failed:$$failed\n" >&2; exit 1; }

# Compiled anew with the present pins preferred, a lock changes only where pyproject.toml asks for it.
locks: setup
	@for lock in requirements.lock requirements-dev.lock; do \
	  ! grep -n '://' $$lock || { echo "$$lock records an address: run make lock" >&2; exit 1; }; \
	  extra=; [ $$lock = requirements.lock ] || extra="--extra dev"; \
	  cp $$lock $(VENV)/fresh.lock && $(COMPILE) $$extra pyproject.toml -o $(VENV)/fresh.lock || exit 1; \
	  diff <($(call PINS,$$lock)) <($(call PINS,$(VENV)/fresh.lock)) \
	  || { echo "$$lock does not fit pyproject.toml: run make lock" >&2; exit 1; }; done
	@diff <($(call PINS,requirements.lock)) <($(call PINS,requirements-dev.lock)) | { ! grep '^<'; } \
	|| { echo "the locks pin different versions of these: run make lock" >&2; exit 1; }

lint: setup  ## Lint only
	$(BIN)/ruff check .

format: setup  ## Format, and mend what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The runtime lock starts from the dev lock: what is tested is what is run.
lock: setup  ## Pin the newest versions that fit pyproject.toml
	$(COMPILE) --upgrade --extra dev pyproject.toml -o requirements-dev.lock
	cp requirements-dev.lock requirements.lock
	$(COMPILE) pyproject.toml -o requirements.lock

docs: setup  ## Build the pages of docs/ as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

fuzz: setup  ## Fuzz the API for 60 s
	TASKFLOW_TEST_FUZZ_SECONDS=60 $(BIN)/pytest -q tests/api/test_fuzz.py

faults-full: setup  ## Take processes and servers away for as long as it says (ARGS="-k grace"; about an hour)
	TASKFLOW_TEST_FULL=1 $(BIN)/pytest -q -o faulthandler_timeout=900 tests/faults tests/acceptance/test_main_job.py \
	tests/acceptance/test_real_four.py tests/acceptance/test_under_load.py tests/acceptance/test_fair_shares.py \
	tests/acceptance/test_doctor.py $(ARGS)

models-full: setup  ## Explore the models of a job's life for as long as it takes (about 15 minutes)
	TASKFLOW_TEST_FULL=1 $(BIN)/pytest -q -s -o faulthandler_timeout=900 tests/models $(ARGS)

bugs-full: setup  ## Run the regressions for known bugs at full scale, and print what each did (ARGS="-k b14")
	TASKFLOW_TEST_FULL=1 $(BIN)/pytest -q -o faulthandler_timeout=900 tests/bugs $(ARGS)

MINUTES := 10
chaos: setup  ## Kill and cut at random under load, and account for every job (MINUTES=10, ARGS="--seed 7")
	$(BIN)/python -m tests.faults.harness.chaos --minutes $(MINUTES) $(ARGS)

ROUNDS := 20
failpoints: setup  ## Die before and after each call of each port (ROUNDS=20)
	$(BIN)/python -m tests.faults.harness.march --rounds $(ROUNDS) $(ARGS)

bench: setup  ## Measure TaskFlow beside what its parts can do (ARGS="--rounds 1")
	$(BIN)/python -m bench $(ARGS)

bench-check: setup  ## The same, and fail where a ratio is worse than bench/baseline.json
	$(BIN)/python -m bench --check $(ARGS)

bench-bounds: setup  ## Measure what must stay small: idle, memory, starts, two processes, large jobs (ARGS="--only idle")
	$(BIN)/python -m bench.bounds $(ARGS)

bench-scale: setup  ## The store beside 1,000,000 waiting and 10,000,000 finished rows (12 GB of disk, 5 minutes)
	$(BIN)/python -m bench.scale $(ARGS)

bench-peers: setup  ## Measure others beside TaskFlow, in environments of their own (ARGS="--part http")
	$(BIN)/python -m bench.peers $(ARGS)

clean:  ## Remove what was made here; the data of `make dev` stays
	rm -rf $(VENV) build dist .coverage .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .schemathesis .benchmarks .peers
