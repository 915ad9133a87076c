"""A graph network that classifies nodes of a graph with communities; loss: share of wrong nodes among 40.

So few validation examples that losses come in steps of 1/40 and often tie. The graph is drawn once: three communities,
links more frequent inside than between them, features that tell little of the community, 45 training nodes.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch

import hyppo
from benchmarks.optimizers.tabulate.stack import Stack, Tensor, columns, cross_entropy, step
from benchmarks.optimizers.tabulate.table import Table

SEEDS = 12
EPOCHS = (10, 25, 60)
NODES, CLASSES, FEATURES = 160, 3, 6
SPACE = hyppo.Space(
    width=hyppo.Ordinal([2, 6, 18]),
    rate=hyppo.Ordinal([1e-3, 4e-3, 1.6e-2, 6.4e-2, 2.56e-1]),
    layers=hyppo.Integer(1, 3),
    dropout=hyppo.Ordinal([0.0, 0.25, 0.5]),
    skip=hyppo.Choice([False, True]),
    epochs=hyppo.Ordinal(EPOCHS),
)


def _data() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Normalised adjacency (n, n), features (n, f), labels (n,), training and validation nodes."""
    rng = np.random.default_rng(3)
    labels = rng.integers(CLASSES, size=NODES)
    same = labels[:, None] == labels[None, :]
    linked = np.triu(rng.random((NODES, NODES)) < np.where(same, 0.055, 0.022), 1)
    adjacency = (linked | linked.T | np.eye(NODES, dtype=bool)).astype(float)
    root = 1.0 / np.sqrt(adjacency.sum(axis=1))
    centres = rng.normal(size=(CLASSES, FEATURES))
    features = 0.55 * centres[labels] + rng.normal(size=(NODES, FEATURES))
    order = torch.from_numpy(rng.permutation(NODES))
    return (
        torch.from_numpy(adjacency * root[:, None] * root[None, :]).float(),
        torch.from_numpy(features).float(),
        torch.from_numpy(labels).long(),
        order[:45],
        order[45:85],
    )


def _train(params: Mapping[str, Any]) -> Any:
    adjacency, features, labels, train, valid = _data()
    stack = Stack(SEEDS)
    widths = [FEATURES] + [params["width"]] * params["layers"]
    layers = [stack.linear(a, b) for a, b in pairwise(widths)]
    last = stack.linear(params["width"] + (FEATURES if params["skip"] else 0), CLASSES)
    optimizer = stack.optimizer("adam", params["rate"])
    x = features.expand(SEEDS, -1, -1)

    def forward(dropout: float) -> Tensor:
        h = x
        for layer in layers:
            h = torch.relu(layer(adjacency @ stack.drop(h, dropout)))
        h = torch.cat([h, x], dim=-1) if params["skip"] else h
        return last(stack.drop(h, dropout))

    curve = []
    for epoch in range(1, max(EPOCHS) + 1):
        step(optimizer, cross_entropy(forward(params["dropout"])[:, train], labels[train].expand(SEEDS, -1)))
        if epoch in EPOCHS:
            with torch.no_grad():
                guess = forward(0.0)[:, valid].argmax(dim=-1)
            curve.append((guess != labels[valid]).float().mean(dim=1))
    return columns(curve)


TABLE = Table(SPACE, _train)
