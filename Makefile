# Everything runs in .venv, which the first target that needs it builds from requirements.lock.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON := .venv/bin/python
INSTALLED := .venv/.installed
RUNS ?= runs
# make demo FRESH=1 begins with nothing; without it, what an earlier call has done is kept.
FRESH_OPTION = $(if $(FRESH),--fresh)

.PHONY: help setup demo demo-simulated test test-unit test-slow test-flink test-parts test-faults lint format bench bench-pipelines \
  bench-train bench-serving bench-clusters study-lifelong study-untuned compare compare-simulated docs figures clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Build .venv (every target below does so by itself)

$(INSTALLED): requirements.lock setup.py
	@test -w . || { echo "This folder cannot be written, and make setup builds .venv in it: copy the project to a folder of \
	yours (with a .venv that is built, RUNS=elsewhere make demo needs no more)." >&2; exit 1; }
	@# Two at once: the second waits, and then finds everything there.
	@exec 9>.venv.lock; ! command -v flock >/dev/null || flock 9; \
	if [ $@ -nt requirements.lock ] && [ $@ -nt setup.py ]; then exit 0; fi; \
	python=; for name in python3.12 python3.11 python3.10 python3; do \
	  if $$name -c 'import sys, ensurepip, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
	    >/dev/null 2>&1; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "No Python 3.10, 3.11 or 3.12 with venv was found; install one (Debian: apt install python3 python3-venv)." >&2; \
	  exit 1; \
	fi; \
	$(PYTHON) -c 'import pip' >/dev/null 2>&1 || { rm -rf .venv; echo "Building .venv with $$python" >&2; $$python -m venv .venv; } && \
	$(PYTHON) -m pip --disable-pip-version-check install --quiet --progress-bar off --no-deps --require-hashes \
	  -r requirements.lock && \
	$(PYTHON) -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable . && \
	touch $@

demo: $(INSTALLED) ## The main job on The Complete Journey, a year of real purchases: logs to served probabilities
	$(PYTHON) -m twin_tf.experiments.demo --data complete-journey --workdir "$(RUNS)/demo" $(FRESH_OPTION)

demo-simulated: $(INSTALLED) ## The same on simulated logs of a video app
	$(PYTHON) -m twin_tf.experiments.demo --data simulated --workdir "$(RUNS)/demo-simulated" $(FRESH_OPTION)

test: $(INSTALLED) ## All tests but the slow ones, a process a core (10 GB)
	$(PYTHON) -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --durations=25

test-unit: $(INSTALLED) ## Tests without processes, servers, pipelines and trainings
	$(PYTHON) -m pytest -m 'not integration and not slow and not flink and not parts and not faults' --numprocesses auto --dist loadfile

test-slow: $(INSTALLED) ## The slow tests
	$(PYTHON) -m pytest -m slow

test-flink: $(INSTALLED) ## build_examples on a Flink cluster on this machine (needs Java, Maven, Maven Central)
	$(PYTHON) -m pytest -m flink tests/engines/test_flink.py

test-parts: $(INSTALLED) ## TensorFlow-Java, grpcurl, ghz, promtool, kustomize, hadolint, Prism, Spark (needs Go, Java, Maven and their registries)
	$(PYTHON) -m pytest -m parts

test-faults: $(INSTALLED) ## Swaps and killed servers under load, 10,000 malformed requests, kill -9 of every command that writes, mutations of a version (long)
	$(PYTHON) -m pytest -m faults

lint: $(INSTALLED) ## ruff (rules, format) and mypy strict
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

format: $(INSTALLED) ## Let ruff format and fix what it can
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

bench: bench-pipelines bench-train bench-serving bench-clusters ## Every benchmark, one after the other; each also writes benchmarks/out/<name>.json

bench-pipelines: $(INSTALLED) ## Speed, size and memory of build_examples: beside a plain Beam pipeline, at 2,000 shards, on extreme logs (an hour)
	$(PYTHON) -m benchmarks.bench_pipelines

bench-train: $(INSTALLED) ## Speed and memory of training on histories of 256 to 10,000 behaviours (8 minutes on 2 cores)
	$(PYTHON) -m benchmarks.bench_train

bench-serving: $(INSTALLED) ## A request beside its unavoidable parts, a refresh of 1,000,000 items, swaps under load
	$(PYTHON) -m benchmarks.bench_serving
	$(PYTHON) -m benchmarks.bench_refresh
	$(PYTHON) -m benchmarks.serving_faults

bench-clusters: $(INSTALLED) ## Clustering one user's 100,000 and 1,000,000 behaviours beside flat k-means (4 minutes)
	$(PYTHON) -m benchmarks.bench_clusters

study-untuned: $(INSTALLED) ## The defaults on three data sets that nobody tuned for, beside click rates, into runs/untuned (7 minutes)
	$(PYTHON) -m benchmarks.untuned_data --workdir "$(RUNS)/untuned" $(FRESH_OPTION)

study-lifelong: $(INSTALLED) ## TWIN-V2 beside TWIN and an oracle on simulated lives of 100,000 behaviours, into runs/lifelong
	$(PYTHON) -m benchmarks.lifelong_study --workdir "$(RUNS)/lifelong" $(FRESH_OPTION)

compare: $(INSTALLED) ## Every system of the papers on The Complete Journey, into runs/compare
	$(PYTHON) -m twin_tf.cli compare --data complete-journey --output "$(RUNS)/compare" $(FRESH_OPTION) \
	  --also 'SIM Hard by department: search=sim_hard searches.sim_hard.category=department' \
	  --rates 0.5,1 --jobs 2

compare-simulated: $(INSTALLED) ## The same on simulated logs, with what each search finds of the planted interests
	$(PYTHON) -m twin_tf.cli compare --data simulated --output "$(RUNS)/compare-simulated" $(FRESH_OPTION) \
	  --also 'SIM Hard by topic: search=sim_hard searches.sim_hard.category=topic' --rates 0.5,1 --jobs 2

docs: $(INSTALLED) ## Build the documentation as a site, into site/; any warning fails
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

figures: $(INSTALLED) ## Draw the figures of docs/ again
	$(PYTHON) docs/figures/draw.py

clean: ## Remove .venv, caches and build leftovers; runs/ stays
	rm -rf .venv .venv.lock build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
