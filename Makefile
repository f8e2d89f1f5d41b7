# Parley: `make demo` shows it, `make test` proves it. Everything is installed into .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
RUN := .venv/bin/python -m
# Trainings of two test processes on two cores: threads that spin while they wait would take the cores from each other.
export OMP_WAIT_POLICY ?= PASSIVE
# pytest keeps the tests that it has rewritten: without them every process spends seven seconds on that alone.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo up test check bench bench-peers demo-model setup setup-dev system clients clients-more clean

help:            ## this list
	@grep -E '^[a-z-]+: .*##|^[a-z-]+:  +##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: setup      ## set up, start everything with the demo's models, print the addresses
	@exec .venv/bin/parley demo

up: setup        ## the same without the demo's content
	@exec .venv/bin/parley up

test: setup-dev system clients ## all tests: real vLLM engines, a real browser, a real PostgreSQL, real SDKs
	$(RUN) pytest -q -n 3 --dist loadfile --no-loadscope-reorder -m "not engine and not browser"
	$(RUN) pytest -q -m "engine or browser"

check: setup-dev ## format, lint, types and the fast tests: two minutes on 4 cores
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) pyrefly check --summary=none
	$(RUN) pytest -q -n auto -m "not engine and not browser and not training and not long"

bench: setup-dev ## every benchmark of bench/ that this machine can run
	$(RUN) bench

bench-peers: setup-dev ## the gateways that bench.gateway measures beside ours, each in an environment of its own
	@.venv/bin/python deploy/peers.py

demo-model: setup ## rebuild the demo's models from text to metrics
	$(RUN) train.demo
	$(RUN) bench.demo_model

setup:           ## the environment in .venv
	@$(PYTHON) deploy/install.py

setup-dev:       ## the environment with the developer's tools
	@$(PYTHON) deploy/install.py --dev

system:          ## what the tests need of the system: Chromium, PostgreSQL and npm
	@sh deploy/system.sh

clients: setup-dev system  ## the SDKs that the tests run against Parley, each in an environment of its own
	@.venv/bin/python deploy/clients.py

clients-more: clients  ## lm-evaluation-harness too (650 MB), and its run against a real engine
	@.venv/bin/python deploy/clients.py --more
	$(RUN) pytest -q tests/clients/test_engine_clients.py -k harness

clean:           ## remove the environment and what tools leave behind; PARLEY_HOME stays
	rm -rf .venv .venv-install.log .clients .peers .pytest_cache .ruff_cache .hypothesis .demo-build build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
