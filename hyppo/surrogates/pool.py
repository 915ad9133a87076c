"""A Gaussian process over a fixed pool of points, updated as observations are added.

    symbol   shape   meaning
    X        (n, D)  points that the process is conditioned on
    Z        (k, D)  points added, each at its posterior mean: the mean stays as it is
    c        (q, D)  the pool
    U        upper   Cholesky factor of the covariance of X and Z, noise included
    H        U^-T k([X, Z], c), (n + k, q)

    var(c) = s2 - sum_rows H^2 + the variance of the estimated mean, which is left as X alone determines it

Appending to the process and predicting the pool again costs O((n + k)^2 q) a point; a further row of H costs
O((n + k)^2 + (n + k) q), some hundred times less. This is the greedy choice of a batch (Desautels, Krause & Burdick
2014).
"""

import numpy as np
from scipy.linalg import lapack

from hyppo._kernels.matern import matern_cross
from hyppo.space import FloatArray
from hyppo.surrogates.base import Prediction, as_points
from hyppo.surrogates.gp import GP, JITTER


class Pool:
    """The posterior at the points of a pool.

    Parameters
    ----------
    model : GP
    x : (q, D) array
        Features of the pool.
    room : int
        Points that can be added.

    Examples
    --------
    >>> from hyppo.surrogates import gp
    >>> x = np.linspace(0, 1, 7)[:, None]
    >>> model = gp.condition(x, np.sin(6 * x[:, 0]), [np.log(0.4), 0.0, -6.0])
    >>> pool = Pool(model, np.array([[0.05], [0.45]]), room=1)
    >>> pool.add(np.array([0.1]), 1.0)
    >>> appended = model.append([[0.1]], model.predict_mean([[0.1]]), [1.0])
    >>> bool(np.allclose(pool.prediction.std, appended.predict([[0.05], [0.45]]).std, rtol=1e-2))
    True
    """

    def __init__(self, model: GP, x: FloatArray, room: int) -> None:
        points = as_points("x", x, model.x.shape[1])
        n, q = model.x.shape[0], points.shape[0]
        self._model = model
        self._known = n  # rows of U and H in use
        self._scale = model.lengthscales[model.owner]
        self._centres = np.empty((n + room, points.shape[1]))
        self._centres[:n] = model.x / self._scale
        self._pool = np.ascontiguousarray((points / self._scale).T)
        # The unused part is an identity: a solve with the whole matrix leaves zeros there.
        self._factor = np.eye(n + room, order="F")
        self._factor[:n, :n] = model.factor
        cross = np.empty((q, n))
        matern_cross(np.ascontiguousarray(self._pool.T), np.ascontiguousarray(self._centres[:n].T), model.signal, cross)
        mean = model.mu + cross @ model.alpha
        unexplained = 1.0 - cross @ model.ones
        self._half = np.zeros((n + room, q))
        self._half[:n], _ = lapack.dtrtrs(model.factor, cross.T, lower=0, trans=1)
        variance = model.signal - np.einsum("ij,ij->j", self._half[:n], self._half[:n])
        self._mean, self._variance = mean, variance + unexplained**2 / float(model.ones.sum())

    @property
    def prediction(self) -> Prediction:
        """Posterior of the latent function at the pool, (q,), (q,)."""
        return Prediction(self._mean, np.sqrt(np.maximum(self._variance, 0.0)))

    def add(self, x: FloatArray, noise: float) -> None:
        """Know of one more point, (D,), with noise variance v as for `GP.append`."""
        model, known = self._model, self._known
        point = np.ascontiguousarray((x / self._scale)[None, :])
        right = np.zeros((self._factor.shape[0], 1), order="F")
        row = np.empty((1, known))
        matern_cross(point, np.ascontiguousarray(self._centres[:known].T), model.signal, row)
        right[:known, 0] = row[0]
        column, _ = lapack.dtrtrs(self._factor, right, lower=0, trans=1, overwrite_b=True)
        column = column[:known, 0]
        rest = model.signal + noise * model.noise_factor + JITTER - float(column @ column)
        pivot = np.sqrt(max(rest, JITTER))
        cross = np.empty((1, self._pool.shape[1]))
        matern_cross(point, self._pool, model.signal, cross)
        self._half[known] = (cross[0] - column @ self._half[:known]) / pivot
        self._variance = self._variance - self._half[known] ** 2
        self._factor[:known, known] = column
        self._factor[known, known] = pivot
        self._centres[known] = point[0]
        self._known = known + 1
