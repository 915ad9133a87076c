"""Cross-validation with Lightning: each replica validates on another fold, and the loss is the mean over the folds.

    python lightning_folds.py             # alone, a few minutes
    mpiexec -n 6 python lightning_folds.py

Needs scikit-learn for the data.
"""

import lightning
import numpy as np
import torch
from hyppo_lightning import HyppoCallback
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import hyppo

FOLDS = 5

space = hyppo.Space(
    width=hyppo.Integer(4, 64, log=True),
    lr=hyppo.Real(1e-3, 1e-1, log=True),
    noise=hyppo.Real(0.01, 1.0, log=True),
)


class Regression(lightning.LightningModule):
    def __init__(self, width, lr):
        super().__init__()
        self.lr = lr
        self.network = nn.Sequential(nn.Linear(10, width), nn.Tanh(), nn.Linear(width, 1))

    def forward(self, x):
        return self.network(x)

    def training_step(self, batch, index):
        return nn.functional.mse_loss(self(batch[0]), batch[1])

    def validation_step(self, batch, index):
        self.log("val_loss", nn.functional.mse_loss(self(batch[0]), batch[1]))

    def predict_step(self, batch, index):
        return self(batch[0])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def loaders(replica):
    """Training data with noise added to the inputs, and the fold to validate on."""
    x, y = load_diabetes(return_X_y=True)
    x, y = torch.tensor(x / x.std(0)).float(), torch.tensor((y - y.mean()) / y.std()).float()[:, None]
    # The same folds in all trials. What else decides the data is drawn with `data_seed`, which trials share too.
    fold = torch.tensor(np.random.default_rng(0).permutation(len(x)) % FOLDS)
    training, validation = fold != replica.fold, fold == replica.fold
    generator = torch.Generator().manual_seed(replica.data_seed)
    noisy = x[training] + replica.params["noise"] * torch.randn(x[training].shape, generator=generator)
    return (
        DataLoader(TensorDataset(noisy, y[training]), batch_size=64, shuffle=True),
        DataLoader(TensorDataset(x[validation], y[validation]), batch_size=256),
    )


def train(replica):
    trainer = lightning.Trainer(
        max_epochs=20,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[HyppoCallback(replica, monitor="val_loss")],
    )
    trainer.fit(Regression(replica.params["width"], replica.params["lr"]), *loaders(replica))


# Each configuration is trained once on every fold.
study = hyppo.Study(space, train, log="lightning_folds.h5", replicas=FOLDS, folds=FOLDS, seed=0)

if __name__ == "__main__":
    study.run(trials=20)
    print(study.best)
    print(hyppo.spread_by_source(study))  # how much of the spread is due to the folds
