# Everything a developer does; CI does the same. `make help` lists it.
PYTHON ?= python3
BIN := .venv/bin
KERNEL := $(filter-out %/powers.h,$(wildcard transform/native/*.[ch])) $(addprefix transform/native/,compiling.py hatch_hook.py powers.py sources_hash.py)
TARGETS := x86_64-linux aarch64-linux x86_64-macos aarch64-macos

# What is given on the command line of make, and nothing that is exported: the values as they are, quoted for a shell.
define newline


endef
GIVEN := $(filter-out PYTHON,$(foreach name,$(.VARIABLES),$(if $(filter command line,$(origin $(name))),$(name))))
quoted = '$(subst ','\'',$(if $(findstring $(newline),$(value $(1))),$(error $(1) has more than one line),$(value $(1))))'
ARGUMENTS = $(foreach name,$(sort $(GIVEN)),$(name)=$(call quoted,$(name)))
# Or make would expand what begins with a dollar sign in them. Other targets take some of them from the environment.
DEPLOYING := $(filter image push deploy-% status smoke destroy,$(MAKECMDGOALS))
unexport $(if $(DEPLOYING),$(GIVEN),$(filter p%,$(GIVEN)))

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow lint format docs simulate bench dist lock clean
.PHONY: image push deploy-fargate deploy-ec2 status smoke destroy

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

install: .venv/installed ## Create .venv with the locked versions

.venv/installed: requirements.lock pyproject.toml $(KERNEL)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say which with: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	@echo 'Installing the packages takes some minutes, without output.'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

# In an environment of its own, as it pins older versions of packages that the others need.
.venv-checkov/installed: requirements-checkov.lock
	$(PYTHON) -m venv .venv-checkov
	.venv-checkov/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-checkov.lock
	@touch $@

.venv-docs/installed: requirements-docs.lock
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.lock
	@touch $@

demo: install ## Run the worker against a local AWS emulator; on your data with FILE=… CALCULATION=…
	@$(BIN)/runner demo $(if $(FILE),'$(FILE)')

test: install ## Run the tests that take at most a minute each, with some of the examples
	$(BIN)/python -m pytest -n auto --dist worksteal

test-slow: install ## Run the longer tests, and property tests with all examples
	$(BIN)/python -m pytest -n auto --dist worksteal -m 'slow or property' --hypothesis-profile all

lint: install .venv-checkov/installed ## Check style, types, spelling, phrases, docker/Dockerfile, cfn/ and .github/
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python -m tests.prose
	$(BIN)/hadolint docker/Dockerfile
	$(BIN)/zizmor --quiet --offline --strict-collection .github/workflows
	$(BIN)/cfn-lint --include-checks I -- cfn/*.yaml
	.venv-checkov/bin/checkov --framework cloudformation --directory cfn --compact --quiet --skip-download

format: install ## Fix style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

dist: install ## Build the source distribution and wheels in dist/, for Linux and macOS on x86-64 and ARM64
	rm -rf dist
	$(BIN)/python -m hatchling build -t sdist -d dist
	set -e; for target in $(TARGETS); do KERNEL_TARGET=$$target $(BIN)/python -m hatchling build -t wheel -d dist; done

docs: .venv-docs/installed ## Build the site of the documentation in site/
	.venv-docs/bin/python docs/site/build.py

# What these do comes from their command line, as in `make deploy-fargate pMaxTasks=4`, and with ENV=prod also from
# cfn/environments/prod.env. They print the plain commands that do the same.
image: install ## Build the worker's image
	@$(BIN)/python -m cfn image $(ARGUMENTS)

push: install ## Build the image and push it to ECR
	@$(BIN)/python -m cfn push $(ARGUMENTS)

deploy-fargate: install ## Deploy or update the worker on Fargate, with ENV=… or parameters; at first with VPC=…
	@$(BIN)/python -m cfn deploy fargate $(ARGUMENTS)

deploy-ec2: install ## Deploy or update the worker on EC2, with the same variables
	@$(BIN)/python -m cfn deploy ec2 $(ARGUMENTS)

status: install ## Show a deployment: its buckets, tasks and queues; of ENV=… or STACK=…
	@$(BIN)/python -m cfn status $(ARGUMENTS)

smoke: install ## Upload the sample, wait for the output and compare it with what should be deployed
	@$(BIN)/python -m cfn smoke $(ARGUMENTS)

destroy: install ## Delete a deployment except for its buckets, after asking for its name
	@$(BIN)/python -m cfn destroy $(ARGUMENTS)

simulate: install ## Simulate the worker with faults; SEEDS=… schedules from START=… on, or MINUTES=…
	$(BIN)/python -m tests.simulation.simulate $(if $(SEEDS),--seeds $(SEEDS)) $(if $(START),--start $(START)) \
		$(if $(MINUTES),--minutes $(MINUTES))

bench: install ## Measure time and memory, compared with other tools; ARGS=--scaling estimates more cores
	$(BIN)/python -m tests.benchmarks.bench $(ARGS)

lock: install ## Lock the newest versions that pyproject.toml allows, with hashes
	$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --python-version 3.11 --group dev pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --python-version 3.11 --constraint requirements.lock pyproject.toml -o requirements-run.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --python-version 3.11 --constraint requirements.lock --group build -o requirements-build.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --python-version 3.11 --group checkov -o requirements-checkov.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --python-version 3.11 --group docs -o requirements-docs.lock

clean: ## Remove everything that make has created
	rm -rf .venv .venv-checkov .venv-docs build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis \
	  transform/native/libkernel.* transform/native/powers.h
