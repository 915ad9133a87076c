"""Gaussian process with a noise variance for each point.

    symbol    shape      meaning
    x         (n, D)     features
    y         (n,)       targets, near mean 0 and variance 1 (see `outputs`)
    v         (n,)       noise variances if known, else ones
    owner     (D,)       parameter of each feature column
    l         (d,)       lengthscales, one a parameter
    s2        float      signal variance
    theta     (d + 2,)   (log l, log s2, t), the fitted hyperparameters
    K         (n, n)     s2 c(|x_i - x_j| / l) + diag(v exp(t) + jitter), c Matern-5/2
    mu        float      constant mean by generalised least squares, 1^T K^-1 y / 1^T K^-1 1
    alpha     (n,)       K^-1 (y - mu)

    minus log posterior  L = 1/2 (y - mu)^T alpha + 1/2 log |K| + sum_i (theta_i - m_i)^2 / (2 s_i^2)
    dL/dtheta_i = 1/2 tr((K^-1 - alpha alpha^T) dK/dtheta_i) + (theta_i - m_i) / s_i^2

mu is at its optimum and adds no term (Rasmussen & Williams 2006, eqs. 2.30, 5.9 and section 2.7; noise a point:
Ankenman, Nelson & Staum 2010). Priors m, s:
log l ~ N(0.5 ln d, 1), so that distances which grow as sqrt(d) keep their correlation (Hvarfner et al. 2024);
log s2 ~ N(0, 1); t ~ N(-6, 2^2) if it is the log of the only noise variance, N(0, 0.5^2) if it corrects known
ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack

from hyppo._kernels.matern import matern_cross, matern_gradient, matern_matrix, matern_mean, matern_system
from hyppo._kernels.posterior import generalised_mean, variance_gradient
from hyppo.errors import SurrogateError
from hyppo.space import FloatArray, IntArray
from hyppo.surrogates.base import BLOCK, Prediction, as_outputs, as_points, products
from hyppo.surrogates.quasi_newton import TOLERANCE, minimise

JITTER = 1e-8
COARSE = 120  # points up to which a fit without a start begins with all of them


@dataclass(frozen=True)
class Prior:
    """Normal priors and bounds of the log hyperparameters, each (d + 2,)."""

    mean: FloatArray
    std: FloatArray
    low: FloatArray
    high: FloatArray


def prior(d: int, known_noise: bool, noise_std: float = 0.5) -> Prior:
    """Priors of d lengthscales, the signal variance and the noise.

    >>> prior(4, known_noise=False).mean.round(2)
    array([ 0.69,  0.69,  0.69,  0.69,  0.  , -6.  ])
    """
    t, t_std, t_low, t_high = (0.0, noise_std, -8.0, 8.0) if known_noise else (-6.0, 2.0, -14.0, 1.5)
    return Prior(
        np.array([0.5 * np.log(d)] * d + [0.0, t]),
        np.array([1.0] * (d + 1) + [t_std]),
        np.array([np.log(0.03)] * d + [-4.0, t_low]),
        np.array([np.log(300.0)] * d + [4.0, t_high]),
    )


def cold_start(d: int, known_noise: bool) -> FloatArray:
    """Default start of the hyperparameters: lengthscales 0.5 sqrt(d)."""
    theta = prior(d, known_noise).mean
    theta[:d] += np.log(0.5)
    return theta


@dataclass(frozen=True)
class GP:
    """A Gaussian process conditioned on data at given hyperparameters."""

    x: FloatArray  # (n, D)
    y: FloatArray  # (n,)
    noise: FloatArray  # (n,) v exp(t) + jitter
    owner: IntArray  # (D,)
    theta: FloatArray  # (d + 2,)
    factor: FloatArray  # (n, n) F-ordered, upper triangle U: K = U^T U; below it is nothing
    alpha: FloatArray  # (n,)
    mu: float
    ones: FloatArray  # (n,) K^-1 1

    @property
    def lengthscales(self) -> FloatArray:
        return np.exp(self.theta[:-2])

    @property
    def signal(self) -> float:
        """Signal variance."""
        return float(np.exp(self.theta[-2]))

    @property
    def noise_factor(self) -> float:
        """exp(t): the factor of the known noise variances, or the noise variance if none is known."""
        return float(np.exp(self.theta[-1]))

    def _cross(self, points: FloatArray) -> FloatArray:
        scale = self.lengthscales[self.owner]
        out = np.empty((points.shape[0], self.x.shape[0]))
        matern_cross(points / scale, np.ascontiguousarray((self.x / scale).T), self.signal, out)
        return out

    def predict(self, x: npt.ArrayLike) -> Prediction:
        """Posterior of the latent function, the estimated mean's own variance included, (q, D) -> (q,), (q,).

        Raises
        ------
        SurrogateError
            Points of another dimension, or not finite.
        """
        points = as_points("x", x, self.x.shape[1])
        mean = np.empty(points.shape[0])
        variance = np.empty(points.shape[0])
        precision = float(self.ones.sum())
        for start in range(0, points.shape[0], BLOCK):
            rows = slice(start, start + BLOCK)
            cross = self._cross(points[rows])
            mean[rows] = self.mu + cross @ self.alpha
            unexplained = 1.0 - cross @ self.ones
            # cross.T is F-ordered as LAPACK wants it: the solution overwrites it.
            half, _ = lapack.dtrtrs(self.factor, cross.T, lower=0, trans=1, overwrite_b=True)
            variance[rows] = self.signal - np.einsum("ij,ij->j", half, half) + unexplained**2 / precision
        return Prediction(mean, np.sqrt(np.maximum(variance, 0.0)))

    def predict_mean(self, x: npt.ArrayLike) -> FloatArray:
        """Posterior mean alone, in O(n) a point, (q, D) -> (q,)."""
        points = as_points("x", x, self.x.shape[1])
        scale = self.lengthscales[self.owner]
        scaled, centres = points / scale, self.x / scale
        x_square, z_square = np.einsum("ij,ij->i", scaled, scaled), np.einsum("ij,ij->i", centres, centres)
        out = np.empty(points.shape[0])
        for rows, product in products(scaled, centres):
            matern_mean(product, x_square[rows], z_square, self.signal, self.alpha, out[rows])
        return self.mu + out

    def at_data(self, deviation: float = 0.0) -> "AtData":
        """Posterior of the function at the points of the data, if it deviates from the process at each of them.

        Parameters
        ----------
        deviation : float
            Variance of the deviations, which are independent and part of the function: in kriging the microscale
            variance (Cressie 1993, Statistics for Spatial Data, section 3.2.1).

        Examples
        --------
        A point that is trained often is taken for what it is, whatever its neighbours:

        >>> x, y = np.linspace(0, 1, 9)[:, None], np.array([0, 0, 0, 0, -1.0, 0, 0, 0, 0])
        >>> model = condition(x, y, [0.0, 0.0, 0.0], noise=np.full(9, 0.01))
        >>> model.at_data().mean[4].round(1), model.at_data(0.1).mean[4].round(1)
        (np.float64(-0.3), np.float64(-0.9))
        """
        model = self
        if deviation > 0.0:
            theta = np.append(self.theta[:-1], 0.0)
            model = condition(self.x, self.y, theta, noise=self.noise + deviation, owner=self.owner)
        return AtData(model, self.noise, self.y - self.noise * model.alpha)

    def leave_one_out(self, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Residuals of the data at points `rows`, predicted from all others, and their variances, (q,) -> (q,), (q,).

        Rasmussen & Williams 2006, eq. 5.12.

        >>> x = np.linspace(0, 1, 9)[:, None]
        >>> model = condition(x, np.array([0, 0, 0, 0, -1.0, 0, 0, 0, 0]), [0.0, 0.0, 0.0], noise=np.full(9, 0.01))
        >>> model.leave_one_out(np.array([0, 4]))[0].round(1)
        array([-0.2, -1. ])
        """
        half = self.half_inverse(rows)
        variance = 1.0 / np.einsum("ij,ij->j", half, half)
        return self.alpha[rows] * variance, variance

    def half_inverse(self, rows: IntArray) -> FloatArray:
        """Columns `rows` of U^-T, whose products with each other are the entries of K^-1, (q,) -> (n, q)."""
        columns = np.zeros((self.y.size, rows.size), order="F")
        columns[rows, np.arange(rows.size)] = 1.0
        half, _ = lapack.dtrtrs(self.factor, columns, lower=0, trans=1, overwrite_b=True)
        return np.asarray(half)

    def append(self, x: npt.ArrayLike, y: npt.ArrayLike, noise: npt.ArrayLike) -> "GP":
        """The same process with p further points, in O(n^2 p); `noise` (p,) is v, as for `condition`."""
        points = as_points("x", x, self.x.shape[1])
        p, n = points.shape[0], self.x.shape[0]
        values = as_outputs("y", y, p)
        variances = as_outputs("noise", noise, p) * self.noise_factor + JITTER
        scale = self.lengthscales[self.owner]
        upper, _ = lapack.dtrtrs(self.factor, self._cross(points).T, lower=0, trans=1, overwrite_b=True)
        corner = np.empty((p, p))
        scaled = points / scale
        matern_matrix(scaled, np.ascontiguousarray(scaled.T), self.signal, variances, corner)
        lower = np.tril(corner) - np.tril(upper.T @ upper)
        corner_factor, info = lapack.dpotrf(np.asfortranarray(lower.T), lower=0)
        if info != 0:
            raise SurrogateError("gp: appended points coincide with each other or with the data and have no noise")
        factor = np.empty((n + p, n + p), order="F")
        factor[:n, :n] = self.factor
        factor[:n, n:] = upper
        factor[n:, n:] = corner_factor
        return _solved(
            np.vstack([self.x, points]),
            np.concatenate([self.y, values]),
            np.concatenate([self.noise, variances]),
            self.owner,
            self.theta,
            factor,
        )


@dataclass(frozen=True)
class AtData:
    """Posterior of a function at the points of the data, which are told with noise."""

    model: GP  # deviations of the points are part of its noise
    noise: FloatArray  # (n,) without them
    mean: FloatArray  # (n,) y - noise alpha

    def covariance(self, rows: IntArray) -> FloatArray:
        """Of the points `rows`, (q,) -> (q, q): N - N K^-1 N, N their noise, and the part of the estimated mean."""
        noise = self.noise[rows]
        half = self.model.half_inverse(rows) * noise
        unexplained = noise * self.model.ones[rows]
        return np.asarray(
            np.diag(noise) - half.T @ half + np.outer(unexplained, unexplained) / float(self.model.ones.sum())
        )

    def std(self, rows: IntArray) -> FloatArray:
        """Of the points `rows`, (q,) -> (q,)."""
        noise, half = self.noise[rows], self.model.half_inverse(rows)
        unexplained = self.model.ones[rows] ** 2 / float(self.model.ones.sum())
        variance = noise + noise**2 * (unexplained - np.einsum("ij,ij->j", half, half))
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def _solved(
    x: FloatArray, y: FloatArray, noise: FloatArray, owner: IntArray, theta: FloatArray, factor: FloatArray
) -> GP:
    right = np.empty((y.size, 2), order="F")
    right[:, 0] = y
    right[:, 1] = 1.0
    solution, _ = lapack.dpotrs(factor, right, lower=0, overwrite_b=True)
    mu = float(solution[:, 0].sum() / solution[:, 1].sum())
    return GP(x, y, noise, owner, theta, factor, solution[:, 0] - mu * solution[:, 1], mu, solution[:, 1].copy())


def _checked(
    x: npt.ArrayLike, y: npt.ArrayLike, noise: npt.ArrayLike | None, owner: npt.ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray, IntArray]:
    points = as_points("x", x)
    n, columns = points.shape
    if n == 0:
        raise SurrogateError("x: expected at least one point, got none")
    values = as_outputs("y", y, n)
    variances = np.ones(n) if noise is None else as_outputs("noise", noise, n)
    if (variances < 0.0).any():
        raise SurrogateError("noise: expected variances >= 0, got a negative one")
    owners = np.arange(columns) if owner is None else np.ascontiguousarray(owner, dtype=np.int64)
    if owners.shape != (columns,) or (columns and set(owners.tolist()) != set(range(int(owners.max()) + 1))):
        raise SurrogateError(f"owner: expected a parameter 0..d-1 for each of {columns} columns, got {owners.tolist()}")
    return points, values, variances, owners


def condition(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    theta: npt.ArrayLike,
    *,
    noise: npt.ArrayLike | None = None,
    owner: npt.ArrayLike | None = None,
) -> GP:
    """Condition on data at given hyperparameters, in O(n^3).

    Parameters are those of `fit`, and `theta` (d + 2,).

    Raises
    ------
    SurrogateError
        As `fit`, or a matrix that stays indefinite.
    """
    points, values, variances, owners = _checked(x, y, noise, owner)
    hyper = np.array(theta, dtype=np.float64)
    d = int(owners.max()) + 1
    if hyper.shape != (d + 2,) or not np.isfinite(hyper).all():
        raise SurrogateError(f"theta: expected {d + 2} finite numbers (log l, log s2, t), got {hyper}")
    n = values.size
    scaled = points / np.exp(hyper[owners])
    jitter = JITTER
    while jitter <= 1e-2:
        total = variances * np.exp(hyper[-1]) + jitter
        factor = np.empty((n, n), order="F")
        matern_matrix(scaled, np.ascontiguousarray(scaled.T), np.exp(hyper[-2]), total, factor.T)
        factor, info = lapack.dpotrf(factor, lower=0, clean=0, overwrite_a=True)
        if info == 0:
            return _solved(points, values, total, owners, hyper, factor)
        jitter *= 100.0  # equal points without noise: as near to interpolating as rounding lets
    raise SurrogateError(f"gp: covariance of {n} points is not positive definite even with jitter {jitter / 100.0:g}")


class Posterior:
    """Minus log posterior of theta, which `fit` minimises, and its gradient.

    It keeps its work arrays, so that an evaluation allocates nothing of order n^2.
    """

    def __init__(self, x: FloatArray, y: FloatArray, noise: FloatArray, owner: IntArray, hyper: Prior) -> None:
        self.x, self.y, self.noise, self.owner, self.prior = x, y, noise, owner, hyper
        n = y.size
        self._xt = np.ascontiguousarray(x.T)
        self._right = np.empty((n, 2), order="F")
        self._matrix = np.empty((n, n), order="F")
        self._alpha, self._work = np.empty(n), np.empty((2, n))
        self._terms, self._slope = np.empty(3), np.empty(hyper.mean.size)

    @property
    def curvature(self) -> FloatArray:
        """Diagonal of the Hessian, by order of magnitude: the priors' own, and a tenth for each point.

        Of a twentieth to a fifth, a tenth took the fewest evaluations.
        """
        return np.asarray(1.0 / self.prior.std**2 + 0.1 * self.y.size)

    def __call__(self, theta: FloatArray) -> tuple[float, FloatArray]:
        hyper = np.exp(theta)
        zt = self._xt / hyper[self.owner][:, None]
        noise = self.noise * hyper[-1]
        matern_system(zt, hyper[-2], noise + JITTER, self._matrix.T)
        factor, info = lapack.dpotrf(self._matrix, lower=0, clean=0, overwrite_a=True)
        deviation = (theta - self.prior.mean) / self.prior.std
        if info != 0:
            return np.inf, deviation / self.prior.std
        self._right[:, 0] = self.y
        self._right[:, 1] = 1.0
        solution, _ = lapack.dpotrs(factor, self._right, lower=0, overwrite_b=True)
        generalised_mean(solution.T, self.y, factor.T, self._alpha, self._terms)
        fitted = self._terms[1]
        value = float(0.5 * (fitted + deviation @ deviation) + self._terms[2])
        inverse, _ = lapack.dpotri(factor, lower=0, overwrite_c=True)
        matern_gradient(zt, self.owner, inverse.T, self._alpha, self._work, self._slope[:-2])
        variance_gradient(inverse.T, self._alpha, noise, JITTER, fitted, self._slope[-2:])
        return value, deviation / self.prior.std + self._slope


def fit(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    noise: npt.ArrayLike | None = None,
    owner: npt.ArrayLike | None = None,
    starts: Sequence[npt.ArrayLike] = (),
    iterations: int = 50,
    noise_std: float = 0.5,
    tolerance: float = TOLERANCE,
) -> GP:
    """Hyperparameters of highest posterior density, and the process conditioned at them.

    Parameters
    ----------
    x : (n, D) array
        Features.
    y : (n,) array
        Targets, near mean 0 and variance 1.
    noise : (n,) array, optional
        Variance of each target's noise; by default one common variance is learned.
    owner : (D,) array of int, optional
        Parameter of each column; columns of one parameter share a lengthscale. Default: no two columns share.
    starts : sequence of (d + 2,) arrays
        Hyperparameters to start from; the best end counts. Default: `cold_start`.
    iterations : int
        Limit of the minimisation from a start: steps.
    noise_std : float
        Prior standard deviation of t if the noise is given: its error in the logarithm.
    tolerance : float
        Relative decrease of minus the log posterior in a step to stop at.

    Returns
    -------
    GP

    Raises
    ------
    SurrogateError
        Shapes that do not agree, values that are not finite, negative noise, no point.

    References
    ----------
    Rasmussen, C. E. & Williams, C. K. I. (2006). Gaussian Processes for Machine Learning.
    Ankenman, B., Nelson, B. L. & Staum, J. (2010). Stochastic kriging for simulation metamodeling.

    Examples
    --------
    >>> x = np.linspace(0, 1, 9)[:, None]
    >>> model = fit(x, np.sin(6 * x[:, 0]), noise=np.full(9, 1e-6))
    >>> bool(abs(model.predict([[0.3]]).mean[0] - np.sin(1.8)) < 0.02)
    True
    """
    points, values, variances, owners = _checked(x, y, noise, owner)
    d = int(owners.max()) + 1
    known = noise is not None
    hyper = prior(d, known, noise_std)
    best: FloatArray | None = None
    lowest = np.inf
    for start in starts or (None,):
        if start is None:
            end, value, _ = _cold(points, values, variances, owners, hyper, cold_start(d, known), iterations, tolerance)
        else:
            target = Posterior(points, values, variances, owners, hyper)
            first = np.clip(np.asarray(start, dtype=np.float64), hyper.low, hyper.high)
            curvature = np.diag(target.curvature)
            low, high = hyper.low, hyper.high
            end, value, _ = minimise(target, first, low, high, curvature, iterations=iterations, tolerance=tolerance)
        if best is None or value < lowest:
            best, lowest = end, value
    assert best is not None
    return condition(points, values, best, noise=variances if known else None, owner=owners)


def _cold(
    x: FloatArray,
    y: FloatArray,
    noise: FloatArray,
    owner: IntArray,
    hyper: Prior,
    start: FloatArray,
    iterations: int,
    tolerance: float,
) -> tuple[FloatArray, float, FloatArray]:
    """Fit from nothing: to every fourth point before all of them, to every sixteenth before these, and so on.

    An evaluation costs n^3: most of the way, and the shape of the valley, are found for a few percent of it.
    """
    n = y.size
    target = Posterior(x, y, noise, owner, hyper)
    hessian = np.diag(target.curvature)
    if n > COARSE:
        some = np.linspace(0, n - 1, n // 4).astype(np.int64)
        start, _, hessian = _cold(x[some], y[some], noise[some], owner, hyper, start, iterations, tolerance)
        hessian = 4.0 * hessian  # of so many more points
    return minimise(target, start, hyper.low, hyper.high, hessian, iterations=iterations, tolerance=tolerance)
