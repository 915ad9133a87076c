"""Variance of a single training at each point, estimated from few replicas.

    symbol   shape   meaning
    x        (n, D)  features
    s2       (n,)    sample variance over a point's replicas
    f        (n,)    its degrees of freedom, replicas - 1
    w        (n,)    (vbar + f s2) / (f + 1), vbar the pooled variance
    g        (n,)    log w + log((f + 1)/2) - digamma((f + 1)/2): unbiased for the log of the true variance
    v        (n,)    the result: the variance of a single training at each point

The variance of three replicas is off by a factor of two as often as not, so each point borrows from the others. Few
points are shrunk to their pooled variance: v = (k vbar + f s2) / (k + f), a scaled inverse chi-squared prior with k
degrees of freedom (Smyth 2004). With more points the noise becomes a function of the point: g has the variance
trigamma((f + 1)/2) for any noise, so a Gaussian process with that noise smooths it (stochastic kriging of the spread:
Ankenman, Nelson & Staum 2010, section 3.3; Binois, Gramacy & Ludkovski 2018), and vbar is then the smoothed variance.
"""

import numpy as np
from scipy.special import digamma, polygamma

from hyppo.space import FloatArray, IntArray
from hyppo.surrogates import gp

PRIOR_FREEDOM = 4.0
NOISE_PRIOR = (-6.0, 2.0)  # of log v; `gp.prior` has the same
WILD = 10.0
SMOOTHED_FROM = 8  # points with replicas
SMOOTHED_ON = 300  # points at most, spread over time: the spread is smooth


def level(variance: FloatArray, freedom: FloatArray, prior: tuple[float, float] = NOISE_PRIOR) -> tuple[float, float]:
    """Mean and standard deviation of tau = log v, v the variance of single trainings on the scale of the targets.

    The default prior is the one of the noise that a process learns from single trainings, the likelihood that of scaled
    chi-squared variances: p(tau) ~ N(tau; m, s^2) prod_i exp(-f_i / 2 (tau + s2_i exp(-tau))). Ties (losses
    in steps) pull the level down, and never to zero; one wild point counts as at most WILD times the median.

    >>> mean, std = level(np.array([0.01] * 40), np.full(40, 2.0))
    >>> bool(abs(mean - np.log(0.01)) < 0.1 and std < 0.2)
    True
    """
    tau = np.linspace(-14.0, 1.5, 311)
    log_density = -0.5 * ((tau - prior[0]) / prior[1]) ** 2
    positive = variance[(freedom > 0.0) & (variance > 0.0)]
    bounded = np.minimum(variance, WILD * float(np.median(positive))) if positive.size else variance
    log_density -= 0.5 * (float(freedom.sum()) * tau + float(freedom @ bounded) * np.exp(-tau))
    weight = np.exp(log_density - log_density.max())
    weight /= weight.sum()
    mean = float(weight @ tau)
    return mean, float(np.sqrt(weight @ (tau - mean) ** 2))


def shrink(variance: FloatArray, freedom: FloatArray) -> FloatArray | None:
    """Variances of single trainings, (n,), (n,) -> (n,), shrunk to the pooled variance; None if no point has replicas.

    >>> shrink(np.array([0.0, 0.06, 0.0]), np.array([40.0, 40.0, 0.0])).round(3)
    array([0.003, 0.057, 0.03 ])
    """
    if not float(freedom.sum()) > 0.0:
        return None
    pooled = float(np.exp(level(variance, freedom)[0]))
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
    >>> freedom = np.full(20, 7.0)
    >>> v, theta = smooth(x, noisy, freedom, np.array([0]))
    >>> bool(v[2] / v[-2] > 20)
    True

    Without neighbours the pool hides most of that difference:

    >>> pooled = shrink(noisy, freedom)
    >>> bool(pooled[2] / pooled[-2] < 5)
    True
    """
    positive = (freedom > 0.0) & (variance > 0.0)
    if int(positive.sum()) < SMOOTHED_FROM:
        return shrink(variance, freedom), None
    rows = np.flatnonzero(freedom > 0.0)
    if rows.size > SMOOTHED_ON:
        rows = rows[np.linspace(0, rows.size - 1, SMOOTHED_ON).astype(np.int64)]
    # Replicas that tie have a variance of 0, whose logarithm must not rule: each point gets one degree of the pool.
    half = 0.5 * (freedom[rows] + 1.0)
    pooled = np.exp(level(variance, freedom)[0])
    log_variance = np.log((pooled + freedom[rows] * variance[rows]) / (2.0 * half)) + np.log(half) - digamma(half)
    model = gp.fit(
        x[rows],
        log_variance - log_variance.mean(),
        noise=polygamma(1, half),
        owner=owner,
        starts=[] if start is None else [np.array(start)],
        iterations=20,
        noise_std=0.1,
    )
    around = np.exp(log_variance.mean() + model.predict_mean(x))
    # The process takes a point that is much noisier than its neighbours for chance; its own replicas still count.
    own = (PRIOR_FREEDOM * around + freedom * variance) / (PRIOR_FREEDOM + freedom)
    return np.asarray(own), tuple(model.theta.tolist())
