# Needs only make and Python >= 3.11: every target first sets up what it uses, once, in .venv.
#
# Why pip installs and uv only locks: pip follows the machine's own configuration (mirror, proxy, certificates, offline
# folder); `uv sync` ignores pip's configuration and fetches from the addresses written in uv.lock, which a machine
# behind a mirror cannot reach. So uv.lock decides the versions, requirements/*.txt restates it as names, versions and
# hashes without any address, and pip refuses whatever does not match. `make locks` proves that the two agree.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test check lint format types layers locks lock tests test-pythons shape bench clean

BIN := .venv/bin
PIP_INSTALL := -m pip -qq --disable-pip-version-check install
PYTHONS := 3.12 3.13

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 14

setup: .venv/dev.stamp .venv/perdure.stamp ## everything a developer needs, in .venv

demo: .venv/perdure.stamp ## the demo: an agent on real files, killed half-way (ARGS=--yes to approve by itself)
	@$(BIN)/python -m perdure demo $(ARGS)

test: .venv/test.stamp .venv/perdure.stamp ## the quick tests (ARGS="-k name" and the like go to pytest)
	@$(BIN)/python -m pytest -m "not slow" $(ARGS)

check: lint types layers locks test-pythons tests ## the whole gate
	@echo "make check: all passed"

tests: .venv/test.stamp .venv/perdure.stamp ## all tests: also kills, power cuts, simulator seeds, examples of the docs
	@$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: .venv/dev.stamp ## ruff: rules and format
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

format: .venv/dev.stamp ## let ruff mend what it can
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

types: .venv/dev.stamp ## mypy, strict
	@$(BIN)/mypy

layers: .venv/dev.stamp .venv/perdure.stamp ## import-linter: who may import whom
	@$(BIN)/lint-imports

test-pythons: $(PYTHONS:%=test-python-%) ## the journal's tests on the other Pythons of this machine

test-python-%:
	@if sh tools/python.sh $* >/dev/null 2>&1; \
	then $(MAKE) --no-print-directory .venv-$*/test.stamp && \
	    .venv-$*/bin/python -m pytest -p no:cacheprovider tests/unit/journal; \
	else echo "Python $* is not on this machine: its tests are skipped."; fi

bench: .venv/perdure.stamp ## the workloads of docs/benchmarks.md (ARGS=--quick)
	@$(BIN)/python -m perdure bench $(ARGS)

shape: ## the numbers that show drift: lengths, comments, docstrings, exports, hidden imports
	@python=$$(sh tools/python.sh) && "$$python" tools/shape.py

clean: ## remove what make made
	rm -rf .venv .venv-* .*_cache .hypothesis build dist

# --- Locked versions ---------------------------------------------------------------------------------------------

UV := $(BIN)/uv --no-config --quiet
EXPORT = $(UV) export --locked --offline --no-emit-project --no-header --no-annotate --no-default-groups

lock: .venv/dev.stamp ## after a change of dependencies (ARGS=--upgrade for newer versions)
	@$(UV) lock --default-index https://pypi.org/simple $(ARGS)
	@$(call export,requirements)

locks: .venv/dev.stamp ## is uv.lock what pyproject.toml asks for, and requirements/ what uv.lock says?
	@mkdir -p .venv/requirements
	@$(call export,.venv/requirements) && diff -r requirements .venv/requirements || \
	    { echo "uv.lock or requirements/ is stale: run make lock and commit them." >&2; exit 1; }

export = $(EXPORT) --group build --output-file $(1)/run.txt >/dev/null && \
	    $(EXPORT) --group build --group test --output-file $(1)/unit.txt >/dev/null && \
	    $(EXPORT) --group build --group test --group cluster --group web --output-file $(1)/test.txt >/dev/null && \
	    $(EXPORT) --group dev --output-file $(1)/dev.txt >/dev/null

# --- Set-up: a stamp for each step that is done; a changed lock starts afresh, so nothing old lingers --------------

.venv/run.stamp: requirements/run.txt
	@echo "Setting up .venv (once, well under a minute) ..." >&2
	@python=$$(sh tools/python.sh) && "$$python" -m venv --clear .venv
	@$(BIN)/python $(PIP_INSTALL) --require-hashes -r $<
	@touch $@

.venv/test.stamp: requirements/test.txt .venv/run.stamp
	@$(BIN)/python $(PIP_INSTALL) --require-hashes -r $<
	@touch $@

.venv/dev.stamp: requirements/dev.txt .venv/test.stamp
	@$(BIN)/python $(PIP_INSTALL) --require-hashes -r $<
	@touch $@

.venv/perdure.stamp: pyproject.toml .venv/run.stamp
	@$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(PYTHONS:%=.venv-%/test.stamp): .venv-%/test.stamp: requirements/unit.txt
	@echo "Setting up .venv-$* (once) ..." >&2
	@python=$$(sh tools/python.sh $*) && "$$python" -m venv --clear .venv-$*
	@.venv-$*/bin/python $(PIP_INSTALL) --require-hashes -r $<
	@touch $@
