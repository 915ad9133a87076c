"""Trainings that fit several times: the snippets of docs/running.md run, and the last fit counts."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

import hyppo
from hyppo.training.call import train as train_once
from hyppo.training.criterion import pack
from hyppo.training.replica import Replica, Task

pytestmark = [pytest.mark.timeout(100), pytest.mark.filterwarnings("ignore")]
PAGE = (Path(__file__).parent.parent / "docs" / "running.md").read_text()
SECTION = PAGE.split("## Several fits in one training\n")[1].split("\n## ")[0]
SNIPPETS = re.findall(r"```python\n(.*?)```", SECTION, re.S)
SPACE = hyppo.Space(lr=hyppo.Real(1e-3, 1e-1, log=True))


def study_of(snippet, names, path, trainings=2):
    exec(snippet, names)
    with hyppo.Study(SPACE, names["train"], log=path, replicas=1, isolate=False) as study:
        study.run(trials=trainings, progress=False)
    return study


def keras_names():
    keras = pytest.importorskip("keras")
    import hyppo_keras

    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")

    def pretrained():
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)])

    return {
        "keras": keras, "hyppo_keras": hyppo_keras, "np": np, "pretrained": pretrained, "x": x, "y": x.sum(1),
        "fold": np.arange(64) % 5,
    }  # fmt: skip


def lightning_names():
    lightning = pytest.importorskip("lightning")
    import torch
    from hyppo_lightning import HyppoCallback
    from torch.utils.data import DataLoader, TensorDataset

    class Pretrained(lightning.LightningModule):
        def __init__(self, lr):
            super().__init__()
            self.lr, self.body, self.head = lr, torch.nn.Linear(3, 4), torch.nn.Linear(4, 1)
            self.moved = []  # whether the body has changed by the end of each fit
            self.before = self.body.weight.detach().clone()

        def forward(self, x):
            return self.head(self.body(x))

        def training_step(self, batch, index):
            return torch.nn.functional.mse_loss(self(batch[0]), batch[1])

        def validation_step(self, batch, index):
            self.log("val_loss", torch.nn.functional.mse_loss(self(batch[0]), batch[1]))

        def predict_step(self, batch, index):
            return self(batch[0])

        def on_fit_end(self):
            moved.append(bool((self.body.weight != self.before).any()))

        def configure_optimizers(self):
            return torch.optim.Adam((p for p in self.parameters() if p.requires_grad), self.lr)

    moved = []
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    rows = torch.arange(64) % 5

    def loaders(k):
        return [DataLoader(TensorDataset(x[part], x[part].sum(1, keepdim=True)), 16) for part in (rows != k, rows == k)]

    train_loader, val_loader = loaders(0)
    return {
        "lightning": lightning, "HyppoCallback": HyppoCallback, "Pretrained": Pretrained, "np": np, "loaders": loaders,
        "train_loader": train_loader, "val_loader": val_loader, "moved": moved,
    }  # fmt: skip


def test_frozen_and_then_fine_tuned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = study_of(SNIPPETS[0], keras_names(), tmp_path / "keras.h5")
    for trial in study.trials:
        (record,) = trial.replicas
        assert record.failure is None, record.failure.traceback
        assert [step for step, _ in record.curve] == list(range(6)), "the second fit continues the count"
        assert record.loss == list(record.curve)[-1][1]
        assert trial.metrics["parameters"] == 21, "all of it, and not the head alone"
    names = lightning_names()
    study = study_of(SNIPPETS[1], names, tmp_path / "lightning.h5")
    assert all(trial.mean is not None for trial in study.trials), study.trials[0].replicas[0].failure
    assert names["moved"] == [False, True] * 2


def test_all_folds_in_one_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for snippet, names in ((SNIPPETS[2], keras_names()), (SNIPPETS[3], lightning_names())):
        study = study_of(snippet, names, tmp_path / f"{len(names)}.h5")
        for trial in study.trials:
            (record,) = trial.replicas
            assert record.failure is None, record.failure.traceback
            assert [step for step, _ in record.curve] == list(range(10))
            assert record.loss == pytest.approx(np.mean([loss for _, loss in record.curve][1::2]))


def fits(names, replica, epochs):
    """Fit a new network for each number of epochs, and return the networks."""
    found = []
    for count in epochs:
        if "keras" in names:
            found.append(names["pretrained"]())
            found[-1].compile(names["keras"].optimizers.SGD(replica.params["lr"]), "mse")
            data = names["x"], names["y"]
            names["hyppo_keras"].fit(replica, found[-1], *data, epochs=count, validation_split=0.25, verbose=0)
        else:
            found.append(names["Pretrained"](replica.params["lr"]))
            callback = names["HyppoCallback"](replica)
            options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
            trainer = names["lightning"].Trainer(max_epochs=count, callbacks=[callback], **options)
            trainer.fit(found[-1], names["train_loader"], names["val_loader"])
    return found


@pytest.mark.parametrize("names", [keras_names, lightning_names])
def test_predictions_and_network_are_those_of_the_last_fit(names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, rows = names(), {}

    def train(replica):
        network = fits(names, replica, (2, 1))[-1]
        if "keras" in names:
            rows[replica.trial] = network.predict(names["x"][48:], verbose=0)
        else:
            import torch

            with torch.no_grad():
                rows[replica.trial] = torch.cat([network(x) for x, _ in names["val_loader"]]).numpy()

    with hyppo.Study(SPACE, train, log=tmp_path / "study.h5", replicas=1, isolate=False) as study:
        study.run(trials=1, progress=False)
    (trial,) = study.trials
    assert trial.mean is not None, trial.replicas[0].failure.traceback
    np.testing.assert_allclose(study.predictions(0).mean, rows[0], rtol=1e-5)


def squared_error(prediction, targets):
    """Of one column, as of a regression; other targets do not fit."""
    return np.mean((prediction[:, 0] - targets.reshape(len(prediction))) ** 2)


@pytest.mark.parametrize("last", ["regression", "autoencoder"])
@pytest.mark.parametrize("names", [keras_names, lightning_names])
def test_the_ensemble_loss_is_that_of_the_last_fit(names, last, tmp_path, monkeypatch):
    """The criterion cannot be computed for an autoencoder. That matters only if nothing is fitted after it."""
    monkeypatch.chdir(tmp_path)
    names = names()

    def autoencode(replica):
        if "keras" in names:
            keras, x = names["keras"], names["x"]
            network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
            network.compile("adam", "mse")
            names["hyppo_keras"].fit(replica, network, x, x, epochs=1, validation_split=0.25, verbose=0)
        else:
            import torch
            from torch.utils.data import DataLoader, TensorDataset

            network = names["Pretrained"](0.01)
            network.head = torch.nn.Linear(4, 3)
            x = names["val_loader"].dataset.tensors[0]
            loader = DataLoader(TensorDataset(x, x), 16)
            options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
            trainer = names["lightning"].Trainer(max_epochs=1, callbacks=[names["HyppoCallback"](replica)], **options)
            trainer.fit(network, loader, loader)

    def train(replica):
        if last == "regression":
            autoencode(replica)
            fits(names, replica, (2,))
        else:
            fits(names, replica, (2,))
            autoencode(replica)

    replica = Replica(Task(0, 0, 1, {"lr": 0.01}, str(tmp_path / "r"), 1, "ensemble_loss", pack(squared_error)))
    outcome = train_once(train, replica)
    if last == "regression":
        assert outcome.failure is None, outcome.failure.traceback
        assert outcome.losses.mean == pytest.approx(outcome.loss, rel=1e-4)
    else:
        assert outcome.failure.type == "ObjectiveError"
        assert "raised ValueError: cannot reshape" in outcome.failure.message


@pytest.mark.parametrize("names", [keras_names, lightning_names])
def test_an_interruption_in_the_second_fit_is_made_up_for(names, tmp_path, monkeypatch):
    """Both fits continue from their own states, and the loss is that of a training without interruption."""
    monkeypatch.chdir(tmp_path)
    names = names()

    def outcome(folder, stop_at=math.inf):
        one = None

        def stop():
            return one is not None and len(one.curve) >= stop_at

        one = Replica(Task(0, 0, 5, {"lr": 0.01}, str(tmp_path / folder)), stop_asked=stop)
        return train_once(lambda replica: fits(names, replica, (2, 3)) and None, one)

    whole = outcome("whole")
    assert whole.failure is None, whole.failure.traceback
    cut = outcome("cut", stop_at=4)
    assert not cut.whole, cut
    again = outcome("cut")
    assert again.whole
    assert again.loss == pytest.approx(whole.loss, rel=1e-6)
    assert [step for step, _ in again.curve] == list(range(5))


def test_a_second_fit_of_an_interrupted_network_trains_all_its_epochs(tmp_path):
    names = keras_names()

    def train(replica):
        network = names["pretrained"]()
        network.compile(names["keras"].optimizers.SGD(0.01), "mse")
        for epochs in (3, 2):
            data = names["x"], names["y"]
            names["hyppo_keras"].fit(replica, network, *data, epochs=epochs, validation_split=0.25, verbose=0)

    task = Task(0, 0, 5, {}, str(tmp_path))
    cut = Replica(task, stop_asked=lambda: len(cut.curve) == 2)
    assert not train_once(train, cut).whole
    again = train_once(train, Replica(task))
    assert again.whole
    assert [step for step, _ in again.curve] == list(range(5))


def test_a_stop_in_an_early_fit_leaves_the_training_incomplete(tmp_path):
    names = keras_names()
    one = Replica(Task(0, 0, 5, {"lr": 0.01}, str(tmp_path)), stop_asked=lambda: len(one.curve) == 1)
    outcome = train_once(lambda replica: fits(names, replica, (3, 1)) and None, one)
    assert not outcome.whole, "the first fit was stopped, although the second one ran to its end"
