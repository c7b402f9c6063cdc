# Everything runs in .venv, made on first use from pyproject.toml with the versions of constraints.txt.
# A stamp in .venv says what is installed; it is older than its inputs, or missing, until an install has succeeded.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test fuzz fuzz-tokens check bench clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.stamp-run ## the whole flow on pages and code of your own Python, into out/demo
	$(BIN)/tokenmill demo --output out/demo

test: check ## the checks, then all tests
	$(BIN)/python -m pytest -q --durations=10 --numprocesses=logical --maxprocesses=4 --dist=worksteal

fuzz: $(VENV)/.stamp-test ## the property tests with new examples, ROUNDS times (10), until one fails
	@for round in $$(seq $(or $(ROUNDS),10)); do \
		echo "Round $$round"; \
		TOKENMILL_HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest -q -m hypothesis || exit 1; done

fuzz-tokens: $(VENV)/.stamp-test ## ids of our token kernels against `tokenizers` on STRINGS random strings (200,000) a pre-tokenizer
	$(BIN)/python -m tests.oracle.fuzz_tokens --strings $(or $(STRINGS),200000)

check: $(VENV)/.stamp-test ## ruff (lint, format) and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict -p tokenmill

bench: $(VENV)/.stamp-bench ## every benchmark, into tests/bench/RESULTS.md; QUICK=1: a short look, written nowhere
	$(BIN)/python -m tests.bench $(if $(QUICK),--quick)

clean: ## remove outputs, builds and caches; .venv stays
	rm -rf out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis infra/package/*.egg-info
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# `venv` makes bin/python before pip, so the interpreter's presence would not prove a usable environment.
$(VENV)/.stamp-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "tokenmill needs Python 3.11 or newer; $(PYTHON) is '$$($(PYTHON) --version 2>&1)'." \
			"Name another one, such as: make PYTHON=python3.12 $(or $(MAKECMDGOALS),demo)" >&2; exit 1; }
	@echo "Making a Python environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.stamp-run: pyproject.toml constraints.txt | $(VENV)/.stamp-venv
	@echo "Installing tokenmill and what it needs to run into $(VENV) (a minute or two) ..."
	@rm -f $@
	@$(PIP) install --quiet --constraint constraints.txt setuptools
	@$(PIP) install --quiet --constraint constraints.txt --no-build-isolation --editable .
	@touch $@

$(VENV)/.stamp-test: pyproject.toml constraints.txt | $(VENV)/.stamp-venv
	@echo "Installing tokenmill with PyTorch and its test tools into $(VENV) (a few minutes) ..."
	@rm -f $@
	@$(PIP) install --quiet --constraint constraints.txt setuptools
	@$(PIP) install --quiet --constraint constraints.txt --no-build-isolation --editable '.[test,torch]'
	@touch $@ $(VENV)/.stamp-run

$(VENV)/.stamp-bench: pyproject.toml constraints.txt | $(VENV)/.stamp-venv
	@echo "Installing tokenmill with the peers it is measured against into $(VENV) (a minute or two) ..."
	@rm -f $@
	@$(PIP) install --quiet --constraint constraints.txt setuptools
	@$(PIP) install --quiet --constraint constraints.txt --no-build-isolation --editable '.[bench]'
	@touch $@ $(VENV)/.stamp-run
