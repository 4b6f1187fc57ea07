# Lookalike. `make help` lists what can be asked for; CI, the pre-commit hook and the Dockerfile ask for the same.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help

PYTHON ?= python3
LISTEN ?= 127.0.0.1:50051
SAMPLE := data/sample/catalog.csv
CATALOG ?= $(SAMPLE)
MODEL ?= models/default

BIN := .venv/bin
EXPORTER_BIN := .venv-exporter/bin
PROTO_BIN := .venv-proto/bin
BENCH_BIN := .venv-bench/bin
PIP_INSTALL := python -m pip install --quiet --disable-pip-version-check
OURS := proto/python server clients/python
PROTOS := $(wildcard proto/lookalike/v1/*.proto)

##@ Use it

.PHONY: help
help: ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: .venv/ready ## make the environment of the server, the client and their tools

# Only what changes an environment is named here, so that a second run starts at once.
.venv/ready: server/build.lock tests/requirements.lock $(OURS:%=%/pyproject.toml)
	@echo "setup: .venv (server, client, tools)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	@$(PYTHON) -m venv .venv
	@$(BIN)/$(PIP_INSTALL) --require-hashes -r server/build.lock
	@$(BIN)/$(PIP_INSTALL) --require-hashes --no-build-isolation -r tests/requirements.lock
	@$(BIN)/$(PIP_INSTALL) --no-deps --no-build-isolation $(OURS:%=-e %)
	@touch $@

.venv-exporter/ready: exporter/requirements.lock exporter/pyproject.toml
	@echo "setup: .venv-exporter (TensorFlow, only to export models)"
	@$(PYTHON) -m venv .venv-exporter
	@$(EXPORTER_BIN)/$(PIP_INSTALL) --require-hashes -r exporter/requirements.lock
	@$(EXPORTER_BIN)/$(PIP_INSTALL) --no-deps --no-build-isolation -e exporter
	@touch $@

.venv-proto/ready: proto/requirements.lock
	@echo "setup: .venv-proto (stub generation, on the oldest supported runtime)"
	@$(PYTHON) -m venv .venv-proto
	@$(PROTO_BIN)/$(PIP_INSTALL) --require-hashes -r proto/requirements.lock
	@touch $@

.venv-bench/ready: benchmarks/requirements.lock
	@echo "setup: .venv-bench (load generators, bare session, pictures)"
	@$(PYTHON) -m venv .venv-bench
	@$(BENCH_BIN)/$(PIP_INSTALL) --require-hashes -r benchmarks/requirements.lock
	@touch $@

# The model of `make run`: ImageNet ResNet50 where its weights can be had (exit status 69 says they cannot), else a
# smaller network with real ImageNet weights. models/default points at whichever it is.
models/default/model.json:
	@$(MAKE) --no-print-directory .venv-exporter/ready
	@rm -f models/default; mkdir -p models; \
	name=resnet50-imagenet; status=0; \
	test -f models/$$name/model.json || \
		$(EXPORTER_BIN)/lookalike-exporter export --backbone resnet50 --weights imagenet --out models/$$name 2> models/.why || status=$$?; \
	if [ $$status = 69 ]; then \
		echo "run: the ImageNet weights of ResNet50 cannot be reached; falling back to SqueezeNet 1.1 with real ImageNet weights"; \
		name=squeezenet-imagenet; \
		test -f models/$$name/model.json || \
			$(EXPORTER_BIN)/lookalike-exporter export --backbone squeezenet --weights imagenet --out models/$$name; \
	elif [ $$status != 0 ]; then cat models/.why >&2; exit $$status; fi; \
	ln -s $$name models/default

$(SAMPLE): .venv/ready
	@test -f $@ || $(BIN)/lookalike sample $(@D)
	@touch $@

.PHONY: run
run: .venv/ready $(MODEL)/model.json $(filter $(SAMPLE),$(CATALOG)) ## serve a catalogue on LISTEN and ask one example (CATALOG=path/catalog.csv)
	@test -f "$(CATALOG)" || { echo "run: there is no $(CATALOG)" >&2; exit 1; }
	@if $(BIN)/lookalike-server health --target $(LISTEN) > /dev/null; then \
		echo "run: a server is already running on $(LISTEN); stop it or set LISTEN=HOST:PORT" >&2; exit 1; fi
	@store=data/stores/$$(basename "$$(dirname "$$(realpath "$(CATALOG)")")")-$$(basename "$$(realpath $(MODEL))"); \
	$(BIN)/lookalike-server serve --model $(MODEL) --data "$$store" --listen $(LISTEN) & server=$$!; \
	question=; trap 'kill -TERM $$server $$question 2> /dev/null || true; wait $$server || true' EXIT; trap 'exit 0' INT TERM; \
	$(BIN)/lookalike --server $(LISTEN) quickstart --catalog "$(CATALOG)" & question=$$!; \
	wait -n; question=; kill -0 $$server; \
	echo "run: serving on $(LISTEN); Ctrl-C stops"; \
	wait $$server

##@ Work on it

.PHONY: test
test: .venv/ready .venv-exporter/ready .venv-proto/ready ## run every test that needs nothing beyond the package registries
	$(EXPORTER_BIN)/python -m pytest -q exporter/tests
	$(BIN)/python -m pytest -q tests

.PHONY: test-crash
test-crash: .venv/ready ## kills, power cuts, failing calls and full disks by the hundred (`make test` takes some of each)
	CRASH_KILLS=100 CRASH_POWER_CUTS=50 CRASH_STRIDE=1 $(BIN)/python -m pytest -q tests/crash

.PHONY: bench
bench: .venv/ready .venv-bench/ready $(MODEL)/model.json ## measure beside the limit and the peers, in one run (MODEL=models/NAME BENCH="--figures catalogue")
	PYTHONPATH=.:proto/python $(BENCH_BIN)/python -m benchmarks --model $(MODEL) $(BENCH)

.PHONY: lint
lint: .venv/ready types ## what CI and the pre-commit hook check: style, types, import layers, protos, fresh stubs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=exporter $(BIN)/lint-imports --no-logo
	cd proto && ../$(PROTO_BIN)/buf lint && ../$(PROTO_BIN)/buf format --diff --exit-code --exclude-path google
	@fresh=$$(mktemp -d); trap 'rm -rf $$fresh' EXIT; \
	$(call generate_stubs,$$fresh); \
	for file in $$(cd $$fresh && find . -type f); do \
		cmp $$fresh/$$file proto/python/$$file || { echo "lint: the stubs are stale; run make proto" >&2; exit 1; }; done; \
	stubs() { find $$1/lookalike -name '*_pb2*.py*' -not -name '*.pyc' | wc -l; }; \
	[ $$(stubs $$fresh) = $$(stubs proto/python) ] || { echo "lint: a stub has no proto any more; run make proto" >&2; exit 1; }
	@echo "lint: clean"

.PHONY: types
types: .venv/ready .venv-proto/ready ## check the types alone
	$(BIN)/mypy server/lookalike_server clients/python/lookalike_client tests benchmarks docs
	$(BIN)/mypy exporter/lookalike_exporter
	MYPYPATH=exporter/tests $(BIN)/mypy exporter/tests

# Messages for every file, stubs only for those with a service: the others would be empty.
define generate_stubs
PATH=$(CURDIR)/$(PROTO_BIN):$$PATH python -m grpc_tools.protoc --proto_path=proto \
	--python_out=$(1) --mypy_out=quiet:$(1) $(PROTOS) && \
PATH=$(CURDIR)/$(PROTO_BIN):$$PATH python -m grpc_tools.protoc --proto_path=proto \
	--grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) $(filter %_service.proto,$(PROTOS))
endef

.PHONY: proto
proto: .venv-proto/ready ## generate the Python stubs again
	find proto/python/lookalike -name '*_pb2*' -delete
	$(call generate_stubs,proto/python)

.PHONY: format
format: .venv/ready ## put the code into the common format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lock
UV_COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header $(addprefix --no-emit-package lookalike-,proto server client)
lock: .venv/ready ## choose the newest versions again and write every lock file
	$(UV_COMPILE) --upgrade tests/requirements.in -o tests/requirements.lock
	$(UV_COMPILE) --upgrade server/pyproject.toml --extra cpu -c tests/requirements.lock -o server/requirements.lock
	$(UV_COMPILE) --upgrade server/build.in -c tests/requirements.lock -o server/build.lock
	$(UV_COMPILE) --upgrade proto/requirements.in -o proto/requirements.lock
	for at in benchmarks benchmarks/catalogue benchmarks/peers/mosec benchmarks/peers/pytriton benchmarks/peers/ray; do \
		$(UV_COMPILE) --upgrade $$at/requirements.in -o $$at/requirements.lock; done
	$(UV_COMPILE) --upgrade exporter/pyproject.toml --extra test -o exporter/requirements.lock

##@ Ship it

# Without HNSWLIB_NO_NATIVE hnswlib is compiled for this very processor and dies on another; without --no-cache-dir pip
# may take one that was compiled so.
.PHONY: wheels
wheels: ## build the server's wheels and all it needs into dist/wheels, for this kind of processor in general
	$(PYTHON) -m venv .venv-build
	.venv-build/bin/$(PIP_INSTALL) --require-hashes -r server/build.lock
	HNSWLIB_NO_NATIVE=1 .venv-build/bin/python -m pip wheel --quiet --no-cache-dir --require-hashes \
		--no-build-isolation --wheel-dir dist/wheels -r server/requirements.lock
	.venv-build/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist/wheels ./proto/python ./server

.PHONY: image
image: ## build the container image
	docker build --tag lookalike-server:local .

.PHONY: ci
ci: lint test ## what CI runs

.PHONY: hooks
hooks: ## check every commit with make lint
	printf '#!/bin/sh\nexec make lint\n' > .git/hooks/pre-commit
	chmod +x .git/hooks/pre-commit

.PHONY: clean
clean: ## remove the environments and caches (models and data stay)
	rm -rf .venv .venv-* dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
