"""A generative adversarial network on eight Gaussians in a ring; loss: energy distance to 400 fresh points.

Whether a training finds all eight is mostly luck: the noise is as large as the differences between configurations.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.functional import softplus

import hyppo
from benchmarks.optimizers.tabulate.stack import Stack, Tensor, columns, step
from benchmarks.optimizers.tabulate.table import Table

SEEDS = 10
BATCH, WIDTH = 48, 24
UPDATES = (60, 150)
SPACE = hyppo.Space(
    rate_generator=hyppo.Ordinal([1e-3, 4e-3, 1.6e-2]),
    rate_critic=hyppo.Ordinal([1e-3, 4e-3, 1.6e-2]),
    latent=hyppo.Ordinal([1, 4]),
    criterion=hyppo.Choice(["logistic", "hinge", "least squares"]),
    updates=hyppo.Ordinal(UPDATES),
)


def _ring(rows: int) -> Tensor:
    rng = np.random.default_rng(2)
    angle = 2.0 * np.pi * rng.integers(8, size=rows) / 8
    points = 1.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.12 * rng.normal(size=(rows, 2))
    return torch.from_numpy(points).float()


def _critic_loss(criterion: str, real: Tensor, fake: Tensor) -> Tensor:
    if criterion == "logistic":
        terms = softplus(-real) + softplus(fake)
    elif criterion == "hinge":
        terms = torch.relu(1.0 - real) + torch.relu(1.0 + fake)
    else:
        terms = (real - 1.0) ** 2 + fake**2
    return terms.mean(dim=(1, 2))


def _generator_loss(criterion: str, fake: Tensor) -> Tensor:
    terms = {"logistic": softplus(-fake), "hinge": -fake, "least squares": (fake - 1.0) ** 2}[criterion]
    return terms.mean(dim=(1, 2))


def _train(params: Mapping[str, Any]) -> Any:
    points = _ring(1200)
    train, valid = points[:800], points[800:]
    generating, judging = Stack(SEEDS), Stack(SEEDS)
    generator = generating.mlp([params["latent"], WIDTH, WIDTH, 2], "relu")
    critic = judging.mlp([2, WIDTH, WIDTH, 1], "relu")
    turn_generator = generating.optimizer("adam", params["rate_generator"])
    turn_critic = judging.optimizer("adam", params["rate_critic"])
    for turn in (turn_generator, turn_critic):
        turn.param_groups[0]["betas"] = (0.5, 0.9)
    curve = []
    for update in range(1, max(UPDATES) + 1):
        fake = generator(generating.normal(BATCH, params["latent"]))
        real = train[(judging.uniform(BATCH) * len(train)).long()]
        step(turn_critic, _critic_loss(params["criterion"], critic(real), critic(fake.detach())))
        step(turn_generator, _generator_loss(params["criterion"], critic(fake)))
        if update in UPDATES:
            with torch.no_grad():
                curve.append(_energy_distance(generator(generating.normal(len(valid), params["latent"])), valid))
    return columns(curve)


def _energy_distance(made: Tensor, real: Tensor) -> Tensor:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|, (s, n, 2) and (n, 2) -> (s,)."""
    real = real.expand(len(made), -1, -1)
    cross, own, theirs = (torch.cdist(a, b).mean(dim=(1, 2)) for a, b in ((made, real), (made, made), (real, real)))
    return 2.0 * cross - own - theirs


TABLE = Table(SPACE, _train)
