# Lookalike. `make help` lists what can be asked for; CI, the pre-commit hook and the Dockerfile ask for the same.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help

PYTHON ?= python3
LISTEN ?= 127.0.0.1:50051
CATALOG ?= data/sample/catalog.csv
MODEL ?= models/default

BIN := .venv/bin
EXPORTER_BIN := .venv-exporter/bin
PROTO_BIN := .venv-proto/bin
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

.PHONY: lock
UV_COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header $(addprefix --no-emit-package lookalike-,proto server client)
lock: .venv/ready ## choose the newest versions again and write every lock file
	$(UV_COMPILE) --upgrade tests/requirements.in -o tests/requirements.lock
	$(UV_COMPILE) --upgrade server/pyproject.toml --extra cpu -c tests/requirements.lock -o server/requirements.lock
	$(UV_COMPILE) --upgrade server/build.in -c tests/requirements.lock -o server/build.lock
	$(UV_COMPILE) --upgrade proto/requirements.in -o proto/requirements.lock
	$(UV_COMPILE) --upgrade exporter/pyproject.toml --extra test -o exporter/requirements.lock
