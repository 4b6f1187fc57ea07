# `make help` lists the targets; CI, the pre-commit hook and the Dockerfile call the same ones.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help

PYTHON ?= python3
LISTEN ?= 127.0.0.1:50051
GALLERY ?= 127.0.0.1:8501
SAMPLE := data/sample/catalog.csv
CATALOG ?= $(SAMPLE)
# How `make run` reads the catalog (`lookalike quickstart --help`), for instance IMPORT="--category-column brand".
IMPORT ?=
# The folder of the store of `make run`; by default one for each catalog's real path and each model.
DATA ?=
MODEL ?= models/default
MODELS ?= models

BIN := .venv/bin
EXPORTER_BIN := .venv-exporter/bin
PROTO_BIN := .venv-proto/bin
TRITON_BIN := .venv-triton/bin
RELEASE_BIN := .venv-release/bin
BENCH_BIN := .venv-bench/bin
GALLERY_BIN := .venv-gallery/bin
PIP_INSTALL := python -m pip install --quiet --disable-pip-version-check
UV_INSTALL := tools/uv.sh pip install --quiet --python
# hnswlib has no wheels, and compiles itself for this very processor, to die on another. On x86-64 Linux it is compiled
# for x86-64-v3 instead (AVX2, FMA; processors since 2013), and the linker records that in it, so that the server can say
# so elsewhere. HNSWLIB_LEVEL= compiles it for every processor of this kind; its searches take a half longer then.
HNSWLIB_LEVEL ?= $(if $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m)),x86-64-v3)
HNSWLIB_BUILD := HNSWLIB_NO_NATIVE=1
ifneq ($(HNSWLIB_LEVEL),)
HNSWLIB_BUILD += CFLAGS=-march=$(HNSWLIB_LEVEL) CXXFLAGS=-march=$(HNSWLIB_LEVEL) LDFLAGS=-Wl,-z,$(HNSWLIB_LEVEL)
endif
OURS := proto/python server clients/python clients/loadtest
PROTOS := $(wildcard proto/lookalike/v1/*.proto proto/inference/*.proto)

##@ Use

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: .venv/ready ## create the environment of the server, the clients and their tools

# pip installs uv, and uv the rest, in a fraction of the time; both check hashes.
.venv-uv/ready: tools/uv.lock
	@echo "setup: .venv-uv (the installer)"
	@$(PYTHON) -m venv .venv-uv
	@.venv-uv/bin/$(PIP_INSTALL) --require-hashes -r tools/uv.lock
	@touch $@

# Only what changes an environment is a prerequisite, so that a second run starts at once.
.venv/ready: server/build.lock tests/requirements.lock $(OURS:%=%/pyproject.toml) | .venv-uv/ready
	@echo "setup: .venv (server, client, tools)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	@$(PYTHON) -m venv --without-pip .venv
	@$(UV_INSTALL) .venv --require-hashes -r server/build.lock
	@$(HNSWLIB_BUILD) $(UV_INSTALL) .venv --require-hashes --no-build-isolation -r tests/requirements.lock
	@$(UV_INSTALL) .venv --no-deps --no-build-isolation $(OURS:%=-e %)
	@touch $@

.venv-exporter/ready: exporter/requirements.lock exporter/pyproject.toml | .venv-uv/ready
	@echo "setup: .venv-exporter (TensorFlow, only to export models)"
	@$(PYTHON) -m venv .venv-exporter
	@$(UV_INSTALL) .venv-exporter --require-hashes -r exporter/requirements.lock
	@$(UV_INSTALL) .venv-exporter --no-deps --no-build-isolation -e exporter
	@touch $@

.venv-proto/ready: proto/requirements.lock | .venv-uv/ready
	@echo "setup: .venv-proto (stub generation, on the oldest supported runtime)"
	@$(PYTHON) -m venv --without-pip .venv-proto
	@$(UV_INSTALL) .venv-proto --require-hashes -r proto/requirements.lock
	@touch $@

.venv-triton/ready: tests/e2e/triton/requirements.lock | .venv-uv/ready
	@echo "setup: .venv-triton (Triton's client, which needs an older protobuf)"
	@$(PYTHON) -m venv --without-pip .venv-triton
	@$(UV_INSTALL) .venv-triton --require-hashes -r tests/e2e/triton/requirements.lock
	@touch $@

# A Go that is too old counts as none.
.tools/bin/ready: tests/e2e/tools/go.mod tests/e2e/tools/go.sum
	@if go -C tests/e2e/tools list -m > /dev/null 2>&1; then \
		echo "setup: .tools (grpcurl, ghz)"; \
		log=$$(GOBIN=$(CURDIR)/.tools/bin go -C tests/e2e/tools install tool 2>&1) || { echo "$$log" >&2; exit 1; }; touch $@; \
	else echo "setup: no Go 1.25 or newer, so no grpcurl and no ghz: the tests that call with them will be skipped"; fi

# Helm takes minutes to compile, so `make environments` leaves these out.
.tools/bin/deploy-ready: $(wildcard $(addprefix tests/e2e/deploy/,go.mod go.sum */main.go))
	@if go -C tests/e2e/deploy list -m > /dev/null 2>&1; then \
		echo "setup: .tools (helm, readers of Kubernetes objects and compose files; takes minutes)"; \
		log=$$(GOBIN=$(CURDIR)/.tools/bin go -C tests/e2e/deploy install tool ./decode ./compose ./container 2>&1) \
			|| { echo "$$log" >&2; exit 1; }; touch $@; \
	else echo "setup: no Go 1.26 or newer, so no helm: the tests of the chart will be skipped"; fi

.venv-bench/ready: benchmarks/requirements.lock | .venv-uv/ready
	@echo "setup: .venv-bench (peers, bare session, charts)"
	@$(PYTHON) -m venv .venv-bench
	@$(HNSWLIB_BUILD) $(UV_INSTALL) .venv-bench --require-hashes -r benchmarks/requirements.lock
	@touch $@

.venv-gallery/ready: clients/web/requirements.lock proto/python/pyproject.toml clients/python/pyproject.toml | .venv-uv/ready
	@echo "setup: .venv-gallery (Streamlit, the client, a browser driver)"
	@$(PYTHON) -m venv --without-pip .venv-gallery
	@$(UV_INSTALL) .venv-gallery --require-hashes -r clients/web/requirements.lock
	@$(UV_INSTALL) .venv-gallery --no-deps --no-build-isolation -e proto/python -e clients/python
	@touch $@

# The model of `make run`: ImageNet ResNet50 where its weights can be fetched (exit status 69: they cannot), else a
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
	@test -f $@ || $(BIN)/python -m tools.sample_catalog $(@D)
	@touch $@

.PHONY: run
run: .venv/ready $(MODEL)/model.json $(filter $(SAMPLE),$(CATALOG)) ## serve a catalog on LISTEN and ask one example (CATALOG=path/catalog.csv IMPORT=options DATA=folder)
	@test -f "$(CATALOG)" || { echo "run: there is no $(CATALOG)" >&2; exit 1; }
	@if $(BIN)/lookalike-server health --target $(LISTEN) > /dev/null; then \
		echo "run: a server is already running on $(LISTEN); stop it or set LISTEN=HOST:PORT" >&2; exit 1; fi
	@catalog=$$(realpath "$(CATALOG)"); folder=$${catalog%/*}; digest=$$(printf %s "$$catalog" | cksum); \
	store="$(DATA)"; store=$${store:-data/stores/$${folder##*/}-$${digest%% *}-$$(basename "$$(realpath $(MODEL))")}; \
	echo "run: the store of this catalog is $$store"; \
	$(BIN)/lookalike-server serve --model $(MODEL) --data-dir "$$store" --listen $(LISTEN) & server=$$!; \
	question=; trap 'kill -TERM $$server $$question 2> /dev/null || true; wait $$server || true' EXIT; trap 'exit 0' INT TERM; \
	$(BIN)/lookalike --server $(LISTEN) quickstart --catalog "$(CATALOG)" $(IMPORT) & question=$$!; \
	wait -n; question=; kill -0 $$server; \
	echo "run: serving on $(LISTEN); Ctrl-C stops"; \
	wait $$server

.PHONY: gallery
gallery: .venv-gallery/ready ## show what the server on LISTEN answers, at http://GALLERY (127.0.0.1:8501), beside `make run`
	@echo "gallery: http://$(GALLERY) shows the server on $(LISTEN); Ctrl-C stops"
	@cd clients/web && exec env LOOKALIKE_CLIENT_SERVER=$(LISTEN) ../../$(GALLERY_BIN)/streamlit run run.py \
		--server.address $(word 1,$(subst :, ,$(GALLERY))) --server.port $(word 2,$(subst :, ,$(GALLERY)))

##@ Develop

# What `make test` leaves out is marked slow in the tests. PYTEST= adds options. Files go to the processes in the order
# of their names: e2e, which takes longest, early, and unit at the end, so that no process waits long for the other.
SERVER_TESTS := $(BIN)/python -m pytest -q --numprocesses 2 --dist loadfile --no-loadscope-reorder
EXPORTER_TESTS := $(EXPORTER_BIN)/python -m pytest -q --numprocesses 2 --dist loadfile exporter/tests
GALLERY_TESTS := $(GALLERY_BIN)/python -m pytest -q -c tests/e2e/gallery/pytest.ini --confcutdir=tests/e2e/gallery tests/e2e/gallery
TEST_ENVIRONMENTS := .venv/ready .venv-exporter/ready .venv-proto/ready .venv-triton/ready .tools/bin/ready

.PHONY: environments
environments: $(TEST_ENVIRONMENTS) .venv-gallery/ready ## create every environment that tests need (several at once: -j2)

# COVERAGE=1 measures what the tests of `make test` cover, and fails below the floor (percent).
FLOOR := 88

# The gallery's tests with these markers, where there is a browser.
define gallery_tests
@if command -v chromium > /dev/null; then set -x; $(GALLERY_TESTS) -m "$(1)" --durations 5 $(PYTEST); \
else echo "test: skipped the gallery's tests, for want of a browser: apt-get install chromium"; fi
endef
GALLERY_ENVIRONMENT = $(if $(shell command -v chromium),.venv-gallery/ready models/default/model.json)

.PHONY: test
test: $(TEST_ENVIRONMENTS) $(GALLERY_ENVIRONMENT) ## run a test of every capability, in minutes
	$(EXPORTER_TESTS) -m "not slow and not nightly" --durations 5 $(PYTEST)
	$(SERVER_TESTS) tests -m "not slow and not nightly" --durations 15 $(if $(COVERAGE),--cov --cov-report term:skip-covered --cov-fail-under $(FLOOR)) $(PYTEST)
	$(call gallery_tests,not slow and not nightly)

# The files of the tests that run alone: to collect all others takes half a minute of processor time.
SERIAL = $(shell grep -rl --include='test_*.py' 'mark\.serial' tests)

# Not after `test`: each run of pytest collects all tests and starts servers, models and the browser again.
.PHONY: test-all
test-all: $(TEST_ENVIRONMENTS) $(GALLERY_ENVIRONMENT) ## run every test but the nightly ones, also the exporter's matrix, all languages, the browser, crashes and fuzzing
	$(EXPORTER_TESTS) -m "not nightly" --durations 10 $(PYTEST)
	$(SERVER_TESTS) tests -m "not serial and not nightly" --durations 30 $(PYTEST)
	$(BIN)/python -m pytest -q $(SERIAL) -m "serial and not nightly" --durations 10 $(PYTEST)
	$(call gallery_tests,not nightly)

.PHONY: test-nightly
test-nightly: $(TEST_ENVIRONMENTS) .venv-gallery/ready models/default/model.json ## run what takes long by nature: coverage, real images, benchmarks, kills and full disks by the hundred, fuzzing for hours
	FUZZ_EXAMPLES=1000 $(MAKE) --no-print-directory test COVERAGE=1
	$(SERVER_TESTS) tests -m nightly --ignore tests/image --ignore tests/soak $(PYTEST)
	$(EXPORTER_TESTS) -m nightly $(PYTEST)
	$(GALLERY_TESTS) -m nightly $(PYTEST)
	$(MAKE) --no-print-directory release
	$(MAKE) --no-print-directory test-deploy
	CRASH_KILLS=100 CRASH_POWER_CUTS=50 CRASH_STRIDE=1 $(BIN)/python -m pytest -q --timeout 3600 tests/crash $(PYTEST)
	ROLLING_RESTARTS=8 $(BIN)/python -m pytest -q --timeout 1200 tests/e2e/test_rolling_restarts.py $(PYTEST)
	FUZZ_EXAMPLES=300000 $(BIN)/python -m pytest -q --timeout 14400 tests/fuzz $(PYTEST)
	$(MAKE) --no-print-directory image-test
	$(MAKE) --no-print-directory soak SOAK_SECONDS=300

.PHONY: deploy-tools
deploy-tools: .tools/bin/deploy-ready ## build helm and what else checks deploy/ into .tools/bin, which takes minutes

.PHONY: test-deploy
test-deploy: .venv/ready .tools/bin/deploy-ready ## check the compose file, the Helm chart and the systemd unit
	$(BIN)/python -m pytest -q tests/e2e/deploy $(PYTEST)

# Seconds of each attack.
ATTACK_SECONDS ?= 30

.PHONY: test-attack
test-attack: .venv/ready ## attack a server for long, alone and behind the proxies of deploy/ (ATTACK_SECONDS=30)
	ATTACK_SECONDS=$(ATTACK_SECONDS) $(BIN)/python -m pytest -q --timeout 1800 tests/attack $(PYTEST)

# Seconds of load; a run of less than an hour sees only faster leaks (CONTRIBUTING.md).
SOAK_SECONDS ?= 3600

.PHONY: soak
soak: .venv/ready ## load servers for an hour, and judge whether they keep something of each call (SOAK_SECONDS=3600)
	SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/python -m pytest -q tests/soak $(PYTEST)

.PHONY: test-gallery
test-gallery: .venv/ready .venv-gallery/ready models/default/model.json ## run the gallery's tests in Debian's chromium, over a real server
	$(GALLERY_TESTS) $(PYTEST)

.PHONY: test-clients
test-clients: .venv/ready .venv-proto/ready ## build every language's tour and compare what they print
	$(BIN)/python -m pytest -q tests/e2e/languages $(PYTEST)

.PHONY: gallery-screenshots
gallery-screenshots: .venv/ready .venv-gallery/ready models/default/model.json ## take the screenshots in docs/ again, of the sample catalog
	GALLERY_UPDATE_SCREENSHOTS=1 $(GALLERY_TESTS) -k screenshots_of_the_readme

.PHONY: bench
bench: .venv/ready .venv-bench/ready $(MODEL)/model.json ## measure beside the limit and the peers, in one run (MODEL=models/NAME BENCH="--scenarios catalog")
	$(HNSWLIB_BUILD) PYTHONPATH=.:proto/python:clients/python:clients/loadtest $(BENCH_BIN)/python -m benchmarks --model $(MODEL) $(BENCH)

# Needs no environment and no network: with WHEELS it installs those for itself, else PYTHON has what the server needs.
.PHONY: bench-gpu
bench-gpu: ## measure on a GPU, unattended (MODELS=folder WHEELS=folder RUNTIME=folder BENCH="--provider cuda")
	PYTHONPATH=.:server:proto/python:clients/python:clients/loadtest $(PYTHON) -m benchmarks.gpu --models $(MODELS) \
		$(WHEELS:%=--wheels %) $(RUNTIME:%=--runtime %) --out benchmarks/results $(BENCH)

# Random weights, because only speed is measured; the small model with real ones shows that embeddings are right.
GPU_MODELS := resnet50-random-fp32 resnet50-random-fp16 squeezenet-imagenet-fp32 squeezenet-imagenet-fp16

.PHONY: gpu-parcel
gpu-parcel: .venv-bench/ready $(GPU_MODELS:%=models/%/model.json) ## make what a GPU machine without a network needs, in dist/gpu (PARCEL="--architecture 90")
	PYTHONPATH=. $(BENCH_BIN)/python -m benchmarks.gpu.parcel --models $(GPU_MODELS:%=models/%) --out dist/gpu $(PARCEL)

$(GPU_MODELS:%=models/%/model.json): models/%/model.json: | .venv-exporter/ready
	@set -- $(subst -, ,$*); $(EXPORTER_BIN)/lookalike-exporter export --backbone $$1 --weights $$2 --precision $$3 --out models/$*

.PHONY: lint
lint: .venv/ready .venv-proto/ready types ## check style, types, import layers, spelling, versions, protos and fresh stubs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=exporter:clients/web $(BIN)/lint-imports --no-logo
	$(BIN)/codespell -D - -D tools/codespell.txt $$(git ls-files)
	$(BIN)/python tools/version.py --check
	cd proto && ../$(PROTO_BIN)/buf lint && ../$(PROTO_BIN)/buf format --diff --exit-code --exclude-path google
	@$(PROTO_BIN)/python proto/generate.py --check
	@page=$$(mktemp); trap 'rm -f $$page' EXIT; $(call generate_page,$$page); \
	cmp $$page docs/api.md || { echo "lint: docs/api.md is stale; run make proto" >&2; exit 1; }
	@echo "lint: clean"

.PHONY: types types-server types-gallery types-exporter
types: types-server types-gallery types-exporter ## check the types alone (several at once: -j2)

# A cache each, as they may run at once.
types-server: .venv/ready .venv-proto/ready
	$(BIN)/mypy server/lookalike_server clients/python/lookalike_client clients/loadtest/lookalike_loadtest proto/python/lookalike/vector_codec.py \
		tools tests benchmarks docs --exclude '^tests/e2e/gallery/'

types-gallery: .venv/ready .venv-gallery/ready
	$(BIN)/mypy --cache-dir .mypy_cache/gallery --python-executable $(GALLERY_BIN)/python --follow-imports silent clients/web tests/e2e/gallery

types-exporter: .venv/ready
	$(BIN)/mypy --cache-dir .mypy_cache/exporter exporter/lookalike_exporter
	MYPYPATH=exporter/tests $(BIN)/mypy --cache-dir .mypy_cache/exporter exporter/tests

define generate_page
(cd proto && ../$(PROTO_BIN)/buf build --as-file-descriptor-set -o -) | $(PROTO_BIN)/python docs/api_page.py $(1)
endef

.PHONY: proto
proto: .venv-proto/ready ## generate the stubs of every language whose tools are here, and docs/api.md, again
	@$(PROTO_BIN)/python proto/generate.py
	@$(call generate_page,docs/api.md)

.PHONY: format
format: .venv/ready ## put the code into the common format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lock
UV_COMPILE = tools/uv.sh pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header $(addprefix --no-emit-package lookalike-,proto server client loadtest)
lock: .venv-uv/ready ## upgrade every lock file to the newest versions
	$(UV_COMPILE) --upgrade tests/requirements.in -o tests/requirements.lock
	$(UV_COMPILE) --upgrade server/pyproject.toml --extra cpu --extra otel -c tests/requirements.lock -o server/requirements.lock
	$(UV_COMPILE) --upgrade server/pyproject.toml --extra gpu --extra otel -c server/requirements.lock -o server/requirements-gpu.lock
	$(UV_COMPILE) --upgrade server/build.in -c tests/requirements.lock -o server/build.lock
	$(UV_COMPILE) --upgrade tools/uv.in -o tools/uv.lock
	$(UV_COMPILE) --upgrade proto/requirements.in -o proto/requirements.lock
	$(UV_COMPILE) --upgrade tests/e2e/triton/requirements.in -o tests/e2e/triton/requirements.lock
	for at in benchmarks benchmarks/catalog benchmarks/peers/mosec benchmarks/peers/pytriton benchmarks/peers/ray clients/web tools; do \
		$(UV_COMPILE) --upgrade $$at/requirements.in -o $$at/requirements.lock; done
	$(UV_COMPILE) --upgrade exporter/pyproject.toml --extra test -o exporter/requirements.lock

##@ Clients

GO := clients/go

# All with -trimpath, or gRPC would be compiled twice.
.PHONY: client-go
client-go: ## build the Go tour from generated stubs
	@go -C $(GO) list -m > /dev/null 2>&1 || { echo "client-go: Go 1.26 or newer is needed" >&2; exit 1; }
	@unformatted=$$("$$(go -C $(GO) env GOROOT)/bin/gofmt" -l $(GO)); test -z "$$unformatted" || { \
		echo "client-go: gofmt would change" $$unformatted >&2; exit 1; }
	@go -C $(GO) vet -trimpath ./...
	@log=$$(go -C $(GO) test -trimpath -timeout 2m ./... 2>&1) || { echo "$$log" >&2; exit 1; }
	@go -C $(GO) build -trimpath -o bin/ ./cmd/tour
	@echo "client-go: built; $(GO)/bin/tour --help"

TYPESCRIPT := clients/typescript

.PHONY: client-typescript
client-typescript: $(TYPESCRIPT)/dist/ready ## build the TypeScript tour from generated stubs
	@echo "client-typescript: built; node $(TYPESCRIPT)/dist/tour.js --help"

$(TYPESCRIPT)/node_modules/ready: $(TYPESCRIPT)/package-lock.json
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2> /dev/null && command -v npm > /dev/null || { \
		echo "client-typescript: Node.js 20 or newer with npm is needed" >&2; exit 1; }
	@echo "setup: $(TYPESCRIPT)/node_modules (gRPC, the compiler, the stubs' generator)"
	@cd $(TYPESCRIPT) && npm ci --silent || npm ci
	@touch $@

$(TYPESCRIPT)/dist/ready: $(TYPESCRIPT)/node_modules/ready $(TYPESCRIPT)/tsconfig.json \
		$(wildcard $(addprefix $(TYPESCRIPT)/src/,*.ts gen/*/*/*.ts))
	@cd $(TYPESCRIPT) && rm -rf dist && node_modules/.bin/tsc && node_modules/.bin/prettier --check --log-level warn src
	@cd $(TYPESCRIPT) && log=$$(node --test dist/*.test.js 2>&1) || { echo "$$log" >&2; exit 1; }
	@touch $@

JAVA := clients/java

.PHONY: client-java
client-java: $(JAVA)/target/ready ## build the Java tour from generated stubs
	@echo "client-java: built; java -jar $(JAVA)/target/tour.jar --help"

$(JAVA)/target/ready: $(JAVA)/pom.xml $(JAVA)/service_config.json $(PROTOS) \
		$(wildcard $(addprefix $(JAVA)/src/,$(addsuffix /java/example/lookalike/tour/*.java,main test)))
	@command -v mvn javac > /dev/null && [ "$$(javac --version | grep -oE '[0-9]+' | head -1)" -ge 17 ] || { \
		echo "client-java: a JDK of Java 17 or newer and Maven 3.8 or newer are needed" >&2; exit 1; }
	@log=$$(mvn -B -ntp -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -f $(JAVA)/pom.xml package 2>&1) || { echo "$$log" >&2; exit 1; }
	@touch $@

##@ Release

# Without --no-cache-dir pip may take an hnswlib that was compiled for another processor.
.PHONY: dependency-wheels
dependency-wheels:
	$(PYTHON) -m venv .venv-build
	.venv-build/bin/$(PIP_INSTALL) --require-hashes -r server/build.lock
	$(HNSWLIB_BUILD) .venv-build/bin/python -m pip wheel --quiet --no-cache-dir --require-hashes \
		--no-build-isolation --wheel-dir dist/wheels -r server/requirements$(EXTRA:%=-%).lock

.PHONY: server-wheels
server-wheels: dependency-wheels own-wheels ## build the server's wheels and all it needs into dist/wheels, for this kind of processor in general (EXTRA=gpu)

.PHONY: own-wheels
own-wheels: $(filter dependency-wheels,$(MAKECMDGOALS))
	.venv-build/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist/wheels ./proto/python ./server

# Into WHEELS, beside wheels of ours: who installs them needs no compiler then.
.PHONY: hnswlib-wheel
hnswlib-wheel: ## compile hnswlib's wheel for PYTHON into WHEELS (dist/wheels)
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(PYTHON) -m venv $$folder/build; \
	$$folder/build/bin/$(PIP_INSTALL) --require-hashes -r server/build.lock; \
	sed -n '/^hnswlib==/,/[^\]$$/p' server/requirements.lock > $$folder/hnswlib.lock; \
	$(HNSWLIB_BUILD) $$folder/build/bin/python -m pip wheel --quiet --no-cache-dir --require-hashes --no-deps \
		--no-build-isolation --wheel-dir $(or $(WHEELS),dist/wheels) -r $$folder/hnswlib.lock

.PHONY: wheels
wheels: server-wheels ## build the wheels of server and client, and all the server needs, into dist/wheels (EXTRA=gpu)
	.venv-build/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist/wheels \
		./clients/python ./clients/loadtest

# A docker without its daemon counts as none. Podman's own format would drop HEALTHCHECK.
CONTAINERS = $(if $(shell docker info > /dev/null 2>&1 && echo found),docker,podman)
IMAGE ?=

.PHONY: image
image: .venv-release/ready ## build the container image, by docker or else podman, with a bill of materials (IMAGE="--build-arg RUNTIME=gpu")
	$(CONTAINERS) build $(if $(filter podman,$(CONTAINERS)),--format docker) --tag lookalike-server:local \
		--label org.opencontainers.image.version=$$(cat VERSION) $(IMAGE) .
	$(RELEASE_BIN)/python -m tools.sbom image lookalike-server:local dist/image/lookalike-server.cdx.json $(CONTAINERS)

.PHONY: image-test
image-test: .venv/ready .venv-release/ready models/default/model.json ## build the image, on Debian's packages where no registry is reached, and use it in every way
	$(BIN)/python -m pytest -q --timeout 3600 tests/image $(PYTEST)

.PHONY: release
release: .venv-release/ready .venv/ready ## build wheels and sdists of every distribution into dist/release, use them on every Python that is here, and list what they are made of
	$(RELEASE_BIN)/python -m tools.release

.PHONY: audit
audit: .venv-release/ready ## ask for known vulnerabilities of every locked package; exit status 69 where that cannot be asked
	$(RELEASE_BIN)/python -m tools.audit

.PHONY: licenses
licenses: .venv-release/ready ## write docs/licenses.md again, after a change of the lock files
	$(RELEASE_BIN)/python -m tools.licenses

.venv-release/ready: tools/requirements.lock | .venv-uv/ready
	@echo "setup: .venv-release (build, twine, bills of materials, audit)"
	@$(PYTHON) -m venv .venv-release
	@$(UV_INSTALL) .venv-release --require-hashes -r tools/requirements.lock
	@touch $@

.PHONY: ci
ci: lint test-all ## run what CI runs

.PHONY: hooks
hooks: .venv/ready ## check every commit with make lint
	$(BIN)/pre-commit install

.PHONY: clean
clean: ## remove the environments and caches (models and data stay)
	rm -rf .venv .venv-* .tools dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage*
	rm -rf $(GO)/bin $(TYPESCRIPT)/node_modules $(TYPESCRIPT)/dist $(JAVA)/target
