"""A fully connected network on 120 of scikit-learn's digits; loss: share of wrong ones among 40 others.

So few validation examples that losses come in steps of 1/40 and tie; at high rates of plain descent trainings diverge,
which is a failure.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch

import hyppo
from benchmarks.optimizers.tabulate.stack import Stack, Tensor, columns, cross_entropy, step
from benchmarks.optimizers.tabulate.table import Table

SEEDS = 12
EPOCHS = (4, 8, 16)
SPACE = hyppo.Space(
    width=hyppo.Ordinal([6, 18, 54]),
    optimizer=hyppo.Choice(["adam", "sgd"]),
    rate=hyppo.Ordinal([1e-3, 4e-3, 1.6e-2, 6.4e-2, 2.56e-1]),
    batch=hyppo.Ordinal([8, 24]),
    dropout=hyppo.Ordinal([0.0, 0.4]),
    epochs=hyppo.Ordinal(EPOCHS),
)


@cache
def _data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(7).permutation(len(bunch.target))[:160]
    x = torch.from_numpy(bunch.data[order]).float() / 4.0 - 1.2
    y = torch.from_numpy(bunch.target[order]).long()
    return x[:120], y[:120], x[120:], y[120:]


def _train(params: Mapping[str, Any]) -> Any:
    x, y, x_valid, y_valid = _data()
    stack = Stack(SEEDS)
    width = params["width"]
    first, second, last = stack.linear(64, width), stack.linear(width, width), stack.linear(width, 10)
    optimizer = stack.optimizer(params["optimizer"], params["rate"])

    def forward(inputs: Tensor, dropout: float) -> Tensor:
        h = torch.relu(first(inputs))
        return last(stack.drop(torch.relu(second(stack.drop(h, dropout))), dropout))

    curve = []
    for epoch in range(1, max(EPOCHS) + 1):
        for rows in stack.batches(len(x), params["batch"]):
            step(optimizer, cross_entropy(forward(x[rows], params["dropout"]), y[rows]))
        if epoch in EPOCHS:
            with torch.no_grad():
                logits = forward(x_valid.expand(SEEDS, -1, -1), 0.0)
            wrong = (logits.argmax(dim=-1) != y_valid).float().mean(dim=1)
            curve.append(torch.where(logits.isfinite().all(dim=(1, 2)), wrong, torch.nan))
    return columns(curve)


TABLE = Table(SPACE, _train, failed=0.9)
