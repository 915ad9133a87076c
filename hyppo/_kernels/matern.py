"""Matern-5/2 correlation c(r) = (1 + s + s^2/3) exp(-s), s = sqrt(5) r, and the gradient of the log posterior.

    symbol    shape    meaning
    z         (n, D)   features divided by their lengthscales l
    zt        (D, n)   the same, transposed: loops over points are then contiguous and become vector instructions
    owner     (D,)     parameter of each column
    variance  float    signal variance
    K         (n, n)   variance c(|z_i - z_j|) + noise_i [i = j]
    alpha     (n,)     K^-1 (y - mu)

With r^2 = sum_k (z_ik - z_jk)^2:  dc_ij / dlog l_p = 5/3 (1 + s) exp(-s) sum_{k of p} (z_ik - z_jk)^2
(Rasmussen & Williams 2006, eq. 4.17, by the chain rule).
"""

import math

from hyppo._kernels.jit import inline, jit_reordered

ROOT5 = math.sqrt(5.0)
FARTHEST = 40.0  # c is 2e-15 there: beyond, everything is as far


@inline
def exp_minus(s: float) -> float:
    """exp(-s) for s in [0, 40], to a relative 3e-14: Taylor's series at s/128, squared seven times.

    The C library's exp is a call for every number; this is plain arithmetic that the compiler does four at a time.
    """
    x = s * (-1.0 / 128.0)
    p = 1.0 + x / 12.0
    p = 1.0 + x * p / 11.0
    p = 1.0 + x * p / 10.0
    p = 1.0 + x * p / 9.0
    p = 1.0 + x * p / 8.0
    p = 1.0 + x * p / 7.0
    p = 1.0 + x * p / 6.0
    p = 1.0 + x * p / 5.0
    p = 1.0 + x * p / 4.0
    p = 1.0 + x * p / 3.0
    p = 1.0 + x * p / 2.0
    p = 1.0 + x * p
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    return p


@jit_reordered
def matern_matrix(z, zt, variance, noise, out):  # type: ignore[no-untyped-def]
    """out[i, j] = K_ij for i >= j, the rest undefined; (n, D), (D, n), float, (n,) -> (n, n)."""
    for i in range(z.shape[0]):
        for j in range(i):
            out[i, j] = 0.0
        for k in range(z.shape[1]):
            at = z[i, k]
            for j in range(i):
                difference = at - zt[k, j]
                out[i, j] += difference * difference
        for j in range(i):
            s = ROOT5 * math.sqrt(out[i, j])
            s = FARTHEST if s > FARTHEST else s
            out[i, j] = variance * (1.0 + s + s * s * (1.0 / 3.0)) * exp_minus(s)
        out[i, i] = variance + noise[i]


@jit_reordered
def matern_cross(x, zt, variance, out):  # type: ignore[no-untyped-def]
    """out[i, j] = variance c(|x[i] - z[j]|); (q, D), (D, n), float -> (q, n)."""
    for i in range(x.shape[0]):
        for j in range(zt.shape[1]):
            out[i, j] = 0.0
        for k in range(x.shape[1]):
            at = x[i, k]
            for j in range(zt.shape[1]):
                difference = at - zt[k, j]
                out[i, j] += difference * difference
        for j in range(zt.shape[1]):
            s = ROOT5 * math.sqrt(out[i, j])
            s = FARTHEST if s > FARTHEST else s
            out[i, j] = variance * (1.0 + s + s * s * (1.0 / 3.0)) * exp_minus(s)


@jit_reordered
def matern_mean(product, x_square, z_square, variance, weights, out):  # type: ignore[no-untyped-def]
    """out[i] = sum_j weights_j variance c(r_ij), r_ij^2 = x_square_i + z_square_j - 2 product_ij.

    Shapes (q, n), (q,), (n,), float, (n,) -> (q,). Near 0 the square is off by rounding of the squares' sum, to which c
    is as little sensitive: its slope in r^2 is bounded.
    """
    for i in range(product.shape[0]):
        at = x_square[i]
        total = 0.0
        for j in range(product.shape[1]):
            square = at + z_square[j] - 2.0 * product[i, j]
            square = 0.0 if square < 0.0 else square
            s = ROOT5 * math.sqrt(square)
            s = FARTHEST if s > FARTHEST else s
            total += weights[j] * (1.0 + s + s * s * (1.0 / 3.0)) * exp_minus(s)
        out[i] = variance * total


@jit_reordered
def matern_system(zt, variance, noise, out):  # type: ignore[no-untyped-def]
    """out[i, j] = K_ij for i >= j, and w_ij = 5/3 variance (1 + s) exp(-s) for i > j above the diagonal.

    Shapes (D, n), float, (n,) -> (n, n). LAPACK does not touch the triangle that it does not factor, so the gradient's
    factors w are stored there: row i backwards from the last, out[n - 1 - i, n - i + j] = w_ij.
    """
    n = zt.shape[1]
    for i in range(n):
        row = out[i]
        idle = out[n - 1 - i, n - i :]
        for j in range(i):
            row[j] = 0.0
        for k in range(zt.shape[0]):
            at = zt[k, i]
            for j in range(i):
                difference = at - zt[k, j]
                row[j] += difference * difference
        for j in range(i):
            s = ROOT5 * math.sqrt(row[j])
            s = FARTHEST if s > FARTHEST else s
            e = variance * exp_minus(s)
            row[j] = (1.0 + s + s * s * (1.0 / 3.0)) * e
            idle[j] = (5.0 / 3.0) * (1.0 + s) * e
        row[i] = variance + noise[i]


@jit_reordered
def matern_gradient(zt, owner, system, alpha, work, out):  # type: ignore[no-untyped-def]
    """out[p] = 1/2 sum_ij (K^-1 - alpha alpha^T)_ij dK_ij / dlog l_p, without the n x n x d array.

    Shapes (D, n), (D,), (n, n), (n,), (2, n) -> (d,); `system` holds K^-1 for i >= j and, above the diagonal, the
    factors w of `matern_system`; `work` is overwritten. With M_ij = (K^-1 - alpha alpha^T)_ij w_ij it is the sum over
    i > j of M_ij (z_ik - z_jk)^2 = M_ij z_ik^2 + M_ij z_jk^2 - 2 M_ij z_ik z_jk: one product in the inner loop.
    """
    n = zt.shape[1]
    weight = work[0]
    total = work[1]
    for p in range(out.shape[0]):
        out[p] = 0.0
    for j in range(n):
        total[j] = 0.0
    for i in range(n):
        row = system[i]
        idle = system[n - 1 - i, n - i :]
        scale = alpha[i]
        of_row = 0.0
        for j in range(i):
            weight[j] = (row[j] - scale * alpha[j]) * idle[j]
            of_row += weight[j]
            total[j] += weight[j]
        total[i] += of_row
        for k in range(zt.shape[0]):
            mixed = 0.0
            for j in range(i):
                mixed += weight[j] * zt[k, j]
            out[owner[k]] -= 2.0 * zt[k, i] * mixed
    for k in range(zt.shape[0]):
        square = 0.0
        for j in range(n):
            square += total[j] * zt[k, j] * zt[k, j]
        out[owner[k]] += square
