"""A network that learns the motion of a damped pendulum; loss: log10 of the error of its own motion over 60 steps.

Trained by plain stochastic gradient descent through 1 to 3 of its own steps. At high rates many trainings diverge:
failures. Small errors of a step grow to large ones of the motion, so that losses have heavy tails.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch

import hyppo
from benchmarks.optimizers.tabulate.stack import Stack, Tensor, columns, step
from benchmarks.optimizers.tabulate.table import Table

SEEDS = 12
BATCH, HORIZON = 32, 60
UPDATES = (60, 150, 300)
DIVERGED = 1e3  # an error of the motion beyond it is a failed training: the pendulum itself stays within 5
SPACE = hyppo.Space(
    rate=hyppo.Ordinal([1e-2, 3e-2, 1e-1, 3e-1, 6e-1, 1.2]),
    momentum=hyppo.Ordinal([0.0, 0.9]),
    unroll=hyppo.Integer(1, 3),
    width=hyppo.Ordinal([6, 24]),
    activation=hyppo.Choice(["relu", "tanh"]),
    updates=hyppo.Ordinal(UPDATES),
)


@cache
def _data() -> tuple[Tensor, Tensor]:
    """Measured training motions and true validation motions, (motions, times, 2): angle and speed."""
    rng = np.random.default_rng(1)
    state = np.stack([rng.uniform(-2.5, 2.5, 40), rng.uniform(-2.0, 2.0, 40)], axis=1)
    states = [state]
    h = 0.01
    for n in range(1, 10 * HORIZON + 1):
        middle = state + 0.5 * h * _slope(state)
        state = state + h * _slope(middle)
        if n % 10 == 0:
            states.append(state)
    motions = np.stack(states, axis=1)
    noisy = motions + 0.01 * rng.normal(size=motions.shape)
    return torch.from_numpy(noisy[:20]).float(), torch.from_numpy(motions[20:]).float()


def _slope(state: Any) -> Any:
    return np.stack([state[:, 1], -2.0 * np.sin(state[:, 0]) - 0.1 * state[:, 1]], axis=1)


def _train(params: Mapping[str, Any]) -> Any:
    train, valid = _data()
    stack = Stack(SEEDS)
    change = stack.mlp([2, params["width"], params["width"], 2], params["activation"])
    optimizer = stack.optimizer("sgd", params["rate"], params["momentum"])
    starts = HORIZON - params["unroll"]
    curve = []
    for update in range(1, max(UPDATES) + 1):
        pick = (stack.uniform(BATCH) * len(train) * starts).long()
        motion, time = pick // starts, pick % starts
        state, error = train[motion, time], torch.zeros(SEEDS)
        for ahead in range(1, params["unroll"] + 1):
            state = state + 0.1 * change(state)
            error = error + 100.0 * ((state - train[motion, time + ahead]) ** 2).mean(dim=(1, 2))
        step(optimizer, error / params["unroll"])
        if update in UPDATES:
            curve.append(_rollout(change, valid))
    return columns(curve)


@torch.no_grad()
def _rollout(change: Any, valid: Tensor) -> Tensor:
    """log10 of the mean squared error of the motions, (s,); NaN if they leave all bounds."""
    state = valid[:, 0].expand(SEEDS, -1, -1)
    errors = []
    for n in range(1, HORIZON + 1):
        state = state + 0.1 * change(state)
        errors.append(((state - valid[:, n]) ** 2).mean(dim=(1, 2)))
    error = torch.stack(errors).mean(dim=0)
    return torch.where(error < DIVERGED, error, torch.nan).log10()


TABLE = Table(SPACE, _train, failed=3.0)
