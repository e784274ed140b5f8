# Plain verbs; `make run` and `make test` are all that a new machine needs.
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell \
	$(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))) python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
STAMP := $(VENV)/.stamp

.PHONY: install run test lint crash bench clean help

help:
	@echo "make run      install into .venv and start the daemon on 127.0.0.1:4566, state in ./volume"
	@echo "make test     install what the tests need and run them"
	@echo "make lint     ruff and mypy"
	@echo "make crash    the long crash tests"
	@echo "make bench    the benchmarks, as ratios against named peers"
	@echo "make install  only install: then .venv/bin/holdfast exists"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "holdfast needs Python 3.11 or newer; say which with: make PYTHON=/path/to/python3.11 run"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "holdfast needs Python's venv module: install the package python3-venv (Debian, Ubuntu) and run make again"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(STAMP).install: $(BIN)/python pyproject.toml constraints.txt hatch_build.py
	@echo "installing holdfast into $(VENV) (once)"
	@$(PIP) install -c constraints.txt pip
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(STAMP).%: $(STAMP).install
	@$(PIP) install -c constraints.txt --group $*
	@touch $@

install: $(STAMP).install

run: install
	@exec $(BIN)/holdfast start --volume ./volume

test: install $(STAMP).test
	$(BIN)/pytest

lint: install $(STAMP).lint $(STAMP).test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

crash: install $(STAMP).test
	HOLDFAST_CRASH_ROUNDS=500 $(BIN)/pytest tests/crash tests/replay
	$(BIN)/pytest -m slow --timeout 7200

bench: install $(STAMP).test $(STAMP).bench
	$(BIN)/python -m tests.bench

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
