# On a fresh machine with Python 3.11+, git and make:  make quickstart  and  make test
# Both may be repeated; what is done already is not done again.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: quickstart test lint clean

quickstart: $(VENV)/.installed ## the main job on the embedded sample, offline, some three minutes on two cores
	$(BIN)/sectorlm run configs/recipes/quickstart-finance.yaml

test: $(VENV)/.installed-dev ## all tests
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## the environment and caches; runs/ stays
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "SectorLM needs Python 3.11 or newer: make PYTHON=python3.12 quickstart"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch first and exact: where a CPU wheel (2.13.0+cpu) is offered by find-links or an index, pip takes it.
$(VENV)/.torch: $(VENV)/.made
	$(BIN)/python -m pip install "torch==2.13.0"
	@touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	$(BIN)/python -m pip install -e ".[baselines,xlsx]"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install -e ".[dev]"
	@touch $@
