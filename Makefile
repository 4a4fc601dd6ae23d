# make install   everything into .venv, and what Debian lacks when you are root
# make demo      install, then the whole chain on the embedded example
# make test      install, then everything that decides whether a change lands
# make soak      the kill tests in full size
# make docs      write the generated pages of docs/reference anew

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install system demo test tests soak lint docs clean

PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# What is compiled once is compiled for the hundreds of processes that the tests start.
unexport PYTHONDONTWRITEBYTECODE
DEMO ?= demo

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

install: system $(INSTALLED)

system:
	@.ci/system-packages

# What decides what is installed: a change in one of these, or a missing page script, installs again.
$(INSTALLED): pyproject.toml hit_templates/package-lock.json hit_templates/build.py crowd_imi/_built/built-from.txt
	@.ci/make-venv $(VENV) $(PYTHON)
	@touch $@

crowd_imi/_built/built-from.txt: ;

demo: install
	@echo "==> running the demo in $(DEMO)/: about 5 minutes on 2 cores; running it again goes on where it stopped"
	@$(BIN)/crowd-imi demo $(DEMO)

lint: install
	@echo "==> ruff, mypy, import-linter"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# Two workers more than there are cores, as browsers and servers are waited for a lot; at most four, for the memory.
WORKERS := $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 2 ? 3 : 4)))

# Side by side, as linters keep one core busy and tests wait a lot.
test: install
	@$(MAKE) --jobs 2 --no-print-directory lint tests

# One process compiles what all workers import, while linters keep the other core busy.
COMPILED := $(VENV)/.compiled
$(COMPILED): $(INSTALLED)
	@echo "==> compiling what the tests import"
	@$(BIN)/pytest --collect-only --quiet --quiet >/dev/null || true # what can't be imported, pytest says below
	@touch $@

# In the order of tests/conftest.py: the slow acceptance tests begin first, and no worker waits for one at the end.
tests: install $(COMPILED)
	@echo "==> pytest"
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

soak: install
	@echo "==> pytest, the kill and soak tests in full size"
	@$(BIN)/pytest -m soak --timeout 3600

docs: install
	@$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) crowd_imi/_built .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
