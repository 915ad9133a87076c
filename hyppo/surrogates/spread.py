"""Variance of a single training at each point, estimated from few replicas.

    symbol   shape   meaning
    x        (n, D)  features
    s2       (n,)    sample variance over a point's replicas
    f        (n,)    its degrees of freedom, replicas - 1
    g        (n,)    log s2 + log(f/2) - digamma(f/2): unbiased for the log of the true variance
    v        (n,)    the result: the variance of a single training at each point

The variance of three replicas is off by a factor of two as often as not, so each point borrows from the others. Few
points are shrunk to their pooled variance: v = (k vbar + f s2) / (k + f), a scaled inverse chi-squared prior with k
degrees of freedom (Smyth 2004). With more points the noise becomes a function of the point: g has the variance
trigamma(f/2) for any noise, so a Gaussian process with that noise smooths it (stochastic kriging of the spread:
Ankenman, Nelson & Staum 2010, section 3.3; Binois, Gramacy & Ludkovski 2018).
"""

import numpy as np
from scipy.special import digamma, polygamma

from hyppo.space import FloatArray, IntArray
from hyppo.surrogates import gp

PRIOR_FREEDOM = 4.0
SMOOTHED_FROM = 8  # points with replicas
SMOOTHED_ON = 300  # points at most, spread over time: the spread is smooth
SMALLEST = 1e-3  # of the median: losses on a grid give a variance of 0, whose logarithm must not rule


def shrink(variance: FloatArray, freedom: FloatArray) -> FloatArray | None:
    """Variances of single trainings, (n,), (n,) -> (n,), shrunk to the pooled variance; None if no point has replicas.

    >>> shrink(np.array([0.0, 6.0, 0.0]), np.array([2.0, 2.0, 0.0]))
    array([2., 4., 3.])
    """
    total = float(freedom.sum())
    if not total > 0.0:
        return None
    pooled = float(np.sum(freedom / total * variance))
    return np.asarray((PRIOR_FREEDOM * pooled + freedom * variance) / (PRIOR_FREEDOM + freedom))


def smooth(
    x: FloatArray, variance: FloatArray, freedom: FloatArray, owner: IntArray, start: tuple[float, ...] | None = None
) -> tuple[FloatArray | None, tuple[float, ...] | None]:
    """Variances of single trainings by neighbours, or by the pool if points are few; hyperparameters of the process.

    Parameters
    ----------
    x : (n, D) array
    variance, freedom : (n,) arrays
        s2 and f.
    owner : (D,) array of int
        Parameter of each column.
    start : tuple of float, optional
        Hyperparameters to start from: those of an earlier call.

    Returns
    -------
    v : (n,) array or None
        None if no point was ever repeated.
    theta : tuple of float or None
        None without a process.

    Examples
    --------
    >>> x = np.linspace(0, 1, 20)[:, None]
    >>> noisy = np.where(x[:, 0] < 0.5, 1.0, 1e-4)
    >>> v, theta = smooth(x, noisy, np.full(20, 2.0), np.array([0]))
    >>> bool(v[2] / v[-2] > 100)
    True
    """
    positive = (freedom > 0.0) & (variance > 0.0)
    if int(positive.sum()) < SMOOTHED_FROM:
        return shrink(variance, freedom), None
    rows = np.flatnonzero(freedom > 0.0)
    if rows.size > SMOOTHED_ON:
        rows = rows[np.linspace(0, rows.size - 1, SMOOTHED_ON).astype(np.int64)]
    half = 0.5 * freedom[rows]
    floor = SMALLEST * float(np.median(variance[positive]))
    log_variance = np.log(np.maximum(variance[rows], floor)) + np.log(half) - digamma(half)
    model = gp.fit(
        x[rows],
        log_variance - log_variance.mean(),
        noise=polygamma(1, half),
        owner=owner,
        starts=[] if start is None else [np.array(start)],
        iterations=20,
        noise_std=0.1,
    )
    return np.asarray(np.exp(log_variance.mean() + model.predict_mean(x))), tuple(model.theta.tolist())
