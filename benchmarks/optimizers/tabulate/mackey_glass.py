"""Recurrent and attention networks that forecast the Mackey-Glass equation; loss: squared error over the variance.

The series (delay 17) is computed here and measured with noise; a network sees 12 values and forecasts the one 3 later.

References
----------
Mackey & Glass: Oscillation and chaos in physiological control systems. Science 197 (1977).
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch

import hyppo
from benchmarks.optimizers.tabulate.stack import Stack, Tensor, columns, step
from benchmarks.optimizers.tabulate.table import Table

SEEDS = 10
BATCH, WINDOW, AHEAD = 24, 12, 3
UPDATES = (25, 50, 100)
SPACE = hyppo.Space(
    cell=hyppo.Choice(["plain", "gated", "attention"]),
    width=hyppo.Ordinal([4, 12]),
    rate=hyppo.Ordinal([1e-3, 3e-3, 1e-2, 3e-2, 1e-1]),
    dropout=hyppo.Ordinal([0.0, 0.2]),
    updates=hyppo.Ordinal(UPDATES),
)


@cache
def _data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Windows (n, WINDOW) and targets (n,), for training and validation."""
    rng = np.random.default_rng(4)
    delay, fine = 17, 10
    values = list(1.2 + 0.1 * rng.normal(size=1)) * (delay * fine + 1)
    for _ in range(4000 * fine):
        now, before = values[-1], values[-1 - delay * fine]
        values.append(now + (0.2 * before / (1.0 + before**10) - 0.1 * now) / fine)
    series = np.array(values[500 * fine :: 4 * fine])
    series = (series - series.mean()) / series.std()
    measured = series + 0.1 * rng.normal(size=len(series))
    count = len(series) - WINDOW - AHEAD
    rows = np.arange(count)[:, None] + np.arange(WINDOW)
    windows = torch.from_numpy(measured[rows]).float()
    targets = torch.from_numpy(series[np.arange(count) + WINDOW + AHEAD - 1]).float()
    noisy_targets = torch.from_numpy(measured[np.arange(count) + WINDOW + AHEAD - 1]).float()
    half = count // 2
    return windows[:half], noisy_targets[:half], windows[half + WINDOW :], targets[half + WINDOW :]


def _plain(stack: Stack, width: int) -> Callable[[Tensor], Tensor]:
    enter, turn = stack.linear(1, width), stack.linear(width, width)

    def encode(x: Tensor) -> Tensor:
        h = torch.zeros(len(x), x.shape[1], width)
        for t in range(WINDOW):
            h = torch.tanh(enter(x[:, :, t : t + 1]) + turn(h))
        return h

    return encode


def _gated(stack: Stack, width: int) -> Callable[[Tensor], Tensor]:
    """Gated recurrent unit."""
    enter, turn = stack.linear(1, 3 * width), stack.linear(width, 3 * width)

    def encode(x: Tensor) -> Tensor:
        h = torch.zeros(len(x), x.shape[1], width)
        for t in range(WINDOW):
            a, b = enter(x[:, :, t : t + 1]).chunk(3, dim=-1), turn(h).chunk(3, dim=-1)
            reset, keep = torch.sigmoid(a[0] + b[0]), torch.sigmoid(a[1] + b[1])
            h = keep * h + (1.0 - keep) * torch.tanh(a[2] + reset * b[2])
        return h

    return encode


def _attention(stack: Stack, width: int) -> Callable[[Tensor], Tensor]:
    """One query for all, keys and values from each value and a learnt code of its place."""
    place = stack.parameter(1, 1, WINDOW, width)
    enter = stack.linear(1, width)
    key, value = stack.linear(width, width), stack.linear(width, width)
    query = stack.parameter(1, 1, width, 1)

    def encode(x: Tensor) -> Tensor:
        seeds, rows = x.shape[:2]
        h = enter(x.reshape(seeds, -1, 1)).reshape(seeds, rows, WINDOW, width)
        h = torch.tanh(h + place).reshape(seeds, -1, width)
        keys, values = (layer(h).reshape(seeds, rows, WINDOW, width) for layer in (key, value))
        weights = torch.softmax((keys @ query) / width**0.5, dim=2)
        return torch.tanh((weights * values).sum(dim=2))

    return encode


CELLS = {"plain": _plain, "gated": _gated, "attention": _attention}


def _train(params: Mapping[str, Any]) -> Any:
    x, y, x_valid, y_valid = _data()
    stack = Stack(SEEDS)
    encode = CELLS[params["cell"]](stack, params["width"])
    last = stack.linear(params["width"], 1)
    optimizer = stack.optimizer("adam", params["rate"])
    curve = []
    for update in range(1, max(UPDATES) + 1):
        rows = (stack.uniform(BATCH) * len(x)).long()
        forecast = last(stack.drop(encode(x[rows]), params["dropout"]))[..., 0]
        step(optimizer, ((forecast - y[rows]) ** 2).mean(dim=1))
        if update in UPDATES:
            with torch.no_grad():
                forecast = last(encode(x_valid.expand(SEEDS, -1, -1)))[..., 0]
            curve.append(((forecast - y_valid) ** 2).mean(dim=1) / y_valid.var())
    return columns(curve)


TABLE = Table(SPACE, _train)
