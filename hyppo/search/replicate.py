"""Replicate or explore: whether the next trainings go to known points or to new ones.

    symbol  meaning
    f       (k,) true scores of the contenders on the scale of the targets: normal, by the process's joint posterior
    C       (k, k) its covariance
    v       (k,) variance of one training
    p       (k,) probability of being the best, by draws of f
    lead    the contender of the least posterior mean
    loss    E[f_lead - min f], the expected loss of recommending the lead instead of the best contender

Every point gets the fewest trainings. Half of the trainings after the first EXPLORED go to contenders: early contenders
are soon overtaken, so replicas pay late. Compared with three in ten from the start this was worth 1.17 +-0.10 times the
trainings at 60 and 1.13 +-0.07 at 150 on ten tables of real trainings, and 1.4 +-0.2 and 1.75 +-0.23 on 57 synthetic
problems (benchmark's split "choose"). The contenders are those points whose posterior mean, less their standard
deviation, is among the least. A further training goes to the largest p (1 - p) C_ii^2 / (C_ii + v_i): how open it is
whether the point is the best, times how much the training lowers its variance. So trainings go to the top as long as
its order is open, and bad points stay at the fewest. Several at a time are chosen one by one, each with the covariance
after the one before. Nothing is replicated once `loss` is small: without noise, or if the order is clear.

References
----------
Binois, Huang, Gramacy & Ludkovski 2019, Technometrics 61:7 (replication or exploration).
Chen, Lin, Yucesan & Chick 2000, Discrete Event Dynamic Systems 10:251 (optimal computing budget allocation).
"""

import numpy as np

from hyppo.search import gaussian_process
from hyppo.search.budget import Left
from hyppo.search.known import Known
from hyppo.search.threads import on_one_thread
from hyppo.space import FloatArray, IntArray

EXPLORED = 40  # trainings before the first further replica
EXPLORED_SHARE = 0.6  # of a known budget that passes before it, at most
SHARE = 0.5  # of the later trainings that are further replicas while points are asked
SETTLED = 1.0  # further replicas for each point at most, once all points of a budget of trials were asked
CONTENDERS = 20
SCREENED = 100  # points with the least means, among which the contenders are found
CLEAR = 0.01  # expected loss, in standard deviations of all scores, from which the order of the contenders is clear
EXACT = 2e-6  # variance of the means up to which the order of the contenders is clear: they differ by more
DRAWS = 256
TESTED = 3  # trainings of the lead if failures are frequent


def due(points: int, spent: int, further: int, count: int, left: Left, exhausted: bool) -> int:
    """Trainings of the next `count` that go to further replicas, if contenders need them.

    Parameters
    ----------
    points, spent, further : int
        Points and trainings asked so far, and those of them beyond the fewest of their point.
    count : int
        Trainings to be asked now.
    left : Left
    exhausted : bool
        Whether the space has no new point.

    Examples
    --------
    >>> due(points=71, spent=100, further=29, count=1, left=Left(), exhausted=False)
    1
    >>> due(points=70, spent=100, further=30, count=1, left=Left(), exhausted=False)
    0
    >>> due(points=20, spent=20, further=0, count=2, left=Left(trainings=10), exhausted=False)
    2
    >>> due(points=70, spent=100, further=30, count=8, left=Left(trials=0), exhausted=False)
    8
    """
    if left.trials == 0:
        return max(0, min(count, int(SETTLED * points) - further))
    if exhausted:
        return count
    begin = float(EXPLORED)
    if left.trainings is not None:
        begin = min(begin, EXPLORED_SHARE * (spent + left.trainings))
    if left.trials is not None:
        begin = min(begin, EXPLORED_SHARE * (points + left.trials))
    return max(0, min(count, int(SHARE * (spent + count - begin)) - further))


@on_one_thread
def contenders(
    known: Known, room: IntArray, failed: IntArray, failing: bool, generator: np.random.Generator, count: int
) -> dict[int, int]:
    """Rows of the visited points to train again, and how often each: at most `count` trainings in total.

    Parameters
    ----------
    known : Known
    room, failed : (n,) arrays
        Further trainings that each row of the observations may have, and its failed ones.
    failing : bool
        Whether failures are frequent: then the lead must have been trained TESTED times.
    generator : numpy.random.Generator
        Of this ask alone.
    count : int
    """
    if not known.enough or not room.any():
        return {}
    evidence = known.evidence
    able = evidence.settled & (failed[evidence.row] <= evidence.count)
    if not able.any():
        return {}
    if evidence.noise is None:
        # One repeated training tells noise from a rough surface, and the best observed is the first to doubt.
        best = int(evidence.row[np.argmin(np.where(able, evidence.y, np.inf))])
        if room[best]:
            return {best: 1}
    elif not failing and float(evidence.noise[able].max()) <= EXACT:
        return {}
    shown, posterior = gaussian_process.visited(evidence, known.model)
    at = np.flatnonzero(able[shown])
    if at.size > SCREENED:  # a mean costs O(n), a standard deviation O(n^2)
        at = at[np.argsort(posterior.mean[at], kind="stable")[:SCREENED]]
    promise = posterior.mean[at] - posterior.std(at)
    at = at[np.argsort(promise, kind="stable")[:CONTENDERS]]
    top, mean, covariance = shown[at], posterior.mean[at], posterior.covariance(at)
    left = room[evidence.row[top]].copy()
    normal = generator.standard_normal((DRAWS, top.size))
    draws = _draws(mean, covariance, normal)
    lead = int(np.argmin(mean))
    # A few trainings tell whether the lead fails more often than not.
    trained = int(evidence.count[top[lead]] + failed[evidence.row[top[lead]]])
    untested = failing and trained < TESTED and left[lead] > 0
    if not untested and float(np.mean(draws[:, lead] - draws.min(axis=1))) < CLEAR:
        return {}
    single = np.full(top.size, known.model.noise_factor)
    if evidence.noise is not None:
        single *= evidence.noise[top] * evidence.count[top]
    chosen: dict[int, int] = {}
    for k in range(min(count, int(left.sum()))):
        if k == 0 and untested:
            at = lead
        else:
            if k > 0:
                draws = _draws(mean, covariance, normal)
            share = np.bincount(np.argmin(draws, axis=1), minlength=top.size) / DRAWS
            variance = np.maximum(np.diag(covariance), 1e-12)
            worth = share * (1.0 - share) * variance**2 / (variance + single)
            at = int(np.argmax(np.where(left > 0, worth, -1.0)))
        column = covariance[:, at] / np.sqrt(covariance[at, at] + single[at])
        covariance = covariance - np.outer(column, column)
        left[at] -= 1
        row = int(evidence.row[top[at]])
        chosen[row] = chosen.get(row, 0) + 1
    return chosen


def _draws(mean: FloatArray, covariance: FloatArray, normal: FloatArray) -> FloatArray:
    """Draws from a joint normal, from those of a standard one, (k,), (k, k), (DRAWS, k) -> (DRAWS, k)."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(mean + normal @ (vectors * np.sqrt(np.maximum(values, 0.0))).T)
