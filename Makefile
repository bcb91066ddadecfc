# make train and make test work from a fresh clone: each sets up what it needs in $(VENV) first, once.

VENV ?= .venv
PYTHON ?=
ARGS ?=

BIN := $(VENV)/bin
# What an installation depends on; touched when it is done, so that the second call of a target installs nothing.
PROJECT := pyproject.toml setup.py

.DEFAULT_GOAL := help
.PHONY: help train test test-all lint bench docs install install-test clean

help:
	@echo "make train   train a multiscale Glow on the bundled digits; results in runs/"
	@echo "make test    run the tests of every day (installs PyTorch for the autograd checks)"
	@echo "make test-all   ... and with them every law on every engine, and every broken term"
	@echo "make lint    check the style with ruff and the types with mypy"
	@echo "make bench   run the quick benchmarks against other libraries, some minutes"
	@echo "make docs    write the API reference to build/docs"
	@echo "make clean   remove the virtual environment and everything built; keeps runs/"
	@echo
	@echo "ARGS is handed on:    make train ARGS='--help'    make test ARGS='-k coupling -x'"
	@echo "PYTHON names the interpreter of a new environment:    make test PYTHON=python3.12"

train: $(VENV)/.installed
	$(BIN)/invnet train digits $(ARGS)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal $(ARGS)

test-all: $(VENV)/.installed-test
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal -m 'not nightly' $(ARGS)

lint: $(VENV)/.installed-lint
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy $(ARGS)

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks $(ARGS)

# pdoc imports what it describes, and warns of what it cannot import, wanted or not. The engines, the benchmarks' twin and
# __main__ are nobody's interface; invnet.torch needs PyTorch.
docs: $(VENV)/.installed-docs
	@without='!invnet.__main__ !invnet.bench !invnet.ops.cupy !invnet.ops.cupy_engine !invnet.ops.torch !invnet.ops.torch_engine !invnet.inference.rxinfer !invnet.distributed.group'; \
	if ! $(BIN)/python -c 'import torch' 2>/dev/null; then \
	    echo "PyTorch is not installed in $(VENV): the reference is without invnet.torch"; without="$$without !invnet.torch"; \
	fi; \
	$(BIN)/python -W "ignore:Error loading" -W "ignore:Couldn't import" -m pdoc --docformat google --math --output-directory build/docs invnet $$without $(ARGS)

install: $(VENV)/.installed
install-test: $(VENV)/.installed-test

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .hypothesis
	find . -name '.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: $(BIN)/python $(PROJECT)
	@echo "Installing invnet in $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-%: $(BIN)/python $(PROJECT)
	@echo "Installing invnet[$*] in $(VENV); this can take minutes"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

# The first interpreter that runs (a launcher on the path may not), is of a supported version and can make a virtual
# environment (on Debian that is a package of its own).
$(BIN)/python:
	@for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python); do \
	    if $$python -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then \
	        echo "Making the virtual environment $(VENV) with $$($$python --version)"; \
	        $$python -m venv --clear $(VENV) && exit 0; \
	        rm -rf $(VENV); exit 1; \
	    fi; \
	done; \
	echo "invnet needs Python 3.11 to 3.14 with its venv module (Debian and Ubuntu: apt install python3-venv);" >&2; \
	echo "tried: $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python). Name another with make PYTHON=/path/to/python" >&2; \
	exit 1
