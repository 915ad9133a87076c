"""Radial functions phi(r).

    symbol   shape    meaning
    x        (q, D)   where
    centres  (n, D)   nodes
    kind     int      0 cubic r^3, 1 thin plate r^2 log r, 2 linear -r, 3 multiquadric -sqrt(1 + r^2),
                      4 gaussian exp(-r^2)

Signs make every kind conditionally positive definite of order 2, 2, 1, 1, 0 (Powell 1992; Wendland 2005, chapter 8).
"""

import math

from hyppo._kernels.jit import inline, jit_reordered


@inline
def phi(square: float, kind: int) -> float:
    """phi(r) from r^2."""
    if kind == 0:
        return square * math.sqrt(square)
    if kind == 1:
        return 0.5 * square * math.log(square) if square > 0.0 else square
    if kind == 2:
        return -math.sqrt(square)
    if kind == 3:
        return -math.sqrt(1.0 + square)
    return math.exp(-square)


@jit_reordered
def radial_matrix(x, kind, out):  # type: ignore[no-untyped-def]
    """out[i, j] = phi(|x[i] - x[j]|) in the leading block; (n, D) -> (>= n, >= n)."""
    for i in range(x.shape[0]):
        for j in range(i + 1):
            square = 0.0
            for k in range(x.shape[1]):
                difference = x[i, k] - x[j, k]
                square += difference * difference
            value = phi(square, kind)
            out[i, j] = value
            out[j, i] = value


@jit_reordered
def radial_cross(x, centres, kind, out):  # type: ignore[no-untyped-def]
    """out[i, j] = phi(|x[i] - centres[j]|); (q, D), (D, n) -> (q, n). The centres are transposed: see `matern`."""
    for i in range(x.shape[0]):
        for j in range(centres.shape[1]):
            out[i, j] = 0.0
        for k in range(x.shape[1]):
            at = x[i, k]
            for j in range(centres.shape[1]):
                difference = at - centres[k, j]
                out[i, j] += difference * difference
        if kind == 0:  # the usual one, in a loop that holds nothing else
            for j in range(centres.shape[1]):
                out[i, j] *= math.sqrt(out[i, j])
        else:
            for j in range(centres.shape[1]):
                out[i, j] = phi(out[i, j], kind)


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
