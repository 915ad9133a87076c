"""Cubic radial functions r^3.

    symbol   shape    meaning
    x        (q, D)   points
    centres  (n, D)   nodes

r^3 is conditionally positive definite of order 2 (Wendland 2005, chapter 8).
"""

import math

from hyppo._kernels.jit import jit_reordered


@jit_reordered
def cubic_matrix(x, out):  # type: ignore[no-untyped-def]
    """out[i, j] = |x[i] - x[j]|^3 in the leading block; (n, D) -> (>= n, >= n)."""
    for i in range(x.shape[0]):
        for j in range(i + 1):
            square = 0.0
            for k in range(x.shape[1]):
                difference = x[i, k] - x[j, k]
                square += difference * difference
            value = square * math.sqrt(square)
            out[i, j] = value
            out[j, i] = value


@jit_reordered
def cubic_cross(x, centres, out):  # type: ignore[no-untyped-def]
    """out[i, j] = |x[i] - centres[j]|^3; (q, D), (D, n) -> (q, n). The centres are transposed: see `matern`."""
    for i in range(x.shape[0]):
        for j in range(centres.shape[1]):
            out[i, j] = 0.0
        for k in range(x.shape[1]):
            at = x[i, k]
            for j in range(centres.shape[1]):
                difference = at - centres[k, j]
                out[i, j] += difference * difference
        for j in range(centres.shape[1]):
            out[i, j] *= math.sqrt(out[i, j])


@jit_reordered
def cubic_mean(product, x_square, z_square, weights, out):  # type: ignore[no-untyped-def]
    """out[i] = sum_j weights_j r_ij^3, r_ij^2 = x_square_i + z_square_j - 2 product_ij.

    Shapes (q, n), (q,), (n,), (n,) -> (q,). r^3 is as insensitive to rounding near 0 as `matern_mean` is.
    """
    for i in range(product.shape[0]):
        at = x_square[i]
        total = 0.0
        for j in range(product.shape[1]):
            square = at + z_square[j] - 2.0 * product[i, j]
            square = 0.0 if square < 0.0 else square
            total += weights[j] * square * math.sqrt(square)
        out[i] = total
