"""A training that a signal interrupts goes on where it was: real runs of a script, stopped by SIGUSR1."""

import os
import signal
import subprocess
import sys
import time

import pytest

import hyppo

pytestmark = [pytest.mark.timeout(200), pytest.mark.slow]

LIGHTNING = """
import os, sys, time
import hyppo, torch
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
    trainer = L.Trainer(max_epochs=EPOCHS, accelerator="cpu", callbacks=callbacks, **quiet)
    trainer.fit(Net(), DataLoader(rows, batch_size=16, shuffle=True), DataLoader(rows, batch_size=32))


study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), train, log=sys.argv[1], replicas=1)
if __name__ == "__main__":
    study.run(trials=1, progress=False)
"""


KERAS = """
import sys, time
import hyppo, hyppo_keras, keras, numpy as np

EPOCHS = 8


def train(replica):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(64, 4)).astype("float32")
    layers = [keras.layers.Dense(16, "relu"), keras.layers.Dropout(DROPOUT), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.Adam(0.01), "mse")

    def slow(epoch, logs):
        with open(sys.argv[1] + ".epochs", "a") as file:
            file.write(f"{epoch} ")
        time.sleep(float(sys.argv[2]))

    hyppo_keras.fit(
        replica, model, x, x.sum(1), batch_size=16, epochs=EPOCHS, verbose=0, shuffle=SHUFFLE, validation_split=0.25,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=slow)],
    )


study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), train, log=sys.argv[1], replicas=1)
if __name__ == "__main__":
    study.run(trials=1, progress=False)
"""
# What TensorFlow and JAX have drawn so far is not all in Keras' hands: there the same loss comes without dropout and
# shuffling alone, which shows that weights and optimiser go on.
DRAWN = {"SHUFFLE": "True", "DROPOUT": "0.3"}
FIXED = {"SHUFFLE": "False", "DROPOUT": "0.0"}
SCRIPTS = {
    "lightning": (LIGHTNING, {}, "torch"),
    "keras on torch": (KERAS, DRAWN, "torch"),
    "keras on tensorflow": (KERAS, FIXED, "tensorflow"),
    "keras on jax": (KERAS, FIXED, "jax"),
}


@pytest.fixture(params=SCRIPTS)
def script(request):
    """Source and backend."""
    pytest.importorskip(request.param.split()[-1])
    source, values, backend = SCRIPTS[request.param]
    for name, value in values.items():
        source = source.replace(name, value)
    return source, backend


def start(script, path, sleep):
    source, backend = script
    file = path.parent / "tune.py"
    file.write_text(source)
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", str(file), str(path), str(sleep)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def epochs(path):
    file = path.with_name(path.name + ".epochs")
    return [int(epoch) for epoch in file.read_text().split()] if file.exists() else []


def interrupted(script, path, sleep=0.5, epoch=2):
    """Run until some epochs are trained, then as a batch system's warning does."""
    run = start(script, path, sleep)
    try:
        while len(epochs(path)) <= epoch and run.poll() is None:
            time.sleep(0.02)
        run.send_signal(signal.SIGUSR1)
        out, _ = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == 0, out
    return out


def finished(script, path):
    run = start(script, path, 0.0)
    out, _ = run.communicate(timeout=90)
    assert run.returncode == 0, out
    (trial,) = hyppo.load(path).trials
    (replica,) = trial.replicas
    assert replica.loss is not None, out
    return replica


def test_goes_on_from_its_epoch_to_the_same_loss(script, tmp_path):
    """Dropout, shuffling, Adam and a learning rate's schedule: all that was random or had a state goes on."""
    whole = finished(script, tmp_path / "whole.h5")
    path = tmp_path / "cut.h5"
    interrupted(script, path)
    trained = epochs(path)
    assert 3 <= len(trained) < 8
    assert list(tmp_path.rglob("resume.*"))
    again = finished(script, path)
    assert epochs(path) == list(range(8))
    assert [step for step, _ in again.curve] == list(range(8))
    assert again.curve == whole.curve
    assert again.loss == whole.loss
    assert not list(tmp_path.rglob("resume.*"))


def test_a_checkpoint_that_does_not_load_says_what_to_do(script, tmp_path):
    path = tmp_path / "cut.h5"
    interrupted(script, path)
    (file,) = (path for path in tmp_path.rglob("resume.*") if path.suffix in (".ckpt", ".h5"))
    file.write_bytes(file.read_bytes()[:200])
    out, _ = start(script, path, 0.0).communicate(timeout=90)
    (replica,) = hyppo.load(path).trials[0].replicas
    assert "delete it to train from the beginning" in str(replica.failure), out
