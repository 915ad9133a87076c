"""Replicate or explore: whether the next trainings go to known points or to new ones.

    symbol  meaning
    f       (k,) true scores of the contenders on the scale of the targets
    q       (k,) probability that the process is wrong at each (`gaussian_process.doubt`)
    C       (k,) variances of f, a mixture: with probability 1 - q the process's, with q that of the point's own mean
    v       (k,) variance of one training
    p       (k,) probability of being the best, by draws of f, those of the process joint ones
    lead    the contender of the least mean
    loss    E[f_lead - min f], the expected loss of recommending the lead instead of the best contender

Every point gets the fewest trainings. Half of the trainings after the first EXPLORED go to contenders: early contenders
are soon overtaken, so replicas pay late. Compared with three in ten from the start this was worth 1.17 +-0.10 times the
trainings at 60 and 1.13 +-0.07 at 150 on ten tables of real trainings, and 1.4 +-0.2 and 1.75 +-0.23 on 57 synthetic
problems (benchmark's split "choose"). The contenders are those points whose mean, less their standard deviation, is
among the least. A further training goes to the largest p (1 - p) C^2 / (C + v): how open it is whether the point is the
best, times how much the training lowers its variance. So trainings go to the top as long as its order is open, and bad
points stay at the fewest. A point that is much better than its neighbours tell is trained again, to see whether that
was luck. Several at a time are chosen one by one, each with the variances after the one before. Nothing is replicated
once `loss` is small: without noise, or if the order is clear.

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
CONVINCING = 2  # repeated trainings, all with the loss of the first of their point, that prove that there is no noise
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
    repeats = int((evidence.count - 1).sum())
    if evidence.noise is None or (repeats < CONVINCING and not evidence.variance.any()):
        # Repeated trainings tell noise from a rough surface, and the best observed is the first to doubt.
        first = int(evidence.row[np.argmin(np.where(able, evidence.y, np.inf))])
        if room[first]:
            return {first: 1}
    elif not failing and float(evidence.noise[able].max()) <= EXACT:
        return {}
    shown, posterior = gaussian_process.visited(evidence, known.model)
    at = np.flatnonzero(able[shown])
    if at.size > SCREENED:  # a mean costs O(n), a standard deviation O(n^2)
        best = np.minimum(posterior.mean[at], evidence.y[shown[at]])
        at = at[np.argsort(best, kind="stable")[:SCREENED]]
    wrong = np.zeros(at.size)
    if evidence.noise is not None:
        wrong = gaussian_process.doubt(posterior.model, at, posterior.noise[at])
    told, own = evidence.y[shown[at]], posterior.noise[at]
    mean, variance = gaussian_process.mixed(wrong, posterior.mean[at], posterior.std(at) ** 2, told, own)
    order = np.argsort(mean - np.sqrt(variance), kind="stable")[:CONTENDERS]
    at, wrong, told, own, mean = at[order], wrong[order], told[order], own[order], mean[order]
    top, expected, covariance = shown[at], posterior.mean[at], posterior.covariance(at)
    single = own * evidence.count[top]
    left = room[evidence.row[top]].copy()
    lead = int(np.argmin(mean))
    normal, alone = generator.standard_normal((2, DRAWS, top.size))
    apart = generator.random((DRAWS, top.size)) < wrong
    # A few trainings tell whether the lead fails more often than not.
    trained = int(evidence.count[top[lead]] + failed[evidence.row[top[lead]]])
    untested = failing and trained < TESTED and left[lead] > 0
    chosen: dict[int, int] = {}
    for k in range(min(count, int(left.sum()))):
        draws = np.where(apart, told + np.sqrt(own) * alone, _draws(expected, covariance, normal))
        if k == 0 and not untested and float(np.mean(draws[:, lead] - draws.min(axis=1))) < CLEAR:
            return {}
        share = np.bincount(np.argmin(draws, axis=1), minlength=top.size) / DRAWS
        _, variance = gaussian_process.mixed(wrong, expected, np.maximum(np.diag(covariance), 1e-12), told, own)
        worth = share * (1.0 - share) * variance**2 / (variance + single)
        i = lead if k == 0 and untested else int(np.argmax(np.where(left > 0, worth, -1.0)))
        column = covariance[:, i] / np.sqrt(covariance[i, i] + single[i])
        covariance = covariance - np.outer(column, column)
        own[i] = own[i] * single[i] / (own[i] + single[i])
        left[i] -= 1
        row = int(evidence.row[top[i]])
        chosen[row] = chosen.get(row, 0) + 1
    return chosen


def _draws(mean: FloatArray, covariance: FloatArray, normal: FloatArray) -> FloatArray:
    """Draws from a joint normal, from those of a standard one, (k,), (k, k), (DRAWS, k) -> (DRAWS, k)."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(mean + normal @ (vectors * np.sqrt(np.maximum(values, 0.0))).T)
