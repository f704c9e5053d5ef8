# The commands of simdeploy. `make help` lists them.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo local test quick lint reports benchmarks notebooks clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/installed ## install simdeploy into .venv and compare the strategies of the canonical upgrade
	@$(BIN)/simdeploy compare scenarios/canonical/upgrade.yaml

local: $(VENV)/installed ## upgrade a small real service on this machine, with a prober beside it, and measure it
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh scenarios/local/upgrade.sh

test: $(VENV)/tests ## install what the tests need and run them all
	@$(BIN)/python -m pytest -n auto --dist worksteal

quick: $(VENV)/tests ## the fast tests, under a minute
	@$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow"

lint: $(VENV)/lint ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

reports: $(VENV)/installed ## write reports/ anew from the shipped scenarios: tables, figures, pages and runbooks
	@$(BIN)/python -m simdeploy.report.reports scenarios reports

benchmarks: $(VENV)/installed ## the speed against a plain SimPy program, where the time goes, and how vetting grows
	@$(BIN)/python -m benchmarks.run
	@$(BIN)/python -m benchmarks.vetting

notebooks: $(VENV)/notebooks ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks

clean: ## remove .venv and caches
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info

# One stamp per set of packages; each is made anew when what it is made from changes.
$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "simdeploy needs Python 3.11 or later as '$(PYTHON)'. Install it with: apt-get install python3 python3-venv"; \
	    echo "or name another one: make PYTHON=python3.12 ..."; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing. Install it with: apt-get install python3-venv"; exit 2; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: $(VENV)/created pyproject.toml constraints.txt
	@echo "Installing simdeploy into $(VENV) ..." >&2
	@$(PIP) -e .
	@touch $@

$(VENV)/tests: $(VENV)/installed
	@echo "Installing what the tests need ..." >&2
	@$(PIP) -e '.[test]'
	@PATH="$$PATH:/usr/sbin"; missing=; \
	  for tool in shellcheck:shellcheck chromium:chromium sshd:openssh-server ssh:openssh-client; do \
	    command -v "$${tool%:*}" >/dev/null || missing="$$missing $${tool#*:}"; done; \
	  [ -z "$$missing" ] || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq >&2 && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >&2; } || \
	  echo "Tests that need it are skipped. Install it with: apt-get install$$missing" >&2
	@touch $@

$(VENV)/lint: $(VENV)/installed
	@$(PIP) -e '.[test,lint]'
	@touch $@

$(VENV)/notebooks: $(VENV)/installed
	@$(PIP) -e '.[notebooks]'
	@touch $@
