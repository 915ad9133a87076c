"""Gradient-boosted trees on scikit-learn's diabetes data; loss: squared error over the variance, on 221 people.

Without subsampling of rows and columns two trainings hardly differ: the noise depends on the configuration.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

import hyppo
from benchmarks.optimizers.problems.problem import FloatArray
from benchmarks.optimizers.tabulate.table import Table

SEEDS = 10
TREES = (8, 16, 40)
SPACE = hyppo.Space(
    rate=hyppo.Ordinal([0.03, 0.1, 0.3, 1.0]),
    depth=hyppo.Ordinal([1, 2, 4]),
    subsample=hyppo.Ordinal([0.25, 0.5, 1.0]),
    columns=hyppo.Choice(["all", "third"]),
    trees=hyppo.Ordinal(TREES),
)


@cache
def _data() -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes()
    order = np.random.default_rng(1).permutation(len(bunch.target))
    x, y = bunch.data[order], bunch.target[order]
    return x[:221], y[:221], x[221:], y[221:]


def _train(params: Mapping[str, Any]) -> FloatArray:
    from sklearn.ensemble import GradientBoostingRegressor

    x, y, x_valid, y_valid = _data()
    losses = np.empty((SEEDS, len(TREES)))
    for seed in range(SEEDS):
        model = GradientBoostingRegressor(
            learning_rate=params["rate"],
            max_depth=params["depth"],
            subsample=params["subsample"],
            max_features=None if params["columns"] == "all" else 1 / 3,
            n_estimators=max(TREES),
            random_state=seed,
        ).fit(x, y)
        forecasts = [f for n, f in enumerate(model.staged_predict(x_valid), 1) if n in TREES]
        losses[seed] = [np.mean((f - y_valid) ** 2) / y_valid.var() for f in forecasts]
    return losses


TABLE = Table(SPACE, _train)
