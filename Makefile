# Every command first brings .venv up to date; see infra/setup/environment.sh. PYTHON=... names the interpreter to use.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
export PYTHON

# Read by the libraries before any code of ours runs. token: no Ray cluster of ours takes jobs from strangers.
RAY_AUTH_MODE ?= token
RAY_USAGE_STATS_ENABLED ?= 0
MLFLOW_DISABLE_TELEMETRY ?= true
DVC_NO_ANALYTICS ?= 1
DO_NOT_TRACK ?= 1
export RAY_AUTH_MODE RAY_USAGE_STATS_ENABLED MLFLOW_DISABLE_TELEMETRY DVC_NO_ANALYTICS DO_NOT_TRACK

.DEFAULT_GOAL := help
.PHONY: help run test lint ui clean distclean repository environment lock

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: repository environment ## the whole pipeline: data, training, evaluation, registry, generation, report (ARGS= for dvc repro)
	@PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/dvc repro $(ARGS)
	@.venv/bin/langevin summary pipelines/recipes/ddpm-digits.yaml

test: environment ## the tests, without the markers slow, cluster and gpu (ARGS= for pytest)
	@OMP_NUM_THREADS=1 .venv/bin/pytest -n auto --dist loadgroup $(ARGS)

lint: environment ## format, style, types and import rules; changes nothing
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

ui: environment ## the MLflow UI, on this machine only
	@.venv/bin/langevin ui $(ARGS)

repository:
	@git rev-parse --git-dir >/dev/null || { \
		echo "langevin: DVC works in a git repository: install git and clone this project, or say git init here" >&2; exit 1; }

environment: ## .venv alone, built or brought up to date
	@infra/setup/environment.sh

lock: ## pin in requirements.lock what .venv holds now (builds nothing: install and test first, see CONTRIBUTING.md)
	@{ grep '^#' requirements.lock; .venv/bin/pip freeze --all --exclude-editable --exclude pip | sed 's/+.*//'; } \
		> .venv/requirements.lock
	@mv .venv/requirements.lock requirements.lock

clean: ## remove what the pipeline made (runs, tracking, outputs); keeps .venv and the data in .dvc/cache
	rm -rf runs out mlflow dvc_plots .dvc/tmp .dvc/cache/runs

distclean: clean ## also remove .venv, .dvc/cache and every tool's cache
	rm -rf .venv .dvc/cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
