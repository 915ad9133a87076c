"""Fully connected networks of scikit-learn on its own data sets, loaded and generated ones.

Loss: cross-entropy of classes, or the mean squared error over the variance of the targets, on the validation half, at
most 3 (a diverged training).
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import hyppo
from benchmarks.optimizers.problems.problem import FloatArray
from benchmarks.optimizers.tabulate.table import Table

SEEDS = 8
CEILING = 3.0
EPOCHS = (3, 6, 12, 24)
SPACE = hyppo.Space(
    width=hyppo.Ordinal([4, 12, 36, 108]),
    rate=hyppo.Ordinal([1e-4, 4e-4, 1.6e-3, 6.4e-3, 2.56e-2, 1.024e-1]),
    batch=hyppo.Ordinal([16, 64]),
    activation=hyppo.Choice(["relu", "tanh"]),
    solver=hyppo.Choice(["sgd", "adam"]),
    epochs=hyppo.Ordinal(EPOCHS),
)


@dataclass(frozen=True)
class Data:
    """Training and validation halves, standardised; targets are classes or standardised numbers."""

    x: FloatArray
    y: Any
    x_valid: FloatArray
    y_valid: Any
    classes: bool


def _halves(x: FloatArray, y: Any, classes: bool, most: int = 300) -> Data:
    order = np.random.default_rng(0).permutation(len(x))[: 2 * most]
    train, valid = np.array_split(order, 2)
    x = (x - x[train].mean(axis=0)) / np.maximum(x[train].std(axis=0), 1e-3)
    x = np.clip(x, -5.0, 5.0)
    if not classes:
        y = (y - y[train].mean(axis=0)) / max(float(y[train].std()), 1e-9)
    return Data(x[train], y[train], x[valid], y[valid], classes)


def _load(name: str) -> Data:
    from sklearn import datasets

    def lower_half() -> tuple[FloatArray, FloatArray]:
        """The lower half of a digit from its upper half."""
        pixels, _ = datasets.load_digits(return_X_y=True)
        return pixels[:, :32], pixels[:, 32:]

    regression: dict[str, Callable[[], Any]] = {
        "diabetes": partial(datasets.load_diabetes, return_X_y=True),
        "digits-lower-half": lower_half,
        "friedman": partial(datasets.make_friedman1, 300, n_features=10, noise=1.0, random_state=0),
    }
    classes: dict[str, Callable[[], Any]] = {
        "iris": partial(datasets.load_iris, return_X_y=True),
        "wine": partial(datasets.load_wine, return_X_y=True),
        "digits": partial(datasets.load_digits, return_X_y=True),
        "breast-cancer": partial(datasets.load_breast_cancer, return_X_y=True),
        "moons": partial(datasets.make_moons, 200, noise=0.3, random_state=0),
        "clusters": partial(
            datasets.make_classification, 400, n_features=20, n_informative=8, n_classes=4, flip_y=0.05, random_state=0
        ),
    }
    x, y = (regression | classes)[name]()
    return _halves(x, y, name in classes)


def _curve(data: Data, seed: int, width: int, rate: float, batch: int, activation: str, solver: str) -> list[float]:
    """Validation loss after each number of epochs."""
    from sklearn.metrics import log_loss
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    network = (MLPClassifier if data.classes else MLPRegressor)(
        hidden_layer_sizes=(width,),
        activation=activation,
        solver=solver,
        learning_rate_init=rate,
        batch_size=batch,
        random_state=seed,
    )
    labels = {"classes": np.unique(data.y)} if data.classes else {}
    losses: list[float] = []
    for epoch in range(1, max(EPOCHS) + 1):
        try:
            network.partial_fit(data.x, data.y, **labels)
        except ValueError as error:
            if "non-finite" not in str(error):  # "Solver produced non-finite parameter weights": training diverged
                raise
            return losses + [CEILING] * (len(EPOCHS) - len(losses))
        if epoch in EPOCHS:
            if data.classes:
                loss = log_loss(data.y_valid, network.predict_proba(data.x_valid), labels=network.classes_)
            else:
                loss = float(np.mean((network.predict(data.x_valid) - data.y_valid) ** 2) / np.var(data.y_valid))
            losses.append(min(loss, CEILING) if np.isfinite(loss) else CEILING)
    return losses


def _train(data: Data, params: Mapping[str, Any]) -> FloatArray:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return np.array([_curve(data, seed, **params) for seed in range(SEEDS)])


def table(name: str) -> Table:
    """The table of one data set."""
    return Table(SPACE, partial(_train, _load(name)))
