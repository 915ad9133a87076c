"""Powers of Yeo & Johnson (2000).

symbol      shape  meaning
u           (n,)   values
logarithms  (n,)   log(1 + |u|)
power       float  lambda; the branch of a sign takes lambda above 0 and 2 - lambda below
"""

import math

from hyppo._kernels.jit import jit


@jit
def yeo_johnson_variance(u, logarithms, power, out):  # type: ignore[no-untyped-def]
    """out[0] = variance of the transformed values; (n,), (n,), float -> (1,). By a running mean: nothing is kept."""
    mean = 0.0
    squares = 0.0
    for i in range(u.shape[0]):
        exponent = power if u[i] >= 0.0 else 2.0 - power
        value = logarithms[i] if abs(exponent) < 1e-9 else math.expm1(exponent * logarithms[i]) / exponent
        value = math.copysign(value, u[i])
        difference = value - mean
        mean += difference / (i + 1)
        squares += difference * (value - mean)
    out[0] = squares / max(u.shape[0], 1)
