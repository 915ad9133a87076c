"""Handwritten digits with Lightning: a small convolutional network, its accuracy, and how sure its predictions are.

    python lightning_digits.py            # alone, some minutes
    mpiexec -n 5 python lightning_digits.py

Needs scikit-learn for the data.
"""

import lightning
import torch
from hyppo_lightning import HyppoCallback
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import hyppo

space = hyppo.Space(
    channels=hyppo.Integer(4, 32, log=True),
    hidden=hyppo.Integer(16, 128, log=True),
    activation=hyppo.Choice(["relu", "gelu", "tanh"]),
    batch=hyppo.Ordinal([16, 32, 64, 128]),
    lr=hyppo.Real(1e-4, 1e-1, log=True),
    dropout=hyppo.Real(0.05, 0.6),
)

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


class Digits(lightning.LightningModule):
    def __init__(self, channels, hidden, activation, lr, dropout):
        super().__init__()
        self.lr = lr
        self.network = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            ACTIVATIONS[activation](),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * channels, hidden),
            ACTIVATIONS[activation](),
            nn.Dropout(dropout),
            nn.Linear(hidden, 10),
        )

    def forward(self, images):
        return self.network(images)

    def training_step(self, batch, index):
        images, labels = batch
        return nn.functional.cross_entropy(self(images), labels)

    def validation_step(self, batch, index):
        images, labels = batch
        logits = self(images)
        self.log("val_loss", nn.functional.cross_entropy(logits, labels))
        self.log("val_error", (logits.argmax(1) != labels).float().mean())

    def predict_step(self, batch, index):
        return self(batch[0]).softmax(1)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def loaders(batch):
    """Training and validation data; the last 400 images are for a test of what the search recommends."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    train, validation = slice(0, 1000), slice(1000, 1397)
    return (
        DataLoader(TensorDataset(images[train], labels[train]), batch_size=batch, shuffle=True),
        DataLoader(TensorDataset(images[validation], labels[validation]), batch_size=256),
    )


def train(replica):
    params = dict(replica.params)
    train_loader, val_loader = loaders(params.pop("batch"))
    trainer = lightning.Trainer(
        max_epochs=10,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[HyppoCallback(replica, monitor="val_loss", mc_dropout=20)],
    )
    trainer.fit(Digits(**params), train_loader, val_loader)
    return trainer.callback_metrics["val_loss"].item()


study = hyppo.Study(space, train, log="lightning_digits.h5", replicas=3, seed=0)

if __name__ == "__main__":
    study.run(trials=25)
    print(study.best)
    predictions = study.predictions(study.best.number)
    print(f"standard deviation of a predicted probability: {predictions.std.mean():.3f}")
