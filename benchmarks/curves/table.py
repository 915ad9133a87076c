"""The grid, the trainings that fill it, and the objective that plays them back."""

from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

import hyppo

TABLE = Path(__file__).parent / "digits.npz"
REPLICAS, EPOCHS = 6, 16

SPACE = hyppo.Space(
    lr=hyppo.Ordinal([3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1]),
    width=hyppo.Ordinal([8, 16, 32, 64]),
    batch=hyppo.Ordinal([16, 64, 256]),
    dropout=hyppo.Choice([0.0, 0.3]),
)


def points() -> list[dict[str, Any]]:
    """All points, in the order of the table's rows."""
    axes = [[p.value(i) for i in range(p.levels)] for p in SPACE.parameters.values()]
    return [dict(zip(SPACE.names, values, strict=True)) for values in product(*axes)]


@lru_cache(maxsize=1)
def curves() -> npt.NDArray[np.float64]:
    """Validation losses after each epoch, (points, replicas, epochs)."""
    with np.load(TABLE) as table:
        return cast("npt.NDArray[np.float64]", table["loss"].astype(np.float64))


@lru_cache(maxsize=1)
def _rows() -> dict[tuple[float, ...], int]:
    return {tuple(point.values()): row for row, point in enumerate(points())}


def curves_of(params: dict[str, Any]) -> npt.NDArray[np.float64]:
    """Of one point, (replicas, epochs)."""
    row = _rows()[tuple(params[name] for name in SPACE.names)]
    loss: npt.NDArray[np.float64] = curves()[row]
    return loss


def play(replica: hyppo.Replica, shift: int = 0) -> float:
    """One training out of the table: of a point's six that of the replica's index, counted from `shift`."""
    loss = float("inf")
    for epoch, loss in enumerate(curves_of(replica.params)[(shift + replica.index) % REPLICAS].tolist()):
        replica.report(epoch, loss)
        if replica.should_stop:
            break
    return loss


def _train(point: dict[str, Any], seed: int) -> list[float]:
    import torch
    from sklearn.datasets import load_digits
    from torch import nn

    digits = load_digits()
    x = torch.tensor(digits.data, dtype=torch.float32) / 16
    y = torch.tensor(digits.target)
    torch.manual_seed(seed)
    width, batch = int(point["width"]), int(point["batch"])
    network = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Dropout(point["dropout"]), nn.Linear(width, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=point["lr"])
    losses = []
    for _ in range(EPOCHS):
        network.train()
        order = torch.randperm(600)
        for at in range(0, 600, batch):
            rows = order[at : at + batch]
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(network(x[rows]), y[rows]))
            optimizer.step()
        network.eval()
        with torch.no_grad():
            losses.append(float(nn.functional.cross_entropy(network(x[600:1200]), y[600:1200])))
    return losses


def tabulate() -> None:
    """Train everything, and write the table."""
    import torch

    torch.set_num_threads(1)
    grid = points()
    loss = [[_train(point, 1000 * row + replica) for replica in range(REPLICAS)] for row, point in enumerate(grid)]
    np.savez_compressed(TABLE, loss=np.array(loss, dtype=np.float32))
