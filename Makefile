# `make demo` and `make test` do all the set-up they need on a machine with Python 3.11 or newer.

PYTHON ?= python3
BIN := .venv/bin
RANKS ?= 3

.PHONY: help install demo test test-slurm check clean

help:
	@echo "make demo        install, then tune a small U-Net on CT sinograms (up to 8 minutes, 2 cores)"
	@echo "make test        install, then run all tests"
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

test: install
	$(BIN)/python -m pytest

test-slurm: install
	tests/slurm/cluster install
	HYPPO_TEST_SLURM=1 $(BIN)/python -m pytest tests/slurm

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv build
