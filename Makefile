# Everything happens in .venv; nothing else on the machine is touched. `make help` lists the targets.
VENV := .venv
BIN  := $(VENV)/bin
PY   := $(BIN)/python

.DEFAULT_GOAL := help
.PHONY: help run demo test test-lowest lint bench docs clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

run: $(VENV)/.run  ## Set up what is needed and serve on 127.0.0.1:8787
	@$(BIN)/deepseek-proxy serve

demo: $(VENV)/.run  ## One streamed answer with a tool call; no key, no network
	@$(BIN)/deepseek-proxy demo

# Tests of servers wait half of their time: two more at once than there are processors.
AT_ONCE = $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) + 2 )))

test: lint  ## Run all checks and tests
	$(BIN)/pytest -n $(AT_ONCE) --dist worksteal

# What touches the dependencies; the rest of the core is plain Python.
LOWEST := tests/api tests/ops tests/upstream tests/store tests/tokenizer tests/test_app.py tests/test_settings.py tests/test_sealing.py

test-lowest: .cache/lowest/.done  ## Run the tests of what uses a library with the lowest versions that setup.cfg allows
	.cache/lowest/bin/pytest -n $(AT_ONCE) --dist worksteal -m 'not e2e and not faults' $(LOWEST)

lint: $(VENV)/.dev  ## Run the checks alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev  ## Measure against nginx
	$(PY) -m benchmarks

docs: $(VENV)/.run  ## Write docs/configuration.md and deploy/systemd anew
	$(BIN)/deepseek-proxy config --reference > docs/configuration.md
	$(PY) -c "from pathlib import Path; from deepseek_proxy.cli import units; units.write_all(Path('deploy/systemd'))"

clean:  ## Remove everything that was made here
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info

# The first Python of 3.11 or later that runs; `python3.13` may be there and yet not work (pyenv).
$(PY):
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	  $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	    && exec $$python -m venv $(VENV); \
	done; \
	echo 'No Python 3.11 or later with venv was found. On Debian: apt install python3 python3-venv.' >&2; \
	echo 'If it is somewhere else: make PYTHON=/path/to/python3' >&2; exit 1

$(VENV)/.run: setup.cfg setup.py | $(PY)
	@echo 'Installing into $(VENV) (once) ...'
	@$(PY) -m pip install --quiet --disable-pip-version-check --use-pep517 --editable .
	@touch $@

$(VENV)/.dev: setup.cfg setup.py | $(PY)
	@$(PY) -m pip install --quiet --disable-pip-version-check --use-pep517 --editable '.[dev]'
	@touch $@ $(VENV)/.run

.cache/lowest/.done: setup.cfg .ci/lowest.py | $(PY)
	@rm -rf .cache/lowest && $(PY) -m venv .cache/lowest
	@$(PY) .ci/lowest.py > .cache/lowest/constraints.txt
	@.cache/lowest/bin/pip install --quiet --disable-pip-version-check --use-pep517 \
	  --constraint .cache/lowest/constraints.txt --editable '.[test]'
	@touch $@
