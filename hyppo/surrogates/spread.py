"""How noisy a training is, where few replicas say little of it.

    symbol   shape   meaning
    s2       (n,)    sample variance over a point's replicas
    f        (n,)    its degrees of freedom, replicas - 1
    vbar     float   pooled variance, sum f s2 / sum f
    v        (n,)    (k vbar + f s2) / (k + f): k prior degrees of freedom at the pooled variance

The variance of three replicas is off by a factor of two as often as not; a scaled inverse chi-squared prior at the
pooled variance is the shrinkage (Smyth 2004). A point with one replica takes vbar.
"""

import numpy as np

from hyppo.space import FloatArray

PRIOR_FREEDOM = 4.0


def shrink(variance: FloatArray, freedom: FloatArray) -> FloatArray | None:
    """Variances of single trainings, (n,), (n,) -> (n,); None where no point was ever repeated.

    >>> shrink(np.array([0.0, 6.0, 0.0]), np.array([2.0, 2.0, 0.0]))
    array([2., 4., 3.])
    """
    total = float(freedom.sum())
    if not total > 0.0:
        return None
    pooled = float(np.sum(freedom / total * variance))
    return np.asarray((PRIOR_FREEDOM * pooled + freedom * variance) / (PRIOR_FREEDOM + freedom))
