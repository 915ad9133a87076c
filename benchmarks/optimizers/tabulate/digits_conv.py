"""A convolutional network on scikit-learn's digits; loss: cross-entropy on 300 validation images."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d

import hyppo
from benchmarks.optimizers.tabulate.stack import Stack, Tensor, columns, cross_entropy, step
from benchmarks.optimizers.tabulate.table import Table

SEEDS = 12
BATCH = 32
EPOCHS = (3, 6, 12)
SPACE = hyppo.Space(
    channels=hyppo.Ordinal([2, 4, 8]),
    rate=hyppo.Ordinal([3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1]),
    dropout=hyppo.Ordinal([0.0, 0.4]),
    pool=hyppo.Choice(["max", "mean"]),
    epochs=hyppo.Ordinal(EPOCHS),
)


def _data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images (n, 8, 8) and labels (n,), for training and validation."""
    import numpy as np
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))[:660]
    images = torch.from_numpy(bunch.images[order]).float() / 16.0 - 0.3
    labels = torch.from_numpy(bunch.target[order]).long()
    return images[:360], labels[:360], images[360:], labels[360:]


def _train(params: Mapping[str, Any]) -> Any:
    x, y, x_valid, y_valid = _data()
    stack = Stack(SEEDS)
    c = params["channels"]
    pool = max_pool2d if params["pool"] == "max" else avg_pool2d
    shapes = [(1, c), (c, 2 * c)]
    kernels = [(stack.parameter(9 * i, o, i, 3, 3), stack.parameter(9 * i, o)) for i, o in shapes]
    dense = stack.linear(2 * c * 4, 10)
    optimizer = stack.optimizer("adam", params["rate"])

    def forward(images: Tensor, dropout: float) -> Tensor:
        """(s, b, 8, 8) -> (s, b, 10); the seeds are the groups of the convolution."""
        h = images.transpose(0, 1)
        for weight, bias in kernels:
            h = pool(torch.relu(conv2d(h, weight.flatten(0, 1), bias.flatten(), padding=1, groups=SEEDS)), 2)
        h = h.reshape(len(h), SEEDS, -1).transpose(0, 1)
        return dense(stack.drop(h, dropout))

    curve = []
    for epoch in range(1, max(EPOCHS) + 1):
        for rows in stack.batches(len(x), BATCH):
            step(optimizer, cross_entropy(forward(x[rows], params["dropout"]), y[rows]))
        if epoch in EPOCHS:
            with torch.no_grad():
                logits = forward(x_valid.expand(SEEDS, -1, -1, -1), 0.0)
                curve.append(cross_entropy(logits, y_valid.expand(SEEDS, -1)))
    return columns(curve)


TABLE = Table(SPACE, _train)
