# Every target that needs the set-up does it first; when nothing is to be done that takes 0.1 s.
SHELL := bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: help setup setup-bench demo test test-fast test-slow check lock serve sql notebook mlflow regold clean

ARGS ?=
PYTEST := .venv/bin/python -m pytest $(ARGS)
with_java := JAVA_HOME="$$(deploy/setup/find-java.sh)" && export JAVA_HOME &&

# Two Spark tasks or two Horovod processes at a time, one thread each: the results of a run do not then
# depend on how many cores it finds, and the processes do not fight over two of them.
test test-fast test-slow regold: export OMP_NUM_THREADS := 1
test test-fast test-slow regold: export OPENBLAS_NUM_THREADS := 1
test test-fast test-slow regold: export MKL_NUM_THREADS := 1

help: ## this list
	@awk -F ':[^#]*## ' '/^[a-z%-]+:.*## / {printf "make %-10s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## what all others need: Python packages, Horovod, Delta's JARs (5 minutes once, 0.1 s afterwards)
	@deploy/setup/setup.sh

setup-bench: setup ## what benchmarks measure with, beside the set-up: wrk and redis-server from Debian, faiss from PyPI
	@deploy/setup/check-machine.sh bench-packages.txt
	@deploy/setup/bench-python.sh

demo: setup ## the main job on a year of a real shop; ends with recommendations on the screen
	./spark-submit.sh run_pipeline --env local --run-date 2010-12-10 --bootstrap
	@.venv/bin/recsys demo-report

test: setup ## all tests but the long sweeps and those that need a GPU (ARGS="-k name" for some of them)
	@$(with_java) $(PYTEST) -m "not slow and not gpu"

test-fast: setup ## the tests that start neither a JVM nor Horovod; under a minute
	@$(PYTEST) -m "not spark and not horovod and not slow and not gpu"

test-slow: setup ## the long sweeps
	@$(with_java) $(PYTEST) -m "slow and not gpu"

check: setup ## style, types, layers; under a minute
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

serve: setup ## the lookup service over the published release
	@.venv/bin/recsys serve $(ARGS)

# The query goes by the environment, as it was typed: neither make nor the shell reads it.
sql: export SQL_QUERY := $(value Q)
sql: setup ## DuckDB over the tables; make sql Q="select ..." prints a result
	@.venv/bin/recsys sql $${SQL_QUERY:+"$$SQL_QUERY"}

NOTEBOOK ?= var/notebooks/first_look.ipynb
notebook: setup ## run notebooks/first_look, result in var/notebooks/first_look.ipynb
	@mkdir -p $(dir $(NOTEBOOK))
	.venv/bin/jupytext --to ipynb --output $(NOTEBOOK) notebooks/first_look.py
	.venv/bin/jupyter-execute --inplace $(NOTEBOOK)

ENV ?= local
mlflow: setup ## MLflow's UI over the training runs (ENV=local) on 127.0.0.1:5000; the first time downloads 250 MB
	@deploy/setup/mlflow.sh $(ENV)

bench-%: setup ## run benchmarks/NAME.py
	@test -f benchmarks/$*.py || { echo "no benchmarks/$*.py; there are: $$(cd benchmarks 2>/dev/null && ls *.py 2>/dev/null | sed 's/\.py$$//' | xargs)" >&2; exit 2; }
	$(with_java) .venv/bin/python -m benchmarks.$* $(ARGS)

regold: setup ## rewrite the golden files; the diff is what gets reviewed
	@$(with_java) REGOLD=1 $(PYTEST) -m golden

lock: setup ## resolve setup.py into deploy/setup/requirements.lock (ARGS=--upgrade: newest versions)
	@deploy/setup/lock.sh $(ARGS)

clean: ## remove caches of the tools; .venv, .cache (downloads) and var (tables, releases) stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache spark-warehouse metastore_db derby.log build dist
	find recsys jobs tests -name __pycache__ -type d -prune -exec rm -rf {} +
