"""Distances in feature space.

symbol   shape    meaning
x        (q, D)   points
centres  (n, D)   visited and pending points
"""

import math

from hyppo._kernels.jit import jit_reordered


@jit_reordered
def min_distance(x, centres, out):  # type: ignore[no-untyped-def]
    """out[i] = min_j |x[i] - centres[j]|, infinite if there is no centre; (q, D), (n, D) -> (q,)."""
    for i in range(x.shape[0]):
        least = math.inf
        for j in range(centres.shape[0]):
            square = 0.0
            for k in range(x.shape[1]):
                difference = x[i, k] - centres[j, k]
                square += difference * difference
            if square < least or square != square:  # a NaN is taken and, since nothing is less, kept: as numpy does
                least = square
        out[i] = math.sqrt(least)
