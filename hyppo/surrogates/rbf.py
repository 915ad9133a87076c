"""Cubic radial basis functions with a linear tail.

    symbol   shape       meaning
    X        (n, D)      nodes
    Y        (n, M)      outputs, one column a right-hand side
    Phi      (n, n)      |x_i - x_j|^3
    P        (n, D + 1)  tail at the nodes, [1, X]
    eta      float       ridge: 0 interpolates

    [ Phi + eta I   P ] [ lambda ]   [ Y ]
    [ P^T           0 ] [ c      ] = [ 0 ]                                                    (Powell 1992, eq. 3.3)

P has full rank only if the nodes are not all in one hyperplane, which fewer than D + 1 nodes, one-hot columns and
constant columns all violate. So the tail is taken in the basis U of P's singular vectors with singular values above
rounding, P = U S V^T: the same system if P has full rank, otherwise the tail of least norm.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack

from hyppo._kernels.rbf import cubic_cross, cubic_matrix, cubic_mean
from hyppo.errors import SurrogateError
from hyppo.space import FloatArray
from hyppo.surrogates.base import BLOCK, Prediction, as_points, products


@dataclass(frozen=True)
class RBF:
    """A fitted interpolant of M outputs."""

    x: FloatArray  # (n, D)
    weights: FloatArray  # (n, M), lambda
    tail: FloatArray  # (D + 1, M), c in the basis [1, x]

    def values(self, x: npt.ArrayLike) -> FloatArray:
        """All M outputs at x, (q, D) -> (q, M).

        Raises
        ------
        SurrogateError
            Points of another dimension, or not finite.
        """
        points = as_points("x", x, self.x.shape[1])
        out: FloatArray = points @ self.tail[1:] + self.tail[0]
        if self.weights.shape[1] == 1:
            x_square, z_square = np.einsum("ij,ij->i", points, points), np.einsum("ij,ij->i", self.x, self.x)
            sums = np.empty(points.shape[0])
            for rows, product in products(points, self.x):
                cubic_mean(product, x_square[rows], z_square, self.weights[:, 0], sums[rows])
            out[:, 0] += sums
            return out
        centres = np.ascontiguousarray(self.x.T)
        phi = np.empty((min(BLOCK, points.shape[0]), self.x.shape[0]))
        for start in range(0, points.shape[0], BLOCK):
            some = points[start : start + BLOCK]
            cubic_cross(some, centres, phi[: some.shape[0]])
            out[start : start + BLOCK] += phi[: some.shape[0]] @ self.weights
        return out

    def predict(self, x: npt.ArrayLike) -> Prediction:
        """Prediction of the first output, without uncertainty, (q, D) -> (q,)."""
        values = self.values(x)
        return Prediction(values[:, 0], np.zeros(values.shape[0]))


def fit(x: npt.ArrayLike, y: npt.ArrayLike, *, ridge: float = 0.0) -> RBF:
    """Solve for the weights.

    Parameters
    ----------
    x : (n, D) array
        Nodes.
    y : (n,) or (n, M) array
        Outputs; M columns share one factorisation.
    ridge : float
        eta >= 0, added to the diagonal of Phi.

    Raises
    ------
    SurrogateError
        Shapes that do not agree, values that are not finite, a negative ridge, no node, or two equal nodes without a
        ridge.

    References
    ----------
    Powell, M. J. D. (1992). The theory of radial basis function approximation in 1990.

    Examples
    --------
    >>> model = fit([[0.0], [0.5], [1.0]], [1.0, 2.0, 3.0])
    >>> model.predict([[0.25]]).mean.round(12)
    array([1.5])
    """
    if not ridge >= 0.0:
        raise SurrogateError(f"ridge: expected a number >= 0, got {ridge!r}")
    nodes = as_points("x", x)
    outputs = np.asarray(y, dtype=np.float64)
    outputs = outputs[:, None] if outputs.ndim == 1 else outputs
    n = nodes.shape[0]
    if outputs.ndim != 2 or outputs.shape[0] != n or n == 0:
        raise SurrogateError(f"y: expected one row a node, at least one; got x {nodes.shape}, y {outputs.shape}")
    if not np.isfinite(outputs).all():
        raise SurrogateError("y: expected finite outputs; leave failed trials out")

    basis, singular, vectors = np.linalg.svd(np.hstack([np.ones((n, 1)), nodes]), full_matrices=False)
    rank = int(np.sum(singular > singular[0] * 1e-10))
    # Fortran order: LAPACK factors it in place. The matrix is symmetric, so the kernel fills its transpose.
    system = np.zeros((n + rank, n + rank), order="F")
    cubic_matrix(nodes, system.T)
    system[np.arange(n), np.arange(n)] += ridge
    system[:n, n:] = basis[:, :rank]
    system[n:, :n] = basis[:, :rank].T
    right = np.zeros((n + rank, outputs.shape[1]), order="F")
    right[:n] = outputs
    factor, pivots, info = lapack.dgetrf(system, overwrite_a=True)
    diagonal = np.abs(np.diagonal(factor))
    if info != 0 or diagonal.min() <= 1e-15 * diagonal.max():
        raise SurrogateError(
            f"rbf: the system of {n} nodes is singular to rounding: two nodes are equal, "
            "or almost; merge them, or give a ridge"
        )
    solution, _ = lapack.dgetrs(factor, pivots, right, overwrite_b=True)
    weights = np.ascontiguousarray(solution[:n])
    tail = (vectors[:rank].T / singular[:rank]) @ solution[n:]
    return RBF(nodes, weights, tail)
