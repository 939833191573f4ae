# Every target sets up what it needs, and no more: a virtual environment in .venv, a build of kvsync in it, packages.
# What is set up is recorded in stamp files in .venv, so it is not done again until pyproject.toml or the sources change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUST := $(shell find rust -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock
WORKERS ?= 2

FORGERIES ?= 10000
HISTORIES ?= 100000

# Each worker gets one half, so that what a module sets up is set up once; who is done first takes from the other one.
# Many tests start Python anew, and what is compiled is kept for them.
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal tests

.PHONY: demo test test-rust test-python test-long test-azure check bench fuzz forge simulate clean

demo: $(VENV)/built
	$(BIN)/kvsync demo

test: test-rust test-python

# Without the examples: each takes as long to link as a file of tests, and `make check` compiles them.
test-rust:
	cargo test --workspace --release --quiet --tests
	cargo test --workspace --release --quiet --doc

test-python: $(VENV)/built $(VENV)/group-test
	$(PYTEST)

# More rounds and histories, and every combination of parameters.
test-long: $(VENV)/built $(VENV)/group-test
	KVSYNC_TEST_LONG=1 $(PYTEST)

test-azure: $(VENV)/built $(VENV)/group-test tests/azure/node_modules
	KVSYNC_TEST_AZURITE=$(CURDIR)/tests/azure/node_modules/.bin/azurite-blob \
		$(BIN)/python -m pytest -q -n $(WORKERS) tests/azure

check: $(VENV)/built $(VENV)/group-check
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --release --quiet -- -D warnings
	$(BIN)/ruff check python tests benches
	$(BIN)/ruff format --check python tests benches
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest kvsync._core

bench: $(VENV)/built $(VENV)/group-bench benches/pouchdb/node_modules
	KVSYNC_BENCH=full $(BIN)/python -m pytest -q -p no:cacheprovider benches

forge: $(VENV)/built
	$(BIN)/python tests/hostile/forge_many.py $(FORGERIES)

simulate: $(VENV)/built
	$(BIN)/python -m kvsync.testing.simulation --histories $(HISTORIES) --seed 1000000 --workers $(WORKERS) \
		--storages dict,bucket,database
	$(BIN)/python -m kvsync.testing.simulation --histories $$(($(HISTORIES) / 100)) --seed 1000000 --workers $(WORKERS) \
		--storages folder,sqlite,dict
	$(BIN)/python tests/model/long_run.py $(HISTORIES) --mixed
	$(BIN)/python tests/simulation/long_run.py $(HISTORIES) 1000000 $(WORKERS)
	$(BIN)/python tests/simulation/long_run.py $(HISTORIES) 1000000 $(WORKERS) --expiring

fuzz:
	cargo run --release --package kvsync-core --example decode_storm -- 10000000

clean:
	rm -rf $(VENV) target python/kvsync/*.so benches/pouchdb/node_modules tests/azure/node_modules

# kvsync itself, with the packages that every user of it needs.
$(VENV)/built: $(VENV)/tools pyproject.toml $(RUST)
	$(BIN)/maturin develop --release --quiet
	touch $@

# A dependency group of pyproject.toml: test, check or bench.
$(VENV)/group-%: $(VENV)/tools pyproject.toml
	$(BIN)/python -m pip install --quiet --group $*
	touch $@

$(VENV)/tools:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1' 'maturin>=1.16,<2'
	touch $@

benches/pouchdb/node_modules: benches/pouchdb/package-lock.json
	cd benches/pouchdb && npm ci --silent --no-audit --no-fund

tests/azure/node_modules: tests/azure/package-lock.json
	cd tests/azure && npm ci --silent --no-audit --no-fund
