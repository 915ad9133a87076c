"""What is known, as surrogates take it.

symbol   shape   meaning
unit     (n, d)  lattice coordinates of visited points
x        (n, D)  their features
y        (n,)    their scores, transformed
noise    (n,)    variance of y's noise
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hyppo import surrogates
from hyppo.config import SURROGATES
from hyppo.errors import StudyError
from hyppo.space import FloatArray, IntArray, Space

if TYPE_CHECKING:
    from hyppo.surrogates.outputs import Outputs


def checked(surrogate: str, risk: float) -> None:
    if surrogate not in SURROGATES:
        raise StudyError(f"surrogate: expected one of {list(SURROGATES)}, got {surrogate!r}")
    if not (math.isfinite(risk) and risk >= 0.0):
        raise StudyError(f"risk: expected a finite number >= 0, got {risk!r}")


@dataclass(frozen=True)
class Observations:
    """Trials with a finite loss, rows in the order in which they first settled."""

    unit: FloatArray  # (n, d) lattice coordinates
    mean: FloatArray  # (n,) mean loss
    spread: FloatArray  # (n,) sample standard deviation, NaN where unknown
    count: IntArray  # (n,) finite replicas


@dataclass(frozen=True)
class Evidence:
    """Observations as surrogates take them: equal points merged, scores transformed, noise carried along."""

    row: IntArray  # (m,) row of the observations
    unit: FloatArray  # (m, d)
    x: FloatArray  # (m, D)
    score: FloatArray  # (m,)
    y: FloatArray  # (m,)
    noise: FloatArray | None  # (m,) variance of y; None where no point has replicas
    freedom: float  # degrees of freedom behind `noise`
    count: IntArray  # (m,)
    outputs: "Outputs"

    @property
    def n(self) -> int:
        return self.y.size

    def at(self, rows: IntArray) -> "Evidence":
        return Evidence(
            self.row[rows],
            self.unit[rows],
            self.x[rows],
            self.score[rows],
            self.y[rows],
            None if self.noise is None else self.noise[rows],
            self.freedom,
            self.count[rows],
            self.outputs,
        )


def gather(space: Space, data: Observations, risk: float) -> Evidence:
    merged = surrogates.outputs.merge(space.keys(data.unit), data.mean, data.spread, data.count)
    unit = data.unit[merged.row]
    x = space.features(unit)
    variance = surrogates.spread.smooth(x, merged.variance, merged.freedom, space.owner)
    score = merged.mean if variance is None else merged.mean + risk * np.sqrt(variance)
    outputs = surrogates.outputs.fit(score)
    y = outputs.forward(score)
    noise: FloatArray | None = None
    if variance is not None:
        # Of the mean, variance / replicas; of the spread, by its degrees of freedom (the prior's among them).
        spread_term = risk**2 / (2.0 * (surrogates.spread.PRIOR_FREEDOM + merged.freedom))
        noise = variance * (1.0 / merged.count + spread_term) * outputs.derivative(score) ** 2
        noise = np.clip(noise, 1e-8, 10.0)
    return Evidence(merged.row, unit, x, score, y, noise, float(merged.freedom.sum()), merged.count, outputs)


def thinned(evidence: Evidence, limit: int) -> IntArray:
    """At most `limit` rows: a third the best, a third the nearest to the best, the rest spread over time."""
    n = evidence.n
    if n <= limit:
        return np.arange(n)
    order = np.argsort(evidence.y, kind="stable")
    keep = np.zeros(n, dtype=bool)
    keep[order[: limit // 3]] = True
    distance = np.sum((evidence.x - evidence.x[order[0]]) ** 2, axis=1)
    distance[keep] = np.inf
    keep[np.argsort(distance, kind="stable")[: limit // 3]] = True
    others = np.flatnonzero(~keep)
    keep[others[np.linspace(0, others.size - 1, limit - int(keep.sum())).astype(np.int64)]] = True
    return np.flatnonzero(keep)
