# `make demo` and `make test` do all their own set-up; nothing else has to be installed first
# but Python 3.11 or later with venv, and Go for the real control plane that the tests start.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help demo test check lint testbed bench bench-cluster docs clean
help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@

demo: $(INSTALLED) ## the whole loop on a simulated fleet, a day of load; writes out/demo.png
	@mkdir -p out
	$(BIN)/controlloop demo --plot out/demo.png

test: lint testbed ## everything: linters, types, layers, all tests on real components
	$(BIN)/pytest -n 2 --dist loadfile -m 'not cluster'
	@# Mostly waiting, so three at once. Real programs race on two cores: what fails is tried once more and named.
	$(BIN)/pytest -n 3 --dist loadfile -m cluster --reruns 1 -rfER

check: lint ## the quick part, under a minute
	$(BIN)/pytest -n 2 --dist loadfile -q -m 'not slow and not cluster'

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

testbed: $(INSTALLED) ## builds what the cluster tests start, once a machine
	@# Without Go the cluster tests skip and say so; with CI=true they fail.
	$(BIN)/python tests/cluster/testbed/build.py || [ "$$CI" != true ]

bench: $(INSTALLED) ## what the optimizer costs and how it grows, beside its targets
	@mkdir -p out
	$(BIN)/python tests/benchmarks/bench.py --output out/bench.json

bench-cluster: $(INSTALLED) testbed ## what a cycle costs on a real control plane, 1,000 Deployments
	@mkdir -p out
	$(BIN)/python tests/benchmarks/bench_cluster.py --output out/bench-cluster.json

docs: $(INSTALLED) ## writes what is generated: pages, pictures, manifests
	$(BIN)/python scripts/generate_docs.py
	$(BIN)/python scripts/make_examples.py
	$(BIN)/python scripts/make_dashboard.py
	$(BIN)/controlloop crds > deploy/overlays/controller/crds.yaml

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache out
