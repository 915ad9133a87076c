"""Which of the points tried to recommend."""

import math
from dataclasses import dataclass

import numpy as np

from hyppo.search.evidence import Evidence
from hyppo.search.known import Known
from hyppo.search.threads import on_one_thread
from hyppo.space import IntArray

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


@on_one_thread
def recommend(known: Known, *, required: int = 1, failed: IntArray | None = None) -> Recommendation | None:
    """The visited point with the best estimate of the score, which is not the luckiest observation.

    Under noise the estimate is the posterior mean, with a little of the observation, since a smooth process smooths a
    sharp optimum away. The choice adds some of the posterior's uncertainty and of the observation's standard error,
    since a point must have earned its place. Choosing so instead of by the observed mean was worth 1.4 times the
    trainings on problems with three replicas and 1.5 times with single noisy ones. If the process sees no noise, the
    observation is the truth: every blend was worse there.

    The interval is for the mean, not for one training. If replicas tell the noise, a third of its variance is kept
    beside the posterior's, for a posterior that was chosen because it is low; if the process has to guess the noise,
    all of it, and the observation is always inside.

    Parameters
    ----------
    known : Known
    required : int
        Replicas that a trial needs to be recommended; the most that any has, where that is fewer. If trainings are
        noisy and three points have two, two at least.
    failed : (n,) array, optional
        Failed trainings of each row of the observations. A point of which most failed is recommended if there is no
        other.

    Returns
    -------
    Recommendation or None
        None without observations.
    """
    if known.data.mean.size == 0:
        return None
    evidence = known.evidence
    failures = np.zeros(evidence.n, dtype=np.int64) if failed is None else failed[evidence.row]
    able = _able(evidence, required, failures)
    observed = int(able[np.argmin(evidence.score[able])])
    # The score is loss + risk * spread; estimate and interval are of the loss.
    added = np.zeros(evidence.n) if evidence.added is None else evidence.added
    if not known.enough:
        half = math.inf
        if evidence.noise is not None:
            slope = float(evidence.outputs.derivative(evidence.score)[observed])
            half = 1.645 * math.sqrt(2.0 * evidence.noise[observed]) / slope
        loss = float(evidence.score[observed] - added[observed])
        reason = "the best observed; too little is known for a model of the loss" + _failures(
            evidence, failures, observed
        )
        return Recommendation(int(evidence.row[observed]), loss, (loss - half, loss + half), reason)
    model = known.model
    prediction = model.predict(evidence.x[able])
    told = evidence.noise is not None
    error = np.zeros(able.size) if evidence.noise is None else np.sqrt(model.noise_factor * evidence.noise[able])
    # What is learned from single trainings may be a rough surface; what replicas tell is noise down to `EXACT`.
    single = 1.0 if evidence.noise is None else float(np.median(evidence.noise * evidence.count))
    level = math.log(model.noise_factor * single)
    noisy = 1.0 / (1.0 + math.exp(-2.0 * (level - (math.log(EXACT) if told else SOME_NOISE))))
    y = evidence.y[able]
    blended = (1.0 - OBSERVED) * prediction.mean + OBSERVED * y
    cautious = blended + 0.6 * prediction.std + 0.3 * error
    chosen = int(np.argmin(noisy * cautious + (1.0 - noisy) * y))
    index = int(able[chosen])
    centre = float(noisy * (blended if told else prediction.mean)[chosen] + (1.0 - noisy) * y[chosen])
    noise = model.noise_factor * (1.0 if evidence.noise is None else KEPT * float(evidence.noise[index]))
    half = 1.645 * math.sqrt(float(prediction.std[chosen]) ** 2 + noise)
    mean, low, high = (float(v) for v in evidence.outputs.inverse(centre + np.array([0.0, -half, half])))
    if not told:
        # A sharp optimum looks like noise to a smooth process, whose interval then misses the one training there is.
        seen = float(evidence.score[index])
        low, high = min(low, seen), max(high, seen)
    if index == observed:
        reason = "the best observed, and the surrogate agrees"
    else:
        reason = (
            f"the best observed mean ({evidence.score[observed]:.6g}) is more likely luck: "
            f"its neighbours are worse than those of this point"
        )
    reason += _failures(evidence, failures, index)
    more = float(added[index])
    return Recommendation(int(evidence.row[index]), mean - more, (low - more, high - more), reason)


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
    """What a recommendation says of the failures of its point."""
    if not failures[index]:
        return ""
    return f"; {failures[index]} of its {failures[index] + evidence.count[index]} trainings failed"
