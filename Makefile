# Parley: `make demo` starts it, `make test` tests it. Everything is installed into .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
RUN := .venv/bin/python -m
# Several trainings share the cores in tests; threads that spin while waiting would slow each other down.
export OMP_WAIT_POLICY ?= PASSIVE
# pytest caches rewritten tests as bytecode; without the cache every process spends seven seconds on them.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo up test test-image test-cluster check bench bench-peers demo-model setup setup-dev system clients clients-more clean

help:            ## show this list
	@grep -E '^[a-z-]+: .*##|^[a-z-]+:  +##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: setup      ## install, start Parley with the demo's models, print the addresses (BASE=Qwen/Qwen3-0.6B: on this base)
	@exec .venv/bin/parley demo $(if $(BASE),--base "$(BASE)")

up: setup        ## install and start Parley without the demo
	@exec .venv/bin/parley up

test: setup-dev system clients ## all tests, with real vLLM engines, browser, PostgreSQL and SDKs
	$(RUN) pytest -q -n 3 --dist loadfile --no-loadscope-reorder -m "not engine and not browser"
	$(RUN) pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "engine or browser"

check: setup-dev ## format, lint, types and the fast tests
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) pyrefly check --summary=none
	$(RUN) pytest -q -n 2 -m "not engine and not browser and not training and not long"

bench: setup-dev ## every benchmark that this machine can run
	$(RUN) bench

bench-peers: setup-dev ## install the other gateways that bench.gateway measures
	@.venv/bin/python deploy/peers.py

demo-model: setup ## rebuild and measure the demo's models (ONLY=support-tools: one adapter, on the base that is there)
	$(RUN) train.demo $(if $(ONLY),--only "$(ONLY)")
	$(RUN) bench.demo_model

setup:           ## install Parley into .venv
	@$(PYTHON) deploy/install.py

setup-dev:       ## also install the developer tools
	@$(PYTHON) deploy/install.py --dev

system:          ## install what the tests need: Chromium, PostgreSQL and npm
	@sh deploy/system.sh

clients: setup-dev system  ## install the SDKs that the tests run against Parley
	@.venv/bin/python deploy/clients.py

clients-more: clients  ## also lm-evaluation-harness (650 MB) and llama-index (290 MB), and their tests with a real engine
	@.venv/bin/python deploy/clients.py --more
	$(RUN) pytest -q tests/clients/test_engine_clients.py -k "harness or llama_index"

test-image:      ## build the CPU image and check its container: needs root, buildah and 20 GB of disk
	@if [ "$$(id -u)" = 0 ] && command -v buildah >/dev/null; then \
		sh deploy/build_image.sh cpu && python3 deploy/check_image.py cpu; \
	else \
		echo "skipped: building an image needs root and buildah (Debian: apt-get install buildah debootstrap)"; \
	fi

test-cluster: setup-dev ## engines on a Ray cluster of two nodes on this machine
	@.venv/bin/python deploy/cluster.py
	.ray/bin/python -m pytest -q tests/cluster

clean:           ## remove the environment and caches; PARLEY_HOME stays
	rm -rf .venv .venv-install.log .image-build.log .clients .peers .ray .pytest_cache .ruff_cache .hypothesis .demo-build build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
