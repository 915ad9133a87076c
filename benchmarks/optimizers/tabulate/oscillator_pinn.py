"""A physics-informed network that solves a damped oscillator; loss: log10 of the relative error of its solution.

u'' + 2 d u' + w^2 u = 0 with u(0) = 1, u'(0) = 0 on [0, 1], learnt from the residual of the equation at random times
and from the initial values. Whether a training leaves the flat solution is often luck: heavy tails.

References
----------
Raissi, Perdikaris & Karniadakis: Physics-informed neural networks. Journal of Computational Physics 378 (2019).
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch

import hyppo
from benchmarks.optimizers.tabulate.stack import Stack, Tensor, columns, step
from benchmarks.optimizers.tabulate.table import Table

SEEDS = 10
DAMPING, FREQUENCY = 1.5, 7.0
TIMES = 24  # of the residual, drawn again for each update
UPDATES = (75, 150, 300)
SPACE = hyppo.Space(
    width=hyppo.Ordinal([6, 20]),
    layers=hyppo.Integer(1, 2),
    activation=hyppo.Choice(["tanh", "sine"]),
    rate=hyppo.Ordinal([3e-3, 1e-2, 3e-2]),
    weight=hyppo.Ordinal([1e-4, 1e-3, 1e-2]),
    updates=hyppo.Ordinal(UPDATES),
)


def _exact(t: Tensor) -> Tensor:
    w = (FREQUENCY**2 - DAMPING**2) ** 0.5
    return torch.exp(-DAMPING * t) * (torch.cos(w * t) + DAMPING / w * torch.sin(w * t))


def _train(params: Mapping[str, Any]) -> Any:
    stack = Stack(SEEDS)
    widths = [1] + [params["width"]] * params["layers"] + [1]
    layers = [(stack.parameter(a, a, b), stack.parameter(a, 1, b)) for a, b in pairwise(widths)]
    optimizer = stack.optimizer("adam", params["rate"])

    def solve(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """u, u' and u'' at times (s, n, 1), the derivatives carried through the layers."""
        u, du, ddu = 3.0 * t, torch.full_like(t, 3.0), torch.zeros_like(t)
        for weight, bias in layers[:-1]:
            u, du, ddu = torch.baddbmm(bias, u, weight), du @ weight, ddu @ weight
            if params["activation"] == "tanh":
                value = torch.tanh(u)
                first = 1.0 - value**2
                second = -2.0 * value * first
            else:
                value, first = torch.sin(u), torch.cos(u)
                second = -value
            u, du, ddu = value, first * du, second * du**2 + first * ddu
        weight, bias = layers[-1]
        return torch.baddbmm(bias, u, weight), du @ weight, ddu @ weight

    start, ends = torch.zeros(SEEDS, 1, 1), torch.linspace(0.0, 1.0, 101).reshape(1, -1, 1).expand(SEEDS, -1, -1)
    truth = _exact(ends)
    curve = []
    for update in range(1, max(UPDATES) + 1):
        u, du, ddu = solve(torch.cat([start, stack.uniform(TIMES, 1)], dim=1))
        residual = (ddu + 2.0 * DAMPING * du + FREQUENCY**2 * u)[:, 1:]
        initial = (u[:, 0, 0] - 1.0) ** 2 + 0.1 * du[:, 0, 0] ** 2
        step(optimizer, initial + params["weight"] * (residual**2).mean(dim=(1, 2)))
        if update in UPDATES:
            with torch.no_grad():
                error = (solve(ends)[0] - truth).norm(dim=(1, 2)) / truth.norm(dim=(1, 2))
                curve.append(error.log10())
    return columns(curve)


TABLE = Table(SPACE, _train)
