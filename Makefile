# make demo | test | check | bench: each sets up what it needs first, and only what changed since.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
# Quiet, but errors and warnings show. The bundled pip is recent enough: no self-update.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
# Python files are used from src/ as they are; only these make a new build of the compiled core.
NATIVE := CMakeLists.txt $(shell find csrc -type f)
CPP := $(filter %.cpp %.hpp,$(NATIVE))
AARCH64_CXX ?= aarch64-linux-gnu-g++

.PHONY: demo test check bench peers neon format clean help
.DELETE_ON_ERROR:

help:
	@echo "make demo    learn to complete Python code, and show it (under two minutes after set-up)"
	@echo "make test    all tests but the slow ones"
	@echo "make check   ruff, mypy, import-linter, clang-format, and the NEON sources if a cross-compiler is there"
	@echo "make bench   the benchmarks (BENCH=name for one)"
	@echo "make peers   an environment with faiss and hnswlib, which kernels.lookup_scan is then run beside"
	@echo "make format  what make check would complain about, put right where a tool can"

demo: $(STAMPS)/install
	$(BIN)/hashfold demo

test: $(STAMPS)/install $(STAMPS)/test
	$(BIN)/python -m pytest

bench: $(STAMPS)/install $(STAMPS)/test
	$(BIN)/python -m benchmarks $(or $(BENCH),--all)

peers: $(STAMPS)/peers

check: $(STAMPS)/install $(STAMPS)/test $(STAMPS)/check neon
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run -Werror $(CPP)

format: $(STAMPS)/check
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

neon:
	@if command -v $(AARCH64_CXX) > /dev/null; then \
	    echo "$(AARCH64_CXX) -fsyntax-only (the NEON kernels compile)"; \
	    for source in $(filter csrc/core/%.cpp,$(CPP)); do \
	        $(AARCH64_CXX) -std=c++20 -fsyntax-only -Wall -Wextra -Werror -Wno-psabi -Icsrc \
	            -DHASHFOLD_ISA=baseline -DHASHFOLD_VECTOR_BYTES=16 $$source || exit 1; \
	    done; \
	else \
	    echo "SKIPPED: NEON sources not compiled, for want of $(AARCH64_CXX)"; \
	fi

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "hashfold needs Python 3.11 or newer; say which: make PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

# --no-build-isolation: the pinned build tools, and a build folder that lives on between builds.
$(STAMPS)/build-tools: $(STAMPS)/venv constraints.txt
	$(PIP) scikit-build-core nanobind cmake ninja
	@touch $@

$(STAMPS)/install: $(STAMPS)/build-tools pyproject.toml $(NATIVE)
	PATH="$(abspath $(BIN)):$$PATH" $(PIP) --no-build-isolation --editable .
	@touch $@

# hashfold is there already, so pip only adds what the extra asks for.
$(STAMPS)/test $(STAMPS)/check: constraints.txt pyproject.toml | $(STAMPS)/install
	$(PIP) 'hashfold[$(@F)]'
	@touch $@

# Their own environment: they bring a BLAS and an OpenMP of theirs.
$(STAMPS)/peers: benchmarks/peers/requirements.txt | $(STAMPS)/venv
	$(PYTHON) -m venv $(VENV)/peers
	$(VENV)/peers/bin/python -m pip --disable-pip-version-check install --quiet --requirement $<
	@touch $@

clean:
	rm -rf $(VENV) build
