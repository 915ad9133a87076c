"""The parts of a Gaussian process's likelihood that are sums over its points.

    symbol      shape   meaning
    solution    (2, n)  K^-1 y and K^-1 1
    factor      (n, n)  triangular factor of K; its diagonal is read
    alpha       (n,)    K^-1 (y - mu)
    noise       (n,)    noise variances, and the jitter beside them, on the diagonal of K

See `hyppo.surrogates.gp`. A dozen calls of numpy an evaluation took longer than all else, at fifty points.
"""

import math

from hyppo._kernels.jit import jit


@jit
def generalised_mean(solution, y, factor, alpha, out):  # type: ignore[no-untyped-def]
    """out[:] = mu, (y - mu)^T alpha, 1/2 log |K|; and alpha; (2, n), (n,), (n, n), (n,) -> (3,)."""
    n = y.shape[0]
    above = 0.0
    below = 0.0
    for i in range(n):
        above += solution[0, i]
        below += solution[1, i]
    mu = above / below
    fitted = 0.0
    logarithm = 0.0
    for i in range(n):
        alpha[i] = solution[0, i] - mu * solution[1, i]
        fitted += (y[i] - mu) * alpha[i]
        logarithm += math.log(factor[i, i])
    out[0] = mu
    out[1] = fitted
    out[2] = logarithm


@jit
def variance_gradient(inverse, alpha, noise, jitter, fitted, out):  # type: ignore[no-untyped-def]
    """out[:] = derivatives of the minus log likelihood by log s2 and t; (n, n), (n,), (n,), float, float -> (2,).

    tr(K^-1 s2 C) = tr(K^-1 (K - N)): no second pass over the matrix.
    """
    n = alpha.shape[0]
    by_noise = 0.0
    by_jitter = 0.0
    for i in range(n):
        excess = inverse[i, i] - alpha[i] * alpha[i]
        by_noise += excess * noise[i]
        by_jitter += excess
    out[0] = 0.5 * (n - fitted - by_noise - jitter * by_jitter)
    out[1] = 0.5 * by_noise
