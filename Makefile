# Every target does its own set-up; the second time it starts at once.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: run studies test test-all bench docs lint check clean
.DEFAULT_GOAL := run

run: $(READY)            ## the default study, on real data, by hand and by autograd
	$(BIN)/python -m experiments run optimizers

studies: $(READY)        ## every study in full; a second call does what is missing
	$(BIN)/python -m experiments run all

test: $(READY)           ## everything that is quick enough to run always
	$(BIN)/python -m pytest -q -n auto --dist worksteal

test-all: $(READY)       ## the slow tests too
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m ""

bench: $(READY)          ## time and memory, manual over autograd
	$(BIN)/python -m manual_bp bench
	$(BIN)/python -m benchmarks.steps

check: $(READY)          ## every layer against autograd, as a table
	$(BIN)/python -m manual_bp check

docs: $(READY)           ## docs/_build/index.html, with every lesson computed
	$(BIN)/python -m sphinx -q --fail-on-warning --keep-going docs docs/_build
	@echo "docs/_build/index.html"

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# torch goes first and pinned: a range could pull a build of several gigabytes.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; PYTHON=... names another one")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis docs/_build docs/reference docs/lessons docs/studies
