"""Gaussian processes at several levels of noise, weighted by how likely each level is.

    symbol  shape   meaning
    t       (k,)    levels: log of the only noise variance, or of the factor of known ones (see `gp`)
    L       (k,)    minus log posterior of the other hyperparameters at their best, given t
    w       (k,)    weights, proportional to exp(-L) p(t)
    m, s    (k, q)  mean and standard deviation of a quantity at each level

Single trainings hardly tell noise from a rough function: the most likely level alone is overconfident if it is low,
since the process then takes lucky losses for the truth. The distribution of a quantity is the mixture
sum_k w_k N(m_k, s_k^2).

References
----------
Rasmussen & Williams 2006, Gaussian Processes for Machine Learning, section 5.2 (integrating over hyperparameters).
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from hyppo.space import FloatArray, IntArray
from hyppo.surrogates import gp
from hyppo.surrogates.quasi_newton import minimise

ITERATIONS = 8  # steps of a fit, which starts at the hyperparameters of a neighbouring level
HALVINGS = 50  # of the bracket of a quantile


@dataclass(frozen=True)
class Levels:
    """The processes and the weights of their levels."""

    level: FloatArray  # (k,) t
    weight: FloatArray  # (k,) w
    models: tuple[gp.GP, ...]

    def on(self, x: FloatArray, y: FloatArray, noise: FloatArray | None) -> "Levels":
        """The same hyperparameters and weights, conditioned on other data."""
        models = tuple(gp.condition(x, y, m.theta, noise=noise, owner=m.owner) for m in self.models)
        return replace(self, models=models)


def fit(
    x: FloatArray,
    y: FloatArray,
    level: npt.ArrayLike,
    prior: tuple[float, float],
    *,
    start: FloatArray,
    noise: FloatArray | None,
    owner: IntArray,
) -> Levels:
    """Fit the other hyperparameters at each level, the nearest to `start` first, the others from their neighbours.

    Parameters
    ----------
    x : (n, D) array
    y : (n,) array
    level : (k,) array
        t.
    prior : (float, float)
        Mean and standard deviation of t, which is normal.
    start : (d + 2,) array
        Hyperparameters to start from.
    noise, owner
        As for `gp.fit`.

    Examples
    --------
    >>> x = np.linspace(0, 1, 12)[:, None]
    >>> y = np.sin(6 * x[:, 0]) + np.where(np.arange(12) % 2, 0.1, -0.1)
    >>> start = gp.cold_start(1, known_noise=False)
    >>> found = fit(x, y, [-9.0, -5.0, -1.0], (-3.0, 1.5), start=start, noise=None, owner=np.array([0]))
    >>> int(np.argmax(found.weight))
    1
    """
    levels = np.asarray(level, dtype=np.float64)
    known = noise is not None
    variances = np.ones(y.size) if noise is None else noise
    hyper = gp.prior(int(owner.max()) + 1, known)
    minus_log = np.empty(levels.size)
    models: dict[int, gp.GP] = {}
    for k in np.argsort(np.abs(levels - start[-1]), kind="stable").tolist():
        nearest = min(models, key=lambda other: abs(levels[other] - levels[k]), default=None)
        theta = (start if nearest is None else models[nearest].theta).copy()
        low, high = hyper.low.copy(), hyper.high.copy()
        theta[-1] = low[-1] = high[-1] = levels[k]
        # The prior of t is applied below: at its mean it adds nothing here.
        at = replace(hyper, mean=np.append(hyper.mean[:-1], levels[k]), low=low, high=high)
        target = gp.Posterior(x, y, variances, owner, at)
        curvature = np.diag(target.curvature)
        end, minus_log[k], _ = minimise(target, np.clip(theta, low, high), low, high, curvature, iterations=ITERATIONS)
        models[k] = gp.condition(x, y, end, noise=noise, owner=owner)
    log_weight = -minus_log - 0.5 * ((levels - prior[0]) / prior[1]) ** 2
    weight = np.exp(log_weight - log_weight.max())
    return Levels(levels, weight / weight.sum(), tuple(models[k] for k in range(levels.size)))


def quantile(probability: float, mean: FloatArray, std: FloatArray, weight: FloatArray) -> FloatArray:
    """Quantile of q mixtures of k normal distributions, (k, q), (k, q), (k, q) -> (q,).

    >>> quantile(0.95, np.zeros((2, 1)), np.ones((2, 1)), np.full((2, 1), 0.5)).round(3)
    array([1.645])
    """
    width = np.maximum(std, 1e-12)
    low, high = (mean - 9.0 * width).min(axis=0), (mean + 9.0 * width).max(axis=0)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        below = (weight * ndtr((middle - mean) / width)).sum(axis=0) < probability
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray(0.5 * (low + high))
