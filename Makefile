# The targets need Python, gcc and make. They install everything else into
# .venv, in the versions of constraints.txt. pip reads its settings (mirrors,
# caches, proxies) from its usual environment variables and files.

PYTHON ?= python3
# The cache of wheels built from source, shared by checkouts.
WHEELS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/diffmm_geo/wheels
# `make demo DEMO_ARGS=...`, `make bench BENCH_ARGS=...`,
# `make gpu GPU_ARGS=...`, `make test PYTEST_ARGS=...`
DEMO_ARGS ?=
BENCH_ARGS ?=
GPU_ARGS ?=
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
PIP := $(BIN)/python -m pip
# Prints errors only.
INSTALL := $(PIP) install -qq --progress-bar off

# Exported, so that isolated builds obey it, too. The path is relative, since
# pip splits the variable at spaces.
export PIP_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help install demo bench gpu test coverage docs lint format types clean

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

install: $(STAMPS)/examples ## Make .venv with the package and its examples

demo: $(STAMPS)/examples ## Train DiffMM and LightGCN on MovieLens-100K
	$(BIN)/python examples/demo.py --root data --output runs/demo $(DEMO_ARGS)

# Uses MovieLens-100K, generated graphs, and the paper's data sets if data/ has
# them.
bench: $(STAMPS)/examples $(STAMPS)/sparse ## Measure kernels and training
	$(BIN)/python benchmarks/run.py all --output runs/bench $(BENCH_ARGS)

# Installs nothing if these packages are present, as a machine with a GPU may
# have no network.
HAS_PYG = $(1) -c 'import pytest, scipy, torch_geometric' 2>/dev/null
gpu: ## Check and measure everything on a GPU, in 9 minutes
	@if ! $(call HAS_PYG,$(BIN)/python) && ! $(call HAS_PYG,$(PYTHON)); then \
	    $(MAKE) $(STAMPS)/test; fi
	@python=$(BIN)/python; $(call HAS_PYG,$$python) || python=$(PYTHON); \
	    set -x; $$python -m benchmarks.gpu $(GPU_ARGS)

# Two processes of one thread each: hardly any test keeps two cores busy.
test: $(STAMPS)/test $(STAMPS)/sparse ## Run the tests, with torch-sparse
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

docs: $(STAMPS)/docs ## Build the documentation in docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -n -q docs docs/_build/html

coverage: $(STAMPS)/test $(STAMPS)/sparse ## Run the tests, and measure coverage
	$(BIN)/python -m pytest --cov=diffmm_geo $(PYTEST_ARGS)

lint: $(STAMPS)/dev ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMPS)/dev ## Sort imports and format
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

types: $(STAMPS)/dev ## Check types
	$(BIN)/mypy

clean: ## Remove .venv and caches, but neither data nor runs
	rm -rf $(VENV) build dist *.egg-info htmlcov .coverage
	rm -rf docs/_build docs/api
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is touched after all commands succeeded, so that an interrupted
# installation restarts.

$(STAMPS)/venv:
	$(PYTHON) -m venv --clear $(VENV)
	@mkdir $(STAMPS)
	@touch $@

# First and alone, since torch-scatter and torch-sparse build against it.
$(STAMPS)/torch: constraints.txt | $(STAMPS)/venv
	$(INSTALL) torch
	@touch $@

$(STAMPS)/examples: pyproject.toml $(STAMPS)/torch
	$(INSTALL) --editable '.[examples]'
	@touch $@

$(STAMPS)/test: pyproject.toml $(STAMPS)/torch
	$(INSTALL) --editable '.[test]'
	@touch $@

$(STAMPS)/docs: pyproject.toml $(STAMPS)/torch
	$(INSTALL) --editable '.[docs]'
	@touch $@

$(STAMPS)/dev: pyproject.toml $(STAMPS)/torch
	$(INSTALL) --editable '.[dev]'
	@touch $@

$(STAMPS)/sparse: .ci/wheels $(STAMPS)/torch
	$(INSTALL) ninja setuptools wheel
	.ci/wheels $(BIN)/python '$(WHEELS)'
	@touch $@
