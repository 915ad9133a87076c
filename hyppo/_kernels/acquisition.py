"""Scores of candidates.

    symbol       shape  meaning
    mean, std    (q,)   posterior of the score, std of the latent function
    best         float  incumbent's posterior mean
    z            (q,)   (best - mean) / std

EI = std h(z), h(z) = pdf(z) + z cdf(z); log h from Ament et al. 2023, section 4, here by a continued fraction that has
no cancellation at all: with t = -z > 0 and the Mills ratio M(t) = 1/(t + 1/(t + 2/(t + ...))) (Abramowitz & Stegun
26.2.14), h = pdf(t) (1 - t M(t)) = pdf(t) c / (t + c), c = 1/(t + 2/(t + 3/(t + ...))).
"""

import math

from hyppo._kernels.jit import inline, jit

LOG_ROOT_2PI = 0.5 * math.log(2.0 * math.pi)
# The fraction converges more slowly near 0, the direct form loses digits far from 0. At this z both have an error of
# 2e-14.
MEET = -3.0
TERMS = 50  # at MEET; farther out the number needed falls as 1/z^2


@inline
def log_h(z: float) -> float:
    """log(pdf(z) + z cdf(z))."""
    if z > MEET:
        pdf = math.exp(-0.5 * z * z - LOG_ROOT_2PI)
        return math.log(pdf + 0.5 * z * math.erfc(-z * math.sqrt(0.5)))
    t = -z
    tail = t
    for k in range(8 + int(TERMS * (MEET / t) ** 2), 1, -1):
        tail = t + k / tail
    c = 1.0 / tail
    return -0.5 * t * t - LOG_ROOT_2PI + math.log(c / (t + c))


@jit
def log_expected_improvement(mean, std, best, out):  # type: ignore[no-untyped-def]
    """out[i] = log E[max(best - f, 0)], f ~ N(mean[i], std[i]^2); (q,), (q,), float -> (q,).

    Without uncertainty it is the log of the improvement itself, -inf if there is no improvement.
    """
    for i in range(mean.shape[0]):
        gain = best - mean[i]
        if std[i] > 0.0:
            out[i] = math.log(std[i]) + log_h(gain / std[i])
        elif gain > 0.0:
            out[i] = math.log(gain)
        elif gain <= 0.0:
            out[i] = -math.inf
        else:
            out[i] = math.nan


@jit
def weighted_score(value, distance, weight, out):  # type: ignore[no-untyped-def]
    """out[i] = w v_i + (1 - w)(1 - d_i), both scaled to 0..1 over the candidates; (q,), (q,), float -> (q,).

    The least score is best. A term in which all candidates agree counts as 1 (Regis & Shoemaker 2007).
    """
    lowest = math.inf
    highest = -math.inf
    nearest = math.inf
    farthest = -math.inf
    for i in range(value.shape[0]):
        if value[i] < lowest:
            lowest = value[i]
        if value[i] > highest:
            highest = value[i]
        if distance[i] < nearest:
            nearest = distance[i]
        if distance[i] > farthest:
            farthest = distance[i]
    for i in range(value.shape[0]):
        v = (value[i] - lowest) / (highest - lowest) if highest > lowest else 1.0
        d = (distance[i] - nearest) / (farthest - nearest) if farthest > nearest else 1.0
        out[i] = weight * v + (1.0 - weight) * (1.0 - d)
