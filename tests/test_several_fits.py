"""Trainings that fit several times: the snippets of docs/running.md run, and a second result is refused."""

import re
from pathlib import Path

import numpy as np
import pytest

import hyppo

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
        assert len(record.curve) == 4, "the second fit alone is reported"
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
            assert [step for step, _ in record.curve] == [0, 1, 2, 3, 4]
            assert record.loss == list(record.curve)[-1][1]


def test_a_second_result_is_refused_and_the_error_says_what_to_do(tmp_path):
    names = keras_names()

    def train(replica):
        for _ in range(2):
            model = names["pretrained"]()
            model.compile("sgd", "mse")
            names["hyppo_keras"].fit(replica, model, names["x"], names["y"], validation_split=0.25, verbose=0)

    study = hyppo.Study(SPACE, train, log=tmp_path / "study.h5", replicas=1, isolate=False)
    with study:
        study.run(trials=1, progress=False)
    assert "to the last fit only" in study.trials[0].replicas[0].failure.message
