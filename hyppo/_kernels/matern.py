"""Matern-5/2 correlation c(r) = (1 + s + s^2/3) exp(-s), s = sqrt(5) r, and the derivative of what it enters.

    symbol    shape    meaning
    z         (n, D)   features divided by their lengthscales l
    owner     (D,)     parameter of each column
    variance  float    signal variance
    K         (n, n)   variance c(|z_i - z_j|) + noise_i [i = j]
    alpha     (n,)     K^-1 (y - mu)

With r^2 = sum_k (z_ik - z_jk)^2:  dc_ij / dlog l_p = 5/3 (1 + s) exp(-s) sum_{k of p} (z_ik - z_jk)^2
(Rasmussen & Williams 2006, eq. 4.17, by the chain rule).
"""

import math

from hyppo._kernels.jit import jit_reordered

ROOT5 = math.sqrt(5.0)


@jit_reordered
def matern_matrix(z, variance, noise, out):  # type: ignore[no-untyped-def]
    """out[i, j] = K_ij for i >= j; what is above the diagonal is left as it is; (n, D), float, (n,) -> (n, n)."""
    for i in range(z.shape[0]):
        for j in range(i):
            square = 0.0
            for k in range(z.shape[1]):
                difference = z[i, k] - z[j, k]
                square += difference * difference
            s = ROOT5 * math.sqrt(square)
            out[i, j] = variance * (1.0 + s + s * s / 3.0) * math.exp(-s)
        out[i, i] = variance + noise[i]


@jit_reordered
def matern_cross(x, z, variance, out):  # type: ignore[no-untyped-def]
    """out[i, j] = variance c(|x[i] - z[j]|); (q, D), (n, D), float -> (q, n)."""
    for i in range(x.shape[0]):
        for j in range(z.shape[0]):
            square = 0.0
            for k in range(x.shape[1]):
                difference = x[i, k] - z[j, k]
                square += difference * difference
            s = ROOT5 * math.sqrt(square)
            out[i, j] = variance * (1.0 + s + s * s / 3.0) * math.exp(-s)


@jit_reordered
def matern_contraction(z, owner, inverse, alpha, out):  # type: ignore[no-untyped-def]
    """out[p] = sum_ij (K^-1 - alpha alpha^T)_ij dc_ij / dlog l_p, without the n x n x d array.

    Shapes (n, D), (D,), (n, n), (n,) -> (d,); of K^-1 only the triangle i > j is read.
    """
    for p in range(out.shape[0]):
        out[p] = 0.0
    for i in range(z.shape[0]):
        for j in range(i):
            square = 0.0
            for k in range(z.shape[1]):
                difference = z[i, k] - z[j, k]
                square += difference * difference
            s = ROOT5 * math.sqrt(square)
            factor = (inverse[i, j] - alpha[i] * alpha[j]) * (10.0 / 3.0) * (1.0 + s) * math.exp(-s)
            for k in range(z.shape[1]):
                difference = z[i, k] - z[j, k]
                out[owner[k]] += factor * difference * difference
