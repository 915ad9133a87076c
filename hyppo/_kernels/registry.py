"""Every kernel beside what it must equal, and what it costs: drives the tests and the benchmark.

    symbol   meaning
    q, n, D  candidates, points, feature columns

A reference is numpy and scipy at their ordinary best, not a slow copy of the loop.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist
from scipy.special import erfcx, log_ndtr

from hyppo._kernels.acquisition import log_expected_improvement, weighted_score
from hyppo._kernels.distance import min_distance
from hyppo._kernels.jit import Kernel
from hyppo._kernels.matern import matern_contraction, matern_cross, matern_matrix
from hyppo._kernels.rbf import radial_cross, radial_matrix

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Entry:
    """A kernel, its reference, and arguments of a given size.

    Attributes
    ----------
    arguments : callable of (generator, q, n, D)
        Everything but `out`.
    shape : callable of (q, n, D)
        Shape of `out`.
    reference : callable
        Of the same arguments, returns what `out` must hold.
    operations : callable of (q, n, D)
        Additions, multiplications and divisions; a square root or a transcendental function counts as ten.
    lower : bool
        Only the lower triangle of `out` is written.
    """

    kernel: Kernel
    reference: Callable[..., FloatArray]
    arguments: Callable[[np.random.Generator, int, int, int], tuple[Any, ...]]
    shape: Callable[[int, int, int], tuple[int, ...]]
    operations: Callable[[int, int, int], float]
    lower: bool = False


def _phi(r: FloatArray, kind: int) -> FloatArray:
    if kind == 0:
        return r**3
    if kind == 1:
        return np.asarray(r**2 * np.log(np.where(r > 0.0, r, 1.0)))
    if kind == 2:
        return -r
    if kind == 3:
        return -np.sqrt(1.0 + r**2)
    return np.asarray(np.exp(-(r**2)))


def _correlation(r: FloatArray) -> FloatArray:
    s = np.sqrt(5.0) * r
    return np.asarray((1.0 + s + s**2 / 3.0) * np.exp(-s))


def _min_distance(x: FloatArray, centres: FloatArray) -> FloatArray:
    if centres.shape[0] == 0:
        return np.full(x.shape[0], np.inf)
    return np.asarray(cdist(x, centres).min(axis=1))


def _matern_matrix(z: FloatArray, zt: FloatArray, variance: float, noise: FloatArray) -> FloatArray:
    return variance * _correlation(cdist(z, z)) + np.diag(noise)


def _matern_contraction(
    z: FloatArray, zt: FloatArray, owner: FloatArray, inverse: FloatArray, alpha: FloatArray, work: FloatArray
) -> FloatArray:
    s = np.sqrt(5.0) * cdist(z, z)
    weights = (inverse - np.outer(alpha, alpha)) * 5.0 / 3.0 * (1.0 + s) * np.exp(-s)
    rows = weights.sum(axis=1)
    # sum_ij w_ij (z_i - z_j)^2 = 2 (z^2 . w1 - z' w z), a column each
    columns = 2.0 * (rows @ z**2 - np.einsum("ik,ik->k", z, weights @ z))
    return np.asarray(np.bincount(owner, weights=columns), dtype=np.float64)


def _log_h(z: FloatArray) -> FloatArray:
    """Ament et al. 2023, eq. 9, in the two ranges that doubles need down to z = -40."""
    near = np.maximum(z, -1.0)
    direct = np.log(np.exp(-0.5 * near**2) / np.sqrt(2.0 * np.pi) + near * np.exp(log_ndtr(near)))
    t = np.maximum(-z, 1.0)
    ratio = np.sqrt(0.5 * np.pi) * erfcx(t / np.sqrt(2.0)) * t
    far = -0.5 * t**2 - 0.5 * np.log(2.0 * np.pi) + np.log1p(-ratio)
    return np.asarray(np.where(z > -1.0, direct, far))


def _log_expected_improvement(mean: FloatArray, std: FloatArray, best: float) -> FloatArray:
    return np.log(std) + _log_h((best - mean) / std)


def _weighted_score(value: FloatArray, distance: FloatArray, weight: float) -> FloatArray:
    if value.size == 0:
        return np.empty(0)
    v = (value - value.min()) / np.ptp(value) if np.ptp(value) > 0.0 else np.ones_like(value)
    d = (distance - distance.min()) / np.ptp(distance) if np.ptp(distance) > 0.0 else np.ones_like(value)
    return np.asarray(weight * v + (1.0 - weight) * (1.0 - d))


def _both(generator: np.random.Generator, n: int, columns: int) -> tuple[FloatArray, FloatArray]:
    z = generator.random((n, columns))
    return z, np.ascontiguousarray(z.T)


def _symmetric(generator: np.random.Generator, n: int) -> FloatArray:
    a = generator.standard_normal((n, n))
    return np.asarray(a + a.T)


def _owner(columns: int) -> npt.NDArray[np.int64]:
    return np.minimum(np.arange(columns), max(columns - 2, 0)).astype(np.int64)  # the last parameter has two columns


REGISTRY: dict[str, Entry] = {
    "min_distance": Entry(
        min_distance,
        _min_distance,
        lambda g, q, n, D: (g.random((q, D)), g.random((n, D))),
        lambda q, n, D: (q,),
        lambda q, n, D: 3.0 * q * n * D,
    ),
    "radial_matrix": Entry(
        radial_matrix,
        lambda x, kind: _phi(cdist(x, x), kind),
        lambda g, q, n, D: (g.random((n, D)), 0),
        lambda q, n, D: (n, n),
        lambda q, n, D: 0.5 * n * n * (3.0 * D + 11.0),
    ),
    "radial_cross": Entry(
        radial_cross,
        lambda x, centres, kind: _phi(cdist(x, centres.T), kind),
        lambda g, q, n, D: (g.random((q, D)), g.random((D, n)), 0),
        lambda q, n, D: (q, n),
        lambda q, n, D: q * n * (3.0 * D + 11.0),
    ),
    "matern_matrix": Entry(
        matern_matrix,
        _matern_matrix,
        lambda g, q, n, D: (*_both(g, n, D), 1.3, g.random(n)),
        lambda q, n, D: (n, n),
        lambda q, n, D: 0.5 * n * n * (3.0 * D + 27.0),
        lower=True,
    ),
    "matern_cross": Entry(
        matern_cross,
        lambda x, zt, variance: variance * _correlation(cdist(x, zt.T)),
        lambda g, q, n, D: (g.random((q, D)), g.random((D, n)), 1.3),
        lambda q, n, D: (q, n),
        lambda q, n, D: q * n * (3.0 * D + 27.0),
    ),
    "matern_contraction": Entry(
        matern_contraction,
        _matern_contraction,
        lambda g, q, n, D: (*_both(g, n, D), _owner(D), _symmetric(g, n), g.standard_normal(n), np.empty(n)),
        lambda q, n, D: (int(_owner(D).max()) + 1,),
        lambda q, n, D: 0.5 * n * n * (7.0 * D + 27.0),
    ),
    "log_expected_improvement": Entry(
        log_expected_improvement,
        _log_expected_improvement,
        lambda g, q, n, D: (4.0 * g.standard_normal(q), g.random(q) + 0.1, -0.5),
        lambda q, n, D: (q,),
        lambda q, n, D: 50.0 * q,
    ),
    "weighted_score": Entry(
        weighted_score,
        _weighted_score,
        lambda g, q, n, D: (g.standard_normal(q), g.random(q), 0.8),
        lambda q, n, D: (q,),
        lambda q, n, D: 8.0 * q,
    ),
}
