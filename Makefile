# `make demo` and `make test` do all the set-up they need on a machine with Python 3.11 or newer.

PYTHON ?= python3
BIN := .venv/bin
RANKS ?= 3
WORKERS ?= 2
HYPPO_TEST_DEVICE ?= gpu
QUICK := $(addprefix tests/test_,acquisition.py calibration.py cli.py design.py kernels.py layers.py log.py \
	log_readers.py replication.py search.py space.py stopping.py study.py surrogates.py)

.PHONY: help install demo quick test test-slurm test-gpu test-oldest test-pythons check clean

help:
	@echo "make demo        install, then tune a small U-Net on CT sinograms (up to 8 minutes, 2 cores)"
	@echo "make test        install, then run all tests, WORKERS=2 files at a time (up to 30 minutes, 2 cores)"
	@echo "make quick       install, then the tests of the core alone (under 90 s)"
	@echo "make test-gpu    install, then the tests on a GPU (skipped without CUDA; under 8 minutes)"
	@echo "make test-oldest   the lowest versions of the libraries; make test-pythons   Python 3.12 and 3.13"
	@echo "make test-slurm  a Slurm of two virtual nodes from Debian's packages (root installs them), and its tests"
	@echo "make check       ruff and mypy"
	@echo "make install     .venv with every extra"
	@echo "make clean       remove .venv and build/"

install: .venv/installed

# torch comes first and by itself: where a CPU build is on offer, this takes it.
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[lightning,keras,mpi,report,benchmarks,dev]'
	@touch $@

demo: install
	$(BIN)/python -m benchmarks.sinogram run --size demo --ranks $(RANKS) --framework lightning --out build/demo

# Most tests wait for processes that start: two at a time take little more than half the time, also on two cores.
test: install
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

quick: install
	$(BIN)/python -m pytest -q -m "not slow and not mpi" $(QUICK)

test-gpu: install
	HYPPO_TEST_DEVICE=$(HYPPO_TEST_DEVICE) $(BIN)/python -m pytest -ra tests/gpu

test-oldest:
	tests/pythons oldest

test-pythons:
	tests/pythons 3.12 3.13

test-slurm: install
	tests/slurm/cluster install
	HYPPO_TEST_SLURM=1 $(BIN)/python -m pytest tests/slurm

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv build
