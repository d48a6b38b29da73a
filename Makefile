# Sets up, demonstrates, tests and checks everything here: make demo, make test, make lint, make bench.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
# Where Debian puts servers, and rustup what it installs.
export PATH := $(PATH):/usr/sbin:$(HOME)/.cargo/bin
# pip brings uv, which brings the rest in a tenth of the time.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
INSTALL = $(BIN)/uv pip install -q --python $(BIN)/python

PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
# Everything a package is built from, but its modules, which an editable installation uses in place.
sources = $(shell find $(1) \( -name build -o -name target -o -name tests -o -name '.*' \) -prune \
	-o -type f \( -name '*.[chS]' -o -name '*.lds' -o -name '*.version' -o -name '*.def' -o -name '*.rs' \
	-o -name '*.toml' -o -name 'Cargo.lock' -o -name Makefile -o -name 'build_*.py' \) -print)
CRATES := $(wildcard plugins/*/rust/Cargo.toml)
TYPED = hyperlight_core tests vmm_c guests benchmarks examples/states examples/demo/demo.py setup.py \
	noxfile.py $(PLUGINS)
C_SOURCES = $(shell git ls-files -co --exclude-standard '*.c' '*.h')

# Installations share one environment, and test runs one machine.
.NOTPARALLEL:
.PHONY: help setup prerequisites demo test test-prerequisites test-rust test-alone \
	test-together test-amdv load storm leaks race fuzz fuzz-fs bench plot \
	lint lint-python lint-types lint-c lint-rust lint-docs format clean
help:
	@echo 'make demo    set up and run the demo'
	@echo 'make test    set up and run every test of every package'
	@echo 'make test-amdv  run the guest tests on a second KVM, emulated'
	@echo 'make lint    check style, types and generated files'
	@echo 'make format  put the sources into the common style'
	@echo 'make load    keep 200 connections of eight guests busy for 30 s, or SECONDS=N'
	@echo 'make fuzz    fuzz the helper for ten minutes each way, or SECONDS=N'
	@echo 'make storm   kill guests from a hundred threads'
	@echo 'make race    race renames and links against hl-fs for a minute, or SECONDS=N'
	@echo 'make fuzz-fs fuzz hl-fs for ten minutes each way, or SECONDS=N; needs cargo-fuzz and nightly'
	@echo 'make bench   measure, and write benchmarks/results.json'
	@echo 'make plot    draw them for docs/performance.md'
	@echo 'make clean   remove everything that was built'

# ---- setting up ------------------------------------------------------------------------------------
setup: $(STAMPS)/core $(PLUGINS:plugins/%=$(STAMPS)/%)

prerequisites:
	@$(PYTHON) -I hyperlight_core/prerequisites.py

$(STAMPS)/venv: pyproject.toml | prerequisites
	@echo 'Making $(VENV)'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q uv
	@$(INSTALL) --group dev
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/core: $(STAMPS)/venv setup.py $(call sources,vmm_c guests)
	@echo 'Building hyperlight-core'
	@$(INSTALL) -e '.[cli]'
	@touch $@

# It needs the other, which no index has yet.
$(STAMPS)/hl_mcp: $(STAMPS)/hl_python

# Reads the plugin's own files, so this second expansion needs the stem.
.SECONDEXPANSION:
$(STAMPS)/%: $(STAMPS)/venv plugins/%/pyproject.toml $$(call sources,plugins/$$*) \
		| $(STAMPS)/core
	@echo 'Building $*'
	@$(INSTALL) -e plugins/$* --group plugins/$*/pyproject.toml:test
	@touch $@

# ---- demonstrating and measuring -------------------------------------------------------------------
demo: setup
	@$(BIN)/python examples/demo/demo.py

bench: setup test-prerequisites
	@$(BIN)/python benchmarks/run.py

# The picture of docs/performance.md, from the last results.
plot: setup
	@$(BIN)/python benchmarks/plot.py docs/performance.svg

# ---- testing: the packages together come last, so that their summary ends the output ---------------
test: test-prerequisites test-rust test-alone test-together

test-prerequisites:
	@$(PYTHON) -I hyperlight_core/prerequisites.py --test

test-rust:
	@for manifest in $(CRATES); do \
		cargo test --quiet --locked --manifest-path $$manifest || exit 1; \
	done

# Every package with nothing but core beside it, from its wheel, in an environment of its own.
test-alone: setup
	$(BIN)/nox

test-together: setup
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder tests/test_plugin_tutorial.py guests tests \
		--ignore tests/core

# A hundred threads with a hundred kills each, while 500 calls are made.
storm: setup
	HL_STORM=long $(BIN)/pytest -k storm tests/test_vmm_c.py tests/core/test_kill.py

# 200 connections of eight guests for so many seconds, of which `make test` has a short form.
load: setup
	HL_LOAD_SECONDS=$(or $(SECONDS),30) $(BIN)/pytest tests/network/test_load.py

# Sixteen threads; the tests do the same for five seconds.
race:
	HL_FS_RACE_SECONDS=$(or $(SECONDS),60) cargo test --release --locked \
		--manifest-path plugins/hl_fs/rust/Cargo.toml --test race -- --nocapture

# What they find stays in plugins/hl_fs/fuzz/artifacts.
fuzz-fs:
	cd plugins/hl_fs/rust && for target in paths operations; do \
		cargo +nightly fuzz run --fuzz-dir ../fuzz $$target -- -max_total_time=$(or $(SECONDS),600) \
			|| exit 1; \
	done

# 10,000 sandboxes and 100,000 resets, after which nothing may have grown.
leaks: setup
	HL_LEAKS=long $(BIN)/pytest tests/core/test_leaks.py

# Each of the helper's fuzzers for so many seconds; what they find stays in vmm_c/fuzz/build.
fuzz: test-prerequisites
	$(MAKE) -C vmm_c/fuzz run SECONDS=$(or $(SECONDS),600)

# The guest tests on AMD-V, which QEMU emulates: slow, so apart from the others.
test-amdv: setup
	@$(PYTHON) -I hyperlight_core/prerequisites.py --amdv
	$(MAKE) -s -C vmm_c/tests plain
	$(BIN)/python -m tests.amdv.run

# ---- checking --------------------------------------------------------------------------------------
lint: lint-python lint-types lint-c lint-rust lint-docs

lint-python: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check

lint-types: setup
	$(BIN)/mypy $(TYPED)

lint-c: setup
	$(BIN)/clang-format --dry-run --Werror $(C_SOURCES)

lint-rust:
	@$(PYTHON) -I hyperlight_core/prerequisites.py --lint
	@for manifest in $(CRATES); do \
		cargo fmt --check --manifest-path $$manifest && \
		cargo clippy --quiet --locked --all-targets --manifest-path $$manifest -- -D warnings || exit 1; \
	done

lint-docs: setup
	$(BIN)/python guests/libos/syscall_docs.py --check

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(C_SOURCES)
	@for manifest in $(CRATES); do \
		cargo fmt --manifest-path $$manifest || exit 1; \
	done

clean:
	rm -rf $(VENV) .nox build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	rm -rf hyperlight_core/guests hyperlight_core/_vmm.*.so
	rm -rf $(foreach plugin,$(PLUGINS),$(plugin)/build $(plugin)/src/*.egg-info $(plugin)/rust/target)
	$(MAKE) -C guests/libos clean
	$(MAKE) -C vmm_c/tests clean
	$(MAKE) -C vmm_c/fuzz clean
