"""Settings that all tests share."""

import os
from pathlib import Path

import pytest

# One compute thread a process: the tests start many processes on few cores. Before any framework is imported.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if os.environ.get("HYPPO_TEST_DEVICE") != "gpu":  # a GPU adds in no fixed order; `make test-gpu` uses it
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

from hypothesis import settings  # noqa: E402 - after the environment is set

settings.register_profile("hyppo", deadline=None)  # the first call compiles or imports, which says nothing
settings.load_profile("hyppo")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a study file may be made."""
    return tmp_path / "study.h5"
