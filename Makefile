# Everything a developer does; CI does the same. `make help` lists it.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow lint format bench lock clean

help: ## List what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: .venv/installed ## Make the virtual environment in .venv, with the locked versions

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say which with: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

# Apart from the rest, as it pins older versions of what that needs.
.venv-checkov/installed: requirements-checkov.lock
	$(PYTHON) -m venv .venv-checkov
	.venv-checkov/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-checkov.lock
	@touch $@

demo: install ## Run the worker on an AWS of its own, and show what it does
	@$(BIN)/runner demo

test: install ## Run the tests, but for those that take longer than a minute
	$(BIN)/python -m pytest -n auto

test-slow: install ## Run the tests that take longer than a minute
	$(BIN)/python -m pytest -n auto -m slow

lint: install .venv-checkov/installed ## Check style, types and the templates in cfn/
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/cfn-lint --include-checks I -- cfn/*.yaml
	.venv-checkov/bin/checkov --framework cloudformation --directory cfn --compact --quiet --skip-download

format: install ## Put the code in order
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: install ## Measure time and memory, beside what one would use instead
	$(BIN)/python -m tests.benchmarks.bench

lock: install ## Lock the newest versions that pyproject.toml admits, with hashes and without addresses
	$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --python-version 3.11 --group dev pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --python-version 3.11 --group checkov -o requirements-checkov.lock

clean: ## Remove what was made
	rm -rf .venv .venv-checkov build .pytest_cache .mypy_cache .ruff_cache .hypothesis
