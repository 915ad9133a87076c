"""Trains scikit-learn networks over a lattice with many seeds, and keeps the losses: `problems.tables` reads them.

One training goes through all numbers of epochs of the lattice, so that `epochs` costs nothing extra. The split of the
data is fixed; the seed draws the weights and the order of the batches. Loss: cross-entropy of classes, or the mean
squared error over the variance of the targets, on the validation half, at most 3 (a diverged training).
"""

import itertools
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import hyppo
from benchmarks.optimizers.problems.problem import FloatArray
from benchmarks.optimizers.problems.tables import FOLDER

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

    if name == "digits-lower-half":  # the lower half of a digit from its upper half
        pixels = datasets.load_digits().data
        return _halves(pixels[:, :32], pixels[:, 32:], False)
    loaders: dict[str, Callable[[], Any]] = {
        "wine": datasets.load_wine,
        "digits": datasets.load_digits,
        "breast-cancer": datasets.load_breast_cancer,
        "diabetes": datasets.load_diabetes,
    }
    bunch = loaders[name]()
    return _halves(bunch.data, bunch.target, name != "diabetes")


TABLES = ("wine", "digits", "breast-cancer", "diabetes", "digits-lower-half")


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


def tabulate(name: str) -> None:
    """Train all of one table and write it."""
    data = _load(name)
    start = time.process_time()
    lists: list[list[Any]] = [
        [p.value(i) for i in range(p.levels)] for n, p in SPACE.parameters.items() if n != "epochs"
    ]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        curves = [[_curve(data, seed, *point) for seed in range(SEEDS)] for point in itertools.product(*lists)]
    # (points, seeds, epochs) -> lattice order, epochs fastest: (points * epochs, seeds)
    losses = np.swapaxes(np.array(curves), 1, 2).reshape(-1, SEEDS)
    np.savez_compressed(FOLDER / f"{name}.npz", space=SPACE.to_json(), losses=losses.astype(np.float32))
    print(f"{name}: {len(losses)} points, {SEEDS} seeds, {time.process_time() - start:.0f} CPU seconds")
