# make study: environment, data, training, attacks, report of `digits`.   make test, make test-scale: the same set-up, then checks.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# nothing we start calls home
export DVC_NO_ANALYTICS := true
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true

STUDY ?= digits
POSTGRESQL := $(or $(shell command -v initdb),$(wildcard /usr/lib/postgresql/*/bin/initdb))

.PHONY: help setup study studies test test-oldest test-scale test-stacks postgresql bench data-fashion search format ui docs audit lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

study: setup  ## run one study and print where its report is: make study STUDY=diabetes (default: digits)
	@python -m pipeline run --write $(STUDY)
	@dvc repro $(addprefix report@,$(STUDY)) >/dev/null  # its list of stages; what it has to say is on stderr
	@python -m pipeline where $(STUDY)

studies: setup  ## run all studies of params.yaml
	@$(MAKE) --no-print-directory study STUDY=

test: setup  ## formatter, linter, type checker and all tests
	@ruff format --check .
	@ruff check .
	@mypy
	@python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-scale: setup .venv/scale postgresql  ## the tests that need Ray and PostgreSQL: installs both, then runs them
	@python -m pytest -m scale

test-stacks: setup .venv/stacks  ## the tests with Lightning, transformers and the like: installs them, then runs them
	@python -m pytest -m stacks

test-oldest: .venv/oldest/installed  ## the library's tests with the oldest torch that pyproject.toml allows (some GB)
	@.venv/oldest/bin/python -m pytest -m 'not scale and not stacks and not compiles' --ignore tests/inputgrad/test_wheel.py tests/inputgrad

bench: setup  ## measure what benchmarks/bench.py lists, about an hour on two quiet cores: benchmarks/results.md
	@python -m benchmarks.bench

data-fashion:  ## fetch Debian's package of Fashion-MNIST into data/debian, without installing it
	@command -v apt-get dpkg-deb >/dev/null || { echo "error: this needs apt-get and dpkg-deb; fix: name a folder with the files, data: {name: fashion_mnist, folder: PATH}" >&2; exit 2; }
	@mkdir -p data/debian && cd data/debian && apt-get -q download dataset-fashion-mnist && dpkg-deb -x dataset-fashion-mnist_*.deb . && rm dataset-fashion-mnist_*.deb

search: setup  ## search a loss's strength: make search STUDY=digits LOSS=gradient_norm (no LOSS: all of them)
	@python -m pipeline search $(STUDY) $(or $(LOSS),--all) $(OPTIONS)

format: setup  ## format the code and fix what the linter can
	@ruff format .
	@ruff check --fix .

ui: setup  ## open MLflow on 127.0.0.1:5000 (PORT=5001 for another port)
	@python -m pipeline ui --port $(or $(PORT),5000)

docs: setup .venv/docs  ## build the documentation as a site: docs/_build/html
	@sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build/html
	@echo "docs: file://$(CURDIR)/docs/_build/html/index.html"

audit: setup  ## look the pinned packages up among known vulnerabilities (asks a server on the network)
	@uv tool run --quiet pip-audit --strict --disable-pip --no-deps --requirement requirements.txt

setup: .venv/command  ## make the environment (done by every other target)

# HASHES=1: a package whose file is not the one that was pinned is refused
PINNED := $(if $(HASHES),--require-hashes --requirement requirements-hashes.txt,--requirement requirements.txt)

# uv links files from its cache; bytecode is compiled now, since some machines forbid writing it later
.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "error: Python 3.11 or newer is needed; fix: make PYTHON=python3.12 setup")'
	@echo 'making .venv (about a minute the first time)'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode $(PINNED)
	@touch $@

# the command inputgrad; its code is that of this folder, and nothing is downloaded
.venv/command: .venv/installed
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --offline --editable .
	@touch $@

.venv/docs: .venv/installed requirements-docs.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --requirement requirements-docs.txt
	@touch $@

# what the library and its tests ask for, all of it as new as this torch allows
.venv/oldest/installed: .venv/installed pyproject.toml
	@$(BIN)/python -m venv --clear .venv/oldest
	@$(BIN)/uv pip install --quiet --python .venv/oldest/bin/python --requirement pyproject.toml --all-extras pytest \
	  "torch==$$(sed -nE 's/^dependencies = .*"torch>=([0-9.]+)".*/\1/p' pyproject.toml).*"
	@touch $@

.venv/scale: .venv/installed requirements-scale.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --requirement requirements-scale.txt
	@touch $@

.venv/stacks: .venv/installed requirements-stacks.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --requirement requirements-stacks.txt
	@touch $@

postgresql:
ifeq ($(POSTGRESQL),)
	@test "$$(id -u)" = 0 && { apt-get update && apt-get install --yes --no-install-recommends postgresql; } >/dev/null || \
	  { echo "error: PostgreSQL is not installed; fix: install Debian's package postgresql, as root" >&2; exit 2; }
endif

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header

lock: setup  ## pin every requirements*.in exactly into its .txt; requirements.in also with hashes
	@$(COMPILE) requirements.in -o requirements.txt
	@$(COMPILE) --generate-hashes --constraint requirements.txt requirements.in -o requirements-hashes.txt
	@for part in scale stacks docs; do $(COMPILE) --constraint requirements.txt requirements-$$part.in -o requirements-$$part.txt || exit; done

clean:  ## delete results, states and the MLflow database (DVC's cache stays)
	@rm -rf .state mlflow.db* mlartifacts experiments/*/
