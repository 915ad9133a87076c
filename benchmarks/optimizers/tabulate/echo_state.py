"""Echo state networks that forecast the Lorenz system; loss: log10 of the squared error over 40 steps of their own.

Only the readout is trained, by ridge regression, so that one training is cheap; the seed draws the reservoir. A network
that is fed its own forecasts may run away: a failed training. Its errors grow exponentially: heavy tails.

References
----------
Jaeger & Haas: Harnessing nonlinearity. Science 304 (2004).
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

import hyppo
from benchmarks.optimizers.problems.problem import FloatArray
from benchmarks.optimizers.tabulate.table import Table

SEEDS = 12
WARM_UP, HORIZON, STARTS = 40, 40, 12
LENGTHS = (100, 200, 400)
BOUND = 10.0  # standard deviations of the motion, beyond which a forecast has run away
SPACE = hyppo.Space(
    size=hyppo.Ordinal([20, 40, 80]),
    radius=hyppo.Ordinal([0.2, 0.5, 0.8, 1.1, 1.4]),
    leak=hyppo.Ordinal([0.3, 0.6, 1.0]),
    ridge=hyppo.Ordinal([1e-10, 1e-7, 1e-4, 1e-1]),
    readout=hyppo.Choice(["linear", "squares"]),
    length=hyppo.Ordinal(LENGTHS),
)


@cache
def _motion() -> FloatArray:
    """Standardised states (times, 3), 0.04 apart."""
    state, states, h = np.array([1.0, 1.0, 20.0]), [], 0.004
    for n in range(10 * (200 + WARM_UP + max(LENGTHS) + STARTS * HORIZON + HORIZON)):
        middle = state + 0.5 * h * _slope(state)
        state = state + h * _slope(middle)
        if n % 10 == 9:
            states.append(state)
    motion = np.array(states[200:])
    return np.asarray((motion - motion.mean(axis=0)) / motion.std(axis=0))


def _slope(state: FloatArray) -> FloatArray:
    x, y, z = state
    return np.array([10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 / 3.0 * z])


def _train(params: Mapping[str, Any]) -> FloatArray:
    motion, size, leak = _motion(), params["size"], params["leak"]
    inner, outer = np.empty((SEEDS, size, size)), np.empty((SEEDS, 3, size))
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        links = rng.normal(size=(size, size)) * (rng.random((size, size)) < 0.3)
        inner[seed] = links * params["radius"] / np.abs(np.linalg.eigvals(links)).max()
        outer[seed] = rng.uniform(-0.3, 0.3, (3, size))

    def advance(h: FloatArray, x: FloatArray) -> FloatArray:
        return np.asarray((1.0 - leak) * h + leak * np.tanh(h @ inner + x @ outer))

    def features(h: FloatArray) -> FloatArray:
        parts = [h, np.ones_like(h[..., :1])] + ([h**2] if params["readout"] == "squares" else [])
        return np.concatenate(parts, axis=-1)

    h, states = np.zeros((SEEDS, 1, size)), []
    for x in motion[:-HORIZON]:
        h = advance(h, np.broadcast_to(x, (SEEDS, 1, 3)))
        states.append(h[:, 0])
    seen = np.stack(states, axis=1)  # (s, times, size): after this state came the next
    starts = WARM_UP + max(LENGTHS) + HORIZON * np.arange(STARTS)
    losses = np.empty((SEEDS, len(LENGTHS)))
    for k, length in enumerate(LENGTHS):
        rows = slice(WARM_UP, WARM_UP + length)
        f, wanted = features(seen[:, rows]), motion[rows.start + 1 : rows.stop + 1]
        gram = f.transpose(0, 2, 1) @ f + params["ridge"] * length * np.eye(f.shape[-1])
        weights = np.linalg.solve(gram, f.transpose(0, 2, 1) @ wanted)
        h, error, away = seen[:, starts], np.zeros(SEEDS), np.zeros(SEEDS, dtype=bool)
        for n in range(1, HORIZON + 1):
            x = features(h) @ weights
            away |= ~(np.abs(x) < BOUND).all(axis=(1, 2))
            x = np.clip(np.nan_to_num(x), -BOUND, BOUND)
            error += ((x - motion[starts + n]) ** 2).mean(axis=(1, 2)) / HORIZON
            h = advance(h, x)
        losses[:, k] = np.where(away, np.nan, np.log10(error))
    return losses


TABLE = Table(SPACE, _train, failed=2.0)
