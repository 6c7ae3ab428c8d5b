# Everything a newcomer runs. `make` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help env compiler test demo bench chaos congruence suites lint types format lock clean

# The first interpreter that is new enough; set PYTHON to choose another.
PYTHON ?= $(shell for candidate in python3.11 python3 python3.12 python3.13; do \
	$$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$candidate && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
READY := $(VENV)/.ready
# Passed on to the program of a target: make demo ARGS="--help"
ARGS ?=

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

env: $(READY) ## make the environment in .venv (the other targets do it on demand)

# hnswlib comes as source, so its build tools are installed first, from the same lock, and pip builds with those
# (--no-build-isolation) instead of fetching unpinned ones.
BUILD_TOOLS := numpy|pybind11|setuptools
$(READY): requirements.lock pyproject.toml
	@$(MAKE) --no-print-directory compiler
	@echo "Installing into $(VENV) (a few minutes the first time) ..."
	@$(PYTHON) -m venv $(VENV)
	@awk '/^[^ ]/ { keep = /^($(BUILD_TOOLS))==/ } keep' requirements.lock > $(VENV)/build-tools.lock
	@$(PIP) install --require-hashes -r $(VENV)/build-tools.lock
	@$(PIP) install --require-hashes --no-build-isolation -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

compiler:
	@if [ -z "$(PYTHON)" ]; then echo "Shoal needs Python 3.11 or newer; none was found (set PYTHON=/path/to/python3)." >&2; exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Shoal needs Python 3.11 or newer; PYTHON=$(PYTHON) is not." >&2; exit 1; }
	@for tool in gcc g++; do command -v $$tool >/dev/null \
		|| { echo "Shoal needs a C++ compiler to build hnswlib; $$tool was not found (Debian, Ubuntu: apt-get install g++)." >&2; exit 1; }; done
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
		|| { echo "Shoal needs Python's header files to build hnswlib; Python.h was not found (Debian, Ubuntu: apt-get install python3-dev)." >&2; exit 1; }

test: lint types ## everything that has to pass: ruff, mypy, then pytest
	@$(BIN)/python -m pytest $(ARGS)

demo: $(READY) ## a cluster on this machine, 400,000 word vectors, neighbours and recall
	@$(BIN)/python -m deployments.demo $(ARGS)

bench: $(READY) ## the tables of docs/benchmarks.md, measured here
	@$(BIN)/python -m benchmarks.run $(ARGS)

chaos: $(READY) ## faults on purpose, and nothing acknowledged lost: docs/chaos.md (ARGS="--quick" for a little)
	@$(BIN)/python -m tests.chaos $(ARGS)

congruence: $(READY) ## the client's own tests against a cluster: TESTS=a checkout of qdrant-client (port 6333 has to be free; ARGS=--own-client)
	@$(BIN)/python -m tests.congruence $(TESTS) $(ARGS)

suites: $(READY) ## the tests of Haystack and LangChain, and some of LlamaIndex and mem0, as in process (its own .venv-suites)
	@$(BIN)/python -m tests.suites $(ARGS)

lint: $(READY) ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(READY) ## mypy
	@$(BIN)/mypy

format: $(READY) ## put the code into ruff's format, repair what ruff can repair
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# Needs `uv` on the path (any recent one); the result needs plain pip only.
# Names, versions, markers and hashes; no address, so that it installs from whatever index pip is set to.
LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate --upgrade --quiet
lock: ## write requirements.lock anew from pyproject.toml, and that of `make suites`
	@command -v uv >/dev/null || { echo "make lock needs uv (pip install uv)." >&2; exit 1; }
	$(LOCK) pyproject.toml --all-extras -o requirements.lock
	$(LOCK) tests/suites/requirements.in -o tests/suites/requirements.txt

clean: ## remove the environment and all caches (never a data folder)
	@if [ -e $(VENV)/pyvenv.cfg ]; then rm -rf $(VENV); fi
	@if [ -e .venv-suites/pyvenv.cfg ]; then rm -rf .venv-suites; fi
	@rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
