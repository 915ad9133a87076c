"""Losses of ensembles of different size made comparable.

    symbol  shape   meaning
    T       (n,)    networks of an ensemble
    l       (n,)    its loss: the criterion of its mean prediction
    s       (n,)    mean loss of its networks, each alone
    c       (n,)    the part of the loss of one network that averaging removes: E[l] = l_inf + c / T
    M       int     the size at which ensembles are compared

For a squared error the loss of the mean prediction is the squared bias plus the model variance over T, so the law is
exact and c is the variance of a prediction, averaged over the examples; for another smooth criterion it is that to
first order. So c = (s - l) / (1 - 1 / T) from T >= 2 networks. One network does not tell c: it gets the median of the
better trials, and few networks are drawn toward it. The variance of l is taken for u^2 / T, u the standard deviation of
the single losses, in which the part that averaging removes counts as well: a little too wide.
"""

import math
from collections.abc import Sequence

import numpy as np

from hyppo.space import FloatArray, IntArray
from hyppo.stats import LossStats
from hyppo.trial import ReplicaRecord

PRIOR = 2.0  # degrees of freedom that the usual c counts for
FEWEST = 8  # better trials, at least, of which the usual c is the median, and half of all if these are more


def alone(records: Sequence[ReplicaRecord]) -> float:
    """Mean loss of an ensemble of one network, over several; NaN if none has predictions.

    With dropout passes the mean prediction of a single network is an average already. Its loss is known of the network
    that ended first, and the difference to the mean of its single losses is taken off the others as well.

    >>> records = [
    ...     ReplicaRecord(i, 0, loss=loss, end=float(i), losses=LossStats(1, loss, None), ensemble_loss=ensemble)
    ...     for i, (loss, ensemble) in enumerate([(1.0, 1.0), (3.0, 1.5)])
    ... ]
    >>> alone(records)
    2.0
    """
    predicted = _predicted(records)
    if not predicted:
        return math.nan
    singles = [r.losses.mean for r in predicted if r.losses is not None]
    first = min(predicted, key=_end)
    averaged = 0.0
    if first.ensemble_loss is not None and first.losses is not None and first.losses.n > 1:
        averaged = first.losses.mean - first.ensemble_loss
    return math.fsum(singles) / len(singles) - averaged


def at_size(size: IntArray, loss: FloatArray, single: FloatArray, wanted: int) -> FloatArray:
    """Expected losses of ensembles of `wanted` networks, from those of T and of single networks, (n,) each -> (n,).

    Unchanged if no ensemble has two networks.

    >>> at_size(np.array([4, 1]), np.array([1.25, 2.5]), np.array([2.0, 2.5]), wanted=2)
    array([1.5, 2. ])
    """
    several = (size > 1) & np.isfinite(single)
    if not several.any():
        return loss
    gain = np.zeros(loss.size)
    gain[several] = (single[several] - loss[several]) / (1.0 - 1.0 / size[several])
    better = np.flatnonzero(several)[np.argsort(loss[several], kind="stable")]
    usual = float(np.median(gain[better[: max(FEWEST, better.size // 2)]]))
    own = np.where(several, size - 1.0, 0.0)
    gain = (PRIOR * usual + own * gain) / (PRIOR + own)
    return np.asarray(loss + gain * (1.0 / wanted - 1.0 / np.maximum(size, 1)))


def ensemble_stats(records: Sequence[ReplicaRecord], wanted: int) -> LossStats | None:
    """Number of networks, loss of an ensemble of `wanted` of them, and standard deviation of the single losses.

    None if the loss of their mean prediction is unknown.
    """
    predicted = _predicted(records)
    measured = [r for r in predicted if r.ensemble_loss is not None]
    if not measured:
        return None
    last = max(measured, key=_end)
    assert last.ensemble_loss is not None
    members = [r for r in predicted if _end(r) <= _end(last)]
    singles = LossStats.pooled(r.losses for r in members if r.losses is not None)
    size = np.array([len(members)])
    loss = at_size(size, np.array([last.ensemble_loss]), np.array([alone(members)]), wanted)
    return LossStats(len(members), float(loss[0]), singles.std if singles is not None and len(members) > 1 else None)


def _predicted(records: Sequence[ReplicaRecord]) -> list[ReplicaRecord]:
    """Records of networks whose predictions were evaluated."""
    return [r for r in records if r.loss is not None and r.losses is not None]


def _end(record: ReplicaRecord) -> float:
    return math.inf if record.end is None else record.end
