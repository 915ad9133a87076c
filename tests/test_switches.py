"""The same trial, index and seed gives the same loss in any process, after any other training."""

import multiprocessing
import os
import random
import subprocess
import sys

import numpy as np
import pytest

from hyppo.training.call import train
from hyppo.training.replica import Replica, Task
from hyppo.training.seeding import drawn, seed_everything

pytestmark = pytest.mark.timeout(120)


def loss_of(objective, folder, **params):
    outcome = train(objective, Replica(Task(0, 0, 7, params, str(folder))))
    assert outcome.failure is None, outcome.failure.traceback
    return outcome.loss


def with_torch(replica):
    import torch

    if replica.params.get("change"):
        torch.set_default_dtype(torch.float64)
        torch.set_float32_matmul_precision("medium")
        torch.use_deterministic_algorithms(True)
        torch.set_grad_enabled(False)
        torch.set_num_threads(3)
        np.seterr(all="raise")
        multiprocessing.set_start_method("spawn")
        raise_if_left = 0.0
    else:
        assert torch.get_float32_matmul_precision() == "highest"
        assert torch.is_grad_enabled()
        assert torch.get_num_threads() != 3
        assert multiprocessing.get_start_method(allow_none=True) is None
        raise_if_left = float(np.float64(1e-300) * np.float64(1e-300))  # underflows
    return float(torch.rand(1000).sum()) + raise_if_left


def test_torch_knows_whether_its_seeded_generator_was_drawn_from():
    torch = pytest.importorskip("torch")
    seed_everything(7)
    assert "torch" not in drawn(7)
    torch.rand(1)
    assert "torch" in drawn(7)
    torch.manual_seed(0)
    torch.rand(1)
    assert "torch" not in drawn(7)


@pytest.fixture
def no_start_method():
    """As in a new process, whatever tests before this one started."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(None, force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.usefixtures("no_start_method")
def test_switches_of_torch_and_numpy_end_with_a_training(tmp_path):
    before = loss_of(with_torch, tmp_path)
    changed = loss_of(with_torch, tmp_path, change=True)
    assert loss_of(with_torch, tmp_path) == before != changed
    assert loss_of(with_torch, tmp_path, change=True) == changed


def test_draws_at_an_import_do_not_change_the_training_that_imports(tmp_path, monkeypatch):
    """fastai.basics draws from `random` at its import, MONAI from numpy too; helper modules seed torch."""
    torch = pytest.importorskip("torch")
    package = tmp_path / "drawing_package"
    package.mkdir()
    draw = "import random\nimport numpy\nimport torch\nrandom.random()\nnumpy.random.rand()\n"
    (package / "__init__.py").write_text("")
    (package / "first.py").write_text(draw + "torch.manual_seed(0)\nfrom . import second\n")
    (package / "second.py").write_text(draw + "random.seed(0)\n")
    monkeypatch.syspath_prepend(tmp_path)

    def objective(replica):
        total = random.random()
        from drawing_package import first

        assert first.second.random is random
        return total + random.random() + np.random.rand() + float(torch.rand(()))  # noqa: NPY002

    losses = [loss_of(objective, tmp_path / "replica") for _ in range(2)]
    assert losses[0] == losses[1]
    seed_everything(7)
    assert losses[0] == random.random() + random.random() + np.random.rand() + float(torch.rand(()))  # noqa: NPY002


@pytest.mark.parametrize("framework", ["torch", "keras", "jax", "multiprocessing"])
def test_switches_end_with_the_training_that_imports_the_framework(tmp_path, framework):
    """The process is new: its first training imports the framework and then changes a switch."""
    pytest.importorskip(framework)
    code = """
import sys, tempfile
from hyppo.training.call import train
from hyppo.training.replica import Replica, Task

SWITCHES = {
    "torch": "torch.get_default_dtype() == torch.float32, torch.set_default_dtype(torch.float64)",
    "keras": "keras.config.floatx() == 'float32', keras.config.set_floatx('float64')",
    "jax": "not jax.config.jax_enable_x64, jax.config.update('jax_enable_x64', True)",
    "multiprocessing": "multiprocessing.get_start_method(True) is None, multiprocessing.set_start_method('spawn')",
}

def objective(replica):
    framework = replica.params["framework"]
    as_at_start, _ = eval(SWITCHES[framework], {framework: __import__(framework)})
    return float(as_at_start)

params = {"framework": sys.argv[1]}
assert params["framework"] not in sys.modules
print([train(objective, Replica(Task(0, 0, 7, params, tempfile.mkdtemp()))).loss for _ in range(2)])
"""
    run = [sys.executable, "-c", code, framework]
    out = subprocess.run(run, capture_output=True, text=True, check=True, env=os.environ | {"TMPDIR": str(tmp_path)})
    assert out.stdout.splitlines()[-1] == "[1.0, 1.0]", out.stderr


def with_keras(replica):
    import keras

    if replica.params.get("change"):
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("mixed_bfloat16")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    metric = keras.metrics.AUC()
    assert metric.name == replica.params.get("name", metric.name)
    return float(np.sum(keras.ops.convert_to_numpy(model(np.ones((1, 2)))).astype("float64")))


def test_switches_and_automatic_names_of_keras_end_with_a_training(tmp_path):
    import keras

    expected = keras.metrics.AUC().name  # the next one of this process has a number more
    number = int(expected.partition("_")[2] or 0) + 1
    before = loss_of(with_keras, tmp_path, name=f"auc_{number}")
    changed = loss_of(with_keras, tmp_path, change=True, name=f"auc_{number}")
    assert loss_of(with_keras, tmp_path, name=f"auc_{number}") == before != changed
    assert keras.config.floatx() == "float32"


def test_an_older_keras_is_seeded_and_has_fewer_switches(tmp_path, monkeypatch):
    """Keras 3.5 has no limits of epochs, and its set_random_seed keeps the generator of keras.random."""
    import keras

    monkeypatch.delattr(keras.config, "max_epochs")
    monkeypatch.delattr(keras.config, "max_steps_per_epoch")
    monkeypatch.setattr(keras.utils, "set_random_seed", random.seed)

    def objective(replica):
        return float(keras.ops.sum(keras.random.normal((3,))))

    assert loss_of(objective, tmp_path) == loss_of(objective, tmp_path)


def test_what_an_import_switches_holds_for_later_trainings_too(tmp_path, monkeypatch):
    import torch

    (tmp_path / "doubles_by_import.py").write_text("import torch\ntorch.set_default_dtype(torch.float64)\n")
    monkeypatch.syspath_prepend(tmp_path)

    def objective(replica):
        import doubles_by_import  # noqa: F401

        return float(torch.rand(1000).sum())

    try:
        first = loss_of(objective, tmp_path)
        assert loss_of(objective, tmp_path) == first
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
        sys.modules.pop("doubles_by_import", None)


def test_the_environment_of_a_training_ends_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("KEPT", "as it is")

    def objective(replica):
        import os

        os.environ["KEPT"] = "changed"
        os.environ["LEFT"] = "behind"
        return 1.0

    loss_of(objective, tmp_path)
    import os

    assert os.environ["KEPT"] == "as it is"
    assert "LEFT" not in os.environ


def test_a_space_taken_from_a_build_function_leaves_the_names_as_they_were():
    import hyppo_keras
    import keras

    seen = []

    def build(hp):
        hp.Int("width", 2, 8)
        seen.append(keras.metrics.AUC().name)

    hyppo_keras.from_build(build)
    hyppo_keras.from_build(build)
    assert len(set(seen)) == 1
