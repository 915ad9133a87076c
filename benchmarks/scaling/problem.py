"""What the simulated and the sleeping trainings return, and how long they take."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

import hyppo

NOISE = 0.02  # standard deviation of a training's loss; the losses of the space span some 0 to 3
OPTIMUM = 0.0

SPACE = hyppo.Space(
    lr=hyppo.Real(1e-5, 1e-1, log=True),
    width=hyppo.Integer(8, 512, log=True),
    depth=hyppo.Integer(1, 8),
    dropout=hyppo.Real(0.0, 0.6),
    momentum=hyppo.Real(0.5, 0.99),
    activation=hyppo.Choice(["relu", "gelu", "tanh"]),
)


def true_loss(params: Mapping[str, Any]) -> float:
    """Loss without noise, 0 at best: a curved valley of learning rate and width, ripples, and a best activation.

    >>> true_loss({"lr": 1e-3, "width": 64, "depth": 4, "dropout": 0.2, "momentum": 0.9, "activation": "gelu"})
    0.0
    """
    lr = math.log10(params["lr"]) + 3.0
    width = math.log2(params["width"]) - 6.0
    depth = (params["depth"] - 4) / 4.0
    dropout = (params["dropout"] - 0.2) / 0.4
    momentum = (params["momentum"] - 0.9) / 0.4
    valley = (lr + 0.15 * width) ** 2 + 0.1 * width**2
    bowl = 0.5 * depth**2 + 0.4 * dropout**2 + 0.6 * (momentum + 0.3 * lr) ** 2
    ripples = 0.05 * (1.0 - math.cos(4.0 * math.pi * dropout) * math.cos(2.0 * math.pi * lr))
    return float(valley + bowl + ripples) + {"relu": 0.1, "gelu": 0.0, "tanh": 0.3}[params["activation"]]


def noisy_loss(params: Mapping[str, Any], seed: int) -> float:
    """`true_loss` with the noise of one training."""
    return true_loss(params) + NOISE * float(np.random.default_rng(seed).standard_normal())


def trained(replica: hyppo.Replica) -> float:
    """The objective of both: simulated groups only compute its loss, sleeping ones sleep first."""
    return noisy_loss(replica.params, replica.seed)


def seconds_of(seed: int, mean: float, sigma: float) -> float:
    """Log-normal training time of this mean, sigma the standard deviation of its logarithm; the same for a seed.

    >>> round(float(np.mean([seconds_of(seed, 60.0, 0.5) for seed in range(20_000)])))
    60
    """
    normal = float(np.random.default_rng([seed, 1]).standard_normal())
    return mean * math.exp(sigma * normal - 0.5 * sigma**2)
