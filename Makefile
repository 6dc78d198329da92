# `make help` lists the targets. Each sets up what it needs; a machine needs Python 3.11 or newer, and to compile models a C compiler.

SWEEP ?= axes
ARGS ?=
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name) 2>/dev/null)) python3)

# The demonstration is trained here: the records of its committed report do not count as runs that are done.
ANEW := $(if $(filter axes,$(SWEEP)),stored=false)

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DOCUMENTING := $(VENV)/.installed-docs
PYTEST := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 WANDB_MODE=offline $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help setup sweep report lint test test-all bench docs

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## make .venv and install what is pinned in constraints.txt

sweep: $(INSTALLED) ## run a sweep and write its report [SWEEP=axes] [ARGS="jobs=2 shape=micro"]
	$(BIN)/ablate sweep $(SWEEP) $(ANEW) $(ARGS)

report: $(INSTALLED) ## write a sweep's report again from its records [SWEEP=axes]
	$(BIN)/ablate report $(SWEEP) $(ARGS)

lint: $(INSTALLED) ## style, format and types of the code
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test: lint $(DOCUMENTING) ## lint, then the tests that take minutes [ARGS="tests/model -k rope"]
	$(BIN)/python -m pip check
	$(PYTEST) -m "not slow and not gpu" -n 2 $(ARGS)

test-all: lint $(DOCUMENTING) ## all tests; those for a GPU are skipped where there is none
	$(BIN)/python -m pip check
	$(PYTEST) -n 2 $(ARGS)

bench: $(INSTALLED) ## measure speed, as ratios in one run [ARGS=--check: fail below the floors]
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks $(ARGS)

docs: $(DOCUMENTING) ## build the pages of documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(DOCUMENTING): $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

$(INSTALLED): pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, as in: make setup PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
