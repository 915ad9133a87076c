"""A training that a signal interrupts goes on where it was: real runs of a script, stopped by SIGUSR1."""

import os
import pickle
import signal
import subprocess
import sys
import time

import pytest

import hyppo

pytestmark = [pytest.mark.timeout(200), pytest.mark.slow]

# Only the processes that train import a framework: the one that asks starts at once.
STUDY = """
import os, sys
import hyppo


def train(replica):
    import training

    training.train(replica)


class Rule:
    \"\"\"Writes down what a rule is told of each report; gives up at the fifth where the environment says so.\"\"\"

    def stops(self, trial, reports, levels, pruned):
        with open(sys.argv[1] + ".rule", "a") as file:
            file.write(f"{reports} {max(levels[trial].values())}\\n")
        return reports >= 5 and "GIVE_UP" in os.environ


study = hyppo.Study(
    hyppo.Space(x=hyppo.Real(0, 1)), train, log=sys.argv[1], stopping=Rule(), surrogate="random",
    replicas=int(os.environ.get("REPLICAS", "1")), seed=int(os.environ.get("SEED", "0")),
)
if __name__ == "__main__":
    study.run(trials=1, progress=False)
"""

LIGHTNING = """
import os, sys, time
import torch
import lightning.pytorch as L
from hyppo_lightning import HyppoCallback
from lightning.pytorch.callbacks import EarlyStopping
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 8


class Net(L.LightningModule):
    def __init__(self):
        super().__init__()
        layers = [torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Dropout(0.3), torch.nn.Linear(16, 1)]
        self.body = torch.nn.Sequential(*layers)

    def training_step(self, batch, index):
        return torch.nn.functional.mse_loss(self.body(batch[0]), batch[1])

    def validation_step(self, batch, index):
        self.log("val_loss", torch.nn.functional.mse_loss(self.body(batch[0]), batch[1]))

    def predict_step(self, batch, index):
        return self.body(batch)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)]

    def on_train_epoch_start(self):
        if self.global_rank == 0:
            with open(sys.argv[1] + ".epochs", "a") as file:
                file.write(f"{self.current_epoch} ")
        time.sleep(float(sys.argv[2]))


def train(replica):
    torch.set_num_threads(1)
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    y = x.sum(1, keepdim=True)
    rows = TensorDataset(x, y)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    callbacks = [HyppoCallback(replica), EarlyStopping("val_loss", patience=50)]
    every = int(os.environ.get("EVERY", "1"))
    trainer = L.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", callbacks=callbacks, check_val_every_n_epoch=every, **quiet
    )
    trainer.fit(Net(), DataLoader(rows, batch_size=16, shuffle=True), DataLoader(rows, batch_size=32))
"""


KERAS = """
import os, sys, time
import hyppo_keras, keras, numpy as np

EPOCHS = 8


def train(replica):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(64, 4)).astype("float32")
    random = [keras.layers.Dropout(0.3), keras.layers.GaussianNoise(0.1)]
    layers = [keras.layers.Dense(16, "relu"), *random, keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.Adam(0.01), "mse")

    def slow(epoch, logs):
        if replica.rank == 0:
            with open(sys.argv[1] + ".epochs", "a") as file:
                file.write(f"{epoch} ")
        time.sleep(float(sys.argv[2]))

    hyppo_keras.fit(
        replica, model, x, x.sum(1), batch_size=16, epochs=EPOCHS, verbose=0, validation_split=0.25,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=slow)],
        validation_freq=int(os.environ.get("EVERY", "1")),
    )
"""
SCRIPTS = {
    "lightning": (LIGHTNING, "torch"),
    "keras on torch": (KERAS, "torch"),
    "keras on tensorflow": (KERAS, "tensorflow"),
    "keras on jax": (KERAS, "jax"),
}


def written(framework, folder):
    """The script of a study in this folder, and the environment that it needs."""
    source, backend = SCRIPTS[framework]
    (folder / "training.py").write_text(source)
    script = folder / "tune.py"
    script.write_text(STUDY)
    return script, {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}


@pytest.fixture(params=SCRIPTS)
def framework(request):
    pytest.importorskip(request.param.split()[-1])
    return request.param


def start(framework, path, sleep, **environ):
    script, needed = written(framework, path.parent)
    return subprocess.Popen(
        [sys.executable, str(script), str(path), str(sleep)],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | needed | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def epochs(path):
    file = path.with_name(path.name + ".epochs")
    return [int(epoch) for epoch in file.read_text().split()] if file.exists() else []


def told(path):
    """What the rule was told: (reports, lowest loss)."""
    return [tuple(map(float, line.split())) for line in path.with_name(path.name + ".rule").read_text().splitlines()]


def interrupted(framework, path, sleep=0.5, epoch=2, **environ):
    """Run until some epochs are trained, then as a batch system's warning does."""
    run = start(framework, path, sleep, **environ)
    try:
        while len(epochs(path)) <= epoch and run.poll() is None:
            time.sleep(0.02)
        run.send_signal(signal.SIGUSR1)
        out, _ = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == 0, out
    return out


def finished(framework, path, **environ):
    run = start(framework, path, 0.0, **environ)
    out, _ = run.communicate(timeout=90)
    assert run.returncode == 0, out
    (trial,) = hyppo.load(path).trials
    replica = trial.replicas[0]
    assert trial.state == "pruned" or replica.loss is not None, out
    return replica


def test_goes_on_from_its_epoch_to_the_same_loss(framework, tmp_path):
    """Dropout, shuffling, Adam and a learning rate's schedule: all that was random or had a state goes on."""
    whole = finished(framework, tmp_path / "whole.h5")
    path = tmp_path / "cut.h5"
    interrupted(framework, path)
    trained = epochs(path)
    assert 3 <= len(trained) < 8
    assert list(tmp_path.rglob("resume.*"))
    again = finished(framework, path)
    assert epochs(path) == list(range(8))
    assert [step for step, _ in again.curve] == list(range(8))
    assert again.curve == whole.curve
    assert again.loss == whole.loss
    assert not list(tmp_path.rglob("resume.*"))
    # a rule for stopping early sees one training, not the end of one
    assert [reports for reports, _ in told(path)[-8:]] == list(range(1, 9))
    assert told(path)[-8:] == told(tmp_path / "whole.h5")


def test_where_no_validation_is_left(framework, tmp_path):
    """Validated after epoch 4 alone: the loss is that of the weights in the end, as without an interruption."""
    whole = finished(framework, tmp_path / "whole.h5", EVERY="5")
    path = tmp_path / "cut.h5"
    interrupted(framework, path, epoch=5, EVERY="5")
    assert 6 <= len(epochs(path)) < 8
    again = finished(framework, path, EVERY="5")
    assert epochs(path) == list(range(8))
    assert again.loss == whole.loss


@pytest.mark.parametrize("framework", ["lightning", "keras on torch"], indirect=True)
def test_a_trial_that_is_given_up_leaves_no_state(framework, tmp_path):
    """Two replicas of it are interrupted; the first is given up as it goes on, and the second is dropped."""
    path = tmp_path / "cut.h5"
    interrupted(framework, path, epoch=5, REPLICAS="2", HYPPO_WORKERS="2")
    assert len({file.parent for file in tmp_path.rglob("resume.*")}) == 2
    trained = len(epochs(path))
    again = finished(framework, path, REPLICAS="2", GIVE_UP="1")
    (trial,) = hyppo.load(path).trials
    assert (trial.state, len(trial.replicas)) == ("pruned", 1)
    assert [step for step, _ in again.curve] == list(range(len(again.curve)))
    assert 5 <= len(again.curve) < 8
    assert not list(tmp_path.rglob("resume.*"))
    assert len(epochs(path)) <= trained + 4
    trained = epochs(path)
    assert finished(framework, path, REPLICAS="2") == again  # nothing left to do
    assert epochs(path) == trained


@pytest.mark.parametrize("framework", ["lightning", "keras on torch"], indirect=True)
def test_the_state_of_another_study_is_not_taken(framework, tmp_path):
    """A study file was deleted, and its folder was not."""
    path = tmp_path / "cut.h5"
    interrupted(framework, path)
    trained = len(epochs(path))
    path.unlink()
    again = finished(framework, path, SEED="1")
    assert epochs(path)[trained:] == list(range(8))
    assert len(again.curve) == 8


def test_a_checkpoint_that_does_not_load_says_what_to_do(framework, tmp_path):
    path = tmp_path / "cut.h5"
    interrupted(framework, path)
    (file,) = (path for path in tmp_path.rglob("resume.*") if path.suffix in (".ckpt", ".h5"))
    file.write_bytes(file.read_bytes()[:200])
    out, _ = start(framework, path, 0.0).communicate(timeout=90)
    (replica,) = hyppo.load(path).trials[0].replicas
    assert "delete it to train from the beginning" in str(replica.failure), out
    assert "\n" not in replica.failure.message


class Code:
    """Unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("framework", ["lightning", "keras on torch"], indirect=True)
def test_state_from_a_stranger_runs_no_code(framework, tmp_path):
    path, made = tmp_path / "cut.h5", tmp_path / "made"
    interrupted(framework, path)
    trained = len(epochs(path))
    (file,) = (path for path in tmp_path.rglob("resume.*") if path.suffix in (".ckpt", ".json"))
    if file.suffix == ".ckpt":
        torch = pytest.importorskip("torch")
        state = torch.load(file, weights_only=True)
        torch.save(state | {"hyper_parameters": Code(made)}, file)
    else:
        file.write_bytes(pickle.dumps(Code(made)))
    out, _ = start(framework, path, 0.0).communicate(timeout=90)
    assert not made.exists()
    (replica,) = hyppo.load(path).trials[0].replicas
    if file.suffix == ".ckpt":
        assert epochs(path)[trained:] == list(range(8)), out
    else:
        assert "delete it to train from the beginning" in str(replica.failure), out
