"""Every kernel with its reference and its cost: drives the tests and the benchmark.

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
from scipy.stats import yeojohnson

from hyppo._kernels.acquisition import log_expected_improvement, weighted_score
from hyppo._kernels.distance import min_distance
from hyppo._kernels.jit import Kernel
from hyppo._kernels.matern import matern_cross, matern_gradient, matern_matrix, matern_mean, matern_system
from hyppo._kernels.neighbours import neighbours
from hyppo._kernels.posterior import generalised_mean, variance_gradient
from hyppo._kernels.power import yeo_johnson_variance
from hyppo._kernels.quasi_newton import bfgs_update, bounded_step
from hyppo._kernels.rbf import cubic_cross, cubic_matrix, cubic_mean

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
        Takes the same arguments and returns the right content of `out`.
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


def _correlation(r: FloatArray) -> FloatArray:
    s = np.sqrt(5.0) * r
    return np.asarray((1.0 + s + s**2 / 3.0) * np.exp(-s))


def _distance(product: FloatArray, x_square: FloatArray, z_square: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt(np.maximum(x_square[:, None] + z_square - 2.0 * product, 0.0)))


def _product(generator: np.random.Generator, q: int, n: int, columns: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    x, z = generator.random((q, columns)), generator.random((n, columns))
    return x @ z.T, np.sum(x**2, axis=1), np.sum(z**2, axis=1)


def _min_distance(x: FloatArray, centres: FloatArray) -> FloatArray:
    if centres.shape[0] == 0:
        return np.full(x.shape[0], np.inf)
    return np.asarray(cdist(x, centres).min(axis=1))


def _matern_matrix(z: FloatArray, zt: FloatArray, variance: float, noise: FloatArray) -> FloatArray:
    return variance * _correlation(cdist(z, z)) + np.diag(noise)


def _slopes(z: FloatArray, variance: float) -> FloatArray:
    s = np.sqrt(5.0) * cdist(z, z)
    return np.asarray(variance * 5.0 / 3.0 * (1.0 + s) * np.exp(-s))


def _matern_system(zt: FloatArray, variance: float, noise: FloatArray) -> FloatArray:
    out = np.tril(_matern_matrix(zt.T, zt, variance, noise))
    slopes = _slopes(zt.T, variance)
    n = noise.size
    for i in range(n):
        out[n - 1 - i, n - i :] = slopes[i, :i]
    return out


def _matern_gradient(
    zt: FloatArray, owner: FloatArray, system: FloatArray, alpha: FloatArray, work: FloatArray
) -> FloatArray:
    n = alpha.size
    weights = np.zeros((n, n))
    for i in range(n):
        weights[i, :i] = (system[i, :i] - alpha[i] * alpha[:i]) * system[n - 1 - i, n - i :]
    columns = np.einsum("ij,kij->k", weights, (zt[:, :, None] - zt[:, None, :]) ** 2)
    return np.asarray(np.bincount(owner, weights=columns), dtype=np.float64)


def _generalised_mean(solution: FloatArray, y: FloatArray, factor: FloatArray, alpha: FloatArray) -> FloatArray:
    mu = solution[0].sum() / solution[1].sum()
    return np.array([mu, (y - mu) @ (solution[0] - mu * solution[1]), np.log(np.diagonal(factor)).sum()])


def _variance_gradient(
    inverse: FloatArray, alpha: FloatArray, noise: FloatArray, jitter: float, fitted: float
) -> FloatArray:
    excess = np.diagonal(inverse) - alpha**2
    return 0.5 * np.array([alpha.size - fitted - excess @ (noise + jitter), excess @ noise])


def _neighbours(
    origin: FloatArray,
    moved: FloatArray,
    step: FloatArray,
    jump: FloatArray,
    mask: FloatArray,
    last: FloatArray,
    ordered: FloatArray,
) -> FloatArray:
    towards = np.where(step < 0.0, -1, 1)
    towards = np.where((origin + towards < 0) | (origin + towards > last), -towards, towards)
    stepped = np.where(moved == origin, origin + towards, moved)
    other = np.minimum((jump * last).astype(np.int64), np.maximum(last - 1, 0))
    level = np.where(ordered, stepped, other + (other >= origin))
    return np.where(mask, np.clip(level, 0, last), origin)


def _lattice(generator: np.random.Generator, q: int, columns: int) -> tuple[Any, ...]:
    last = np.arange(columns) % 5
    origin, moved = (generator.integers(0, last + 1, (q, columns)) for _ in range(2))
    step, jump = generator.standard_normal((q, columns)), generator.random((q, columns))
    return origin, moved, step, jump, generator.random((q, columns)) < 0.7, last, np.arange(columns) % 2 == 0


def _bounded_step(
    x: FloatArray,
    gradient: FloatArray,
    hessian: FloatArray,
    low: FloatArray,
    high: FloatArray,
    reach: float,
    work: FloatArray,
) -> FloatArray:
    free = ~(((x <= low) & (gradient > 0.0)) | ((x >= high) & (gradient < 0.0)))
    step = np.zeros_like(x)
    step[free] = -np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
    step *= min(1.0, reach / max(float(np.abs(step).max()), 1e-300))
    room = np.where(step > 0.0, high - x, x - low) / np.where(step == 0.0, 1.0, np.abs(step))
    step[(room <= 1e-12)] = 0.0
    cut = float(min(1.0, room[step != 0.0].min(initial=1.0)))
    there = np.clip(x + (cut if cut >= 0.1 else 1.0) * step, low, high)
    projected = np.abs(np.clip(x - gradient, low, high) - x).max()
    return np.array([*there, projected, gradient @ (there - x), np.abs(there - x).max()])


def _bfgs_update(hessian: FloatArray, step: FloatArray, change: FloatArray, work: FloatArray) -> FloatArray:
    product = hessian @ step
    known, seen = step @ product, step @ change
    y = change
    if seen < 0.1 * known:
        share = 0.9 * known / (known - seen)
        y = share * change + (1.0 - share) * product
    return np.asarray(hessian + np.outer(y, y) / (step @ y) - np.outer(product, product) / known)


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


def _yeo_johnson_variance(u: FloatArray, logarithms: FloatArray, power: float) -> FloatArray:
    return np.array([np.var(yeojohnson(u, lmbda=power)) if u.size else 0.0])


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


def _definite(generator: np.random.Generator, n: int) -> FloatArray:
    a = generator.standard_normal((n, n))
    return np.asarray(a @ a.T + n * np.eye(n))


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
    "cubic_matrix": Entry(
        cubic_matrix,
        lambda x: cdist(x, x) ** 3,
        lambda g, q, n, D: (g.random((n, D)),),
        lambda q, n, D: (n, n),
        lambda q, n, D: 0.5 * n * n * (3.0 * D + 11.0),
    ),
    "cubic_cross": Entry(
        cubic_cross,
        lambda x, centres: cdist(x, centres.T) ** 3,
        lambda g, q, n, D: (g.random((q, D)), g.random((D, n))),
        lambda q, n, D: (q, n),
        lambda q, n, D: q * n * (3.0 * D + 11.0),
    ),
    "cubic_mean": Entry(
        cubic_mean,
        lambda product, x_square, z_square, weights: _distance(product, x_square, z_square) ** 3 @ weights,
        lambda g, q, n, D: (*_product(g, q, n, D), g.standard_normal(n)),
        lambda q, n, D: (q,),
        lambda q, n, D: q * n * 16.0,
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
    "matern_mean": Entry(
        matern_mean,
        lambda product, x_square, z_square, variance, weights: (
            variance * _correlation(_distance(product, x_square, z_square)) @ weights
        ),
        lambda g, q, n, D: (*_product(g, q, n, D), 1.3, g.standard_normal(n)),
        lambda q, n, D: (q,),
        lambda q, n, D: q * n * 32.0,
    ),
    "matern_system": Entry(
        matern_system,
        _matern_system,
        lambda g, q, n, D: (g.random((D, n)), 1.3, g.random(n)),
        lambda q, n, D: (n, n),
        lambda q, n, D: 0.5 * n * n * (3.0 * D + 30.0),
    ),
    "matern_gradient": Entry(
        matern_gradient,
        _matern_gradient,
        lambda g, q, n, D: (g.random((D, n)), _owner(D), _symmetric(g, n), g.standard_normal(n), np.empty((2, n))),
        lambda q, n, D: (int(_owner(D).max()) + 1,),
        lambda q, n, D: 0.5 * n * n * (2.0 * D + 5.0),
    ),
    "generalised_mean": Entry(
        generalised_mean,
        _generalised_mean,
        lambda g, q, n, D: (
            g.random((2, n + 1)),
            g.standard_normal(n + 1),
            g.random((n + 1, n + 1)) + 0.1,
            np.empty(n + 1),
        ),
        lambda q, n, D: (3,),
        lambda q, n, D: 17.0 * n,
    ),
    "variance_gradient": Entry(
        variance_gradient,
        _variance_gradient,
        lambda g, q, n, D: (g.standard_normal((n, n)), g.standard_normal(n), g.random(n), 1e-3, 0.7),
        lambda q, n, D: (2,),
        lambda q, n, D: 5.0 * n,
    ),
    "yeo_johnson_variance": Entry(
        yeo_johnson_variance,
        _yeo_johnson_variance,
        lambda g, q, n, D: (lambda u: (u, np.log1p(np.abs(u)), 0.4))(2.0 * g.standard_normal(n)),
        lambda q, n, D: (1,),
        lambda q, n, D: 20.0 * n,
    ),
    "neighbours": Entry(
        neighbours,
        _neighbours,
        lambda g, q, n, D: _lattice(g, q, D),
        lambda q, n, D: (q, D),
        lambda q, n, D: 5.0 * q * D,
    ),
    "bounded_step": Entry(
        bounded_step,
        _bounded_step,
        lambda g, q, n, D: (
            np.minimum(g.random(D), 0.9),  # here and there at its upper bound
            10.0 * g.standard_normal(D),
            _definite(g, D),
            np.zeros(D),
            np.full(D, 0.9),
            1.5,
            np.empty((D + 1, D)),
        ),
        lambda q, n, D: (D + 3,),
        lambda q, n, D: D**3 / 3.0 + 2.0 * D * D,
    ),
    "bfgs_update": Entry(
        bfgs_update,
        _bfgs_update,
        lambda g, q, n, D: (_definite(g, D), g.standard_normal(D), g.standard_normal(D), np.empty(D)),
        lambda q, n, D: (D, D),
        lambda q, n, D: 14.0 * D * D,
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
