"""Every example runs as a user would run it, with fewer trials; alone, in its own folder."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
# example -> what it needs; the Keras ones share the backends, so that each runs on one of them
NEEDS = {
    "torch_loop": ("torch",),
    "lightning_digits": ("lightning", "sklearn"),
    "lightning_timeseries": ("lightning",),
    "lightning_gan": ("lightning",),
    "keras_digits": ("keras", "jax", "sklearn"),
    "keras_timeseries": ("keras", "tensorflow"),
    "keras_train_step": ("keras", "tensorflow"),
}


def test_every_example_is_run():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(NEEDS)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", NEEDS)
def test_example(name, tmp_path):
    for library in NEEDS[name]:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"needs {library}")
    backend = next((library for library in NEEDS[name] if library in ("torch", "jax", "tensorflow")), "tensorflow")
    short = {"HYPPO_TRAININGS": "2", "HYPPO_PROGRESS": "0", "HYPPO_THREADS": "1", "HYPPO_OUTPUT": "file"}
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        cwd=tmp_path,
        env=os.environ | short | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert re.search(r"^trial 0: \{", done.stdout, re.M), done.stdout
    assert "from one training to the next" in done.stdout
    assert (tmp_path / f"{name}.h5").exists()
    assert not (tmp_path / f"{name}.h5.journal").exists()
