"""Which of the points tried to recommend."""

import math
from dataclasses import dataclass

import numpy as np

from hyppo.search.evidence import Evidence
from hyppo.search.known import Known
from hyppo.search.threads import on_one_thread
from hyppo.space import FloatArray, IntArray

SOME_NOISE = -5.0  # log of a learned noise variance from which observations are not taken for the truth
EXACT = 1e-4  # variance of a training, on the scale of the targets, below which one training is evidence enough
OBSERVED = 0.15  # weight of the observed mean beside the posterior's
KEPT = 0.3  # of the variance of the observed mean, kept in the interval beside the posterior's


@dataclass(frozen=True)
class Recommendation:
    """The visited point to recommend."""

    row: int  # of the observations
    estimate: float  # posterior mean of the loss of a fresh training
    interval: tuple[float, float]  # 90 %, for the mean loss of training it again and again; infinite where unknown
    reason: str


@dataclass(frozen=True)
class Estimates:
    """Estimated losses of the visited points with enough evidence to be recommended.

    Attributes
    ----------
    index : (m,) array
        Rows of the evidence.
    value : (m,) array
        Posterior mean of the loss of a fresh training.
    low, high : (m,) arrays
        90 % interval for the mean loss of training it again and again; infinite where unknown.
    caution : (m,) array
        The recommended point has the lowest.
    """

    index: IntArray
    value: FloatArray
    low: FloatArray
    high: FloatArray
    caution: FloatArray


@on_one_thread
def estimate(known: Known, *, required: int = 1, failed: IntArray | None = None) -> Estimates | None:
    """Estimate the losses of the visited points, with intervals.

    Under noise an estimate is the posterior mean, with a little of the observation, since a smooth process smooths a
    sharp optimum away. `caution` adds some of the posterior's uncertainty and of the observation's standard error,
    since a point must have earned its place. Choosing so instead of by the observed mean was worth 1.4 times the
    trainings on problems with three replicas and 1.5 times with single noisy ones. If the process sees no noise, the
    observation is the truth: every blend was worse there.

    An interval is for the mean, not for one training. If replicas tell the noise, a third of its variance is kept
    beside the posterior's, for a posterior that was chosen because it is low; if the process has to guess the noise,
    all of it, and the observation is always inside.

    Parameters
    ----------
    known : Known
    required : int
        Replicas that a trial needs to be recommended; the most that any has, where that is fewer. If trainings are
        noisy and three points have two, two at least.
    failed : (n,) array, optional
        Failed trainings of each row of the observations. A point of which most failed is left out if there is another.

    Returns
    -------
    Estimates or None
        None without observations.
    """
    if known.data.mean.size == 0:
        return None
    evidence = known.evidence
    able = _able(evidence, required, _failures_of(evidence, failed))
    # The score is loss + risk * spread; estimate and interval are of the loss.
    added = np.zeros(able.size) if evidence.added is None else evidence.added[able]
    score, y = evidence.score[able], evidence.y[able]
    told = evidence.noise is not None
    if not known.enough:
        half = np.full(able.size, math.inf)
        if evidence.noise is not None:
            half = 1.645 * np.sqrt(2.0 * evidence.noise[able]) / evidence.outputs.derivative(evidence.score)[able]
        loss = score - added
        return Estimates(able, loss, loss - half, loss + half, score)
    model = known.model
    prediction = model.predict(evidence.x[able])
    error = np.zeros(able.size) if evidence.noise is None else np.sqrt(model.noise_factor * evidence.noise[able])
    # What is learned from single trainings may be a rough surface; what replicas tell is noise down to `EXACT`.
    single = 1.0 if evidence.noise is None else float(np.median(evidence.noise * evidence.count))
    level = math.log(model.noise_factor * single)
    noisy = 1.0 / (1.0 + math.exp(-2.0 * (level - (math.log(EXACT) if told else SOME_NOISE))))
    blended = (1.0 - OBSERVED) * prediction.mean + OBSERVED * y
    cautious = blended + 0.6 * prediction.std + 0.3 * error
    centre = noisy * (blended if told else prediction.mean) + (1.0 - noisy) * y
    noise = model.noise_factor * (1.0 if evidence.noise is None else KEPT * evidence.noise[able])
    half = 1.645 * np.sqrt(prediction.std**2 + noise)
    mean, low, high = (evidence.outputs.inverse(centre + shift) for shift in (0.0, -half, half))
    if not told:
        # A sharp optimum looks like noise to a smooth process, whose interval then misses the one training there is.
        low, high = np.minimum(low, score), np.maximum(high, score)
    return Estimates(able, mean - added, low - added, high - added, noisy * cautious + (1.0 - noisy) * y)


def recommend(known: Known, *, required: int = 1, failed: IntArray | None = None) -> Recommendation | None:
    """The visited point with the best estimate of the score, which is not the luckiest observation.

    For the arguments see `estimate`. None without observations.
    """
    found = estimate(known, required=required, failed=failed)
    if found is None:
        return None
    evidence = known.evidence
    chosen = int(np.argmin(found.caution))
    index = int(found.index[chosen])
    observed = int(found.index[np.argmin(evidence.score[found.index])])
    if not known.enough:
        reason = "the best observed; too little is known for a model of the loss"
    elif index == observed:
        reason = "the best observed, and the surrogate agrees"
    else:
        reason = (
            f"the best observed mean ({evidence.score[observed]:.6g}) is more likely luck: "
            f"its neighbours are worse than those of this point"
        )
    reason += _failures(evidence, _failures_of(evidence, failed), index)
    interval = float(found.low[chosen]), float(found.high[chosen])
    return Recommendation(int(evidence.row[index]), float(found.value[chosen]), interval, reason)


def _failures_of(evidence: Evidence, failed: IntArray | None) -> IntArray:
    return np.zeros(evidence.n, dtype=np.int64) if failed is None else failed[evidence.row]


def _able(evidence: Evidence, required: int, failures: IntArray) -> IntArray:
    """Points with the evidence that a recommendation needs, (m,): trainings, and no more failures than losses."""
    able = evidence.settled & (failures <= evidence.count)
    if not able.any():
        able = evidence.settled
    noisy = evidence.noise is not None and float(np.median(evidence.noise * evidence.count)) > EXACT
    if noisy and int((evidence.count[able] >= 2).sum()) >= 3:
        required = max(required, 2)
    return np.flatnonzero(able & (evidence.count >= min(required, int(evidence.count[able].max()))))


def _failures(evidence: Evidence, failures: IntArray, index: int) -> str:
    """The sentence about the failures of the recommended point."""
    if not failures[index]:
        return ""
    return f"; {failures[index]} of its {failures[index] + evidence.count[index]} trainings failed"
