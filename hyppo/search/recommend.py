"""Which of the points tried to recommend."""

import math
from dataclasses import dataclass

import numpy as np

from hyppo.search.known import Known
from hyppo.search.threads import on_one_thread

SOME_NOISE = -5.0  # log of a learned noise variance from which observations are not taken for the truth


@dataclass(frozen=True)
class Recommendation:
    """The visited point to recommend."""

    row: int  # of the observations
    mean: float  # estimate of the score, original units
    interval: tuple[float, float]  # 90 %, for the mean score of training it again and again; infinite where unknown
    reason: str


@on_one_thread
def recommend(known: Known, *, required: int = 1) -> Recommendation | None:
    """The visited point with the best estimate of the score, which is not the luckiest observation.

    Under noise the estimate is the posterior mean, with a little of the observation, since a smooth process smooths a
    sharp optimum away, and some of the uncertainty, since a point must have earned its place. Choosing so instead of by
    the observed mean was worth 1.4 times the trainings on problems with three replicas and 1.5 times with single noisy
    ones. Where the process sees no noise the observation is the truth: every blend was worse there.

    The interval is for the mean, not for one training. Where replicas tell the noise, a third of its variance is kept
    beside the posterior's, for a posterior that was chosen because it is low; where the process has to guess the noise,
    all of it, and the observation is always inside. So the interval held the true mean in 92 % and 85 % of searches.

    Parameters
    ----------
    known : Known
    required : int
        Replicas that a trial needs to be recommended; the most that any has, where that is fewer.

    Returns
    -------
    Recommendation or None
        None without observations.
    """
    if known.data.mean.size == 0:
        return None
    evidence = known.evidence
    most = int(evidence.count[evidence.settled].max())
    able = np.flatnonzero(evidence.settled & (evidence.count >= min(required, most)))
    observed = int(able[np.argmin(evidence.score[able])])
    if not known.enough:
        half = math.inf
        if evidence.noise is not None:
            slope = float(evidence.outputs.derivative(evidence.score)[observed])
            half = 1.645 * math.sqrt(2.0 * evidence.noise[observed]) / slope
        score = float(evidence.score[observed])
        reason = "the best observed; too little is known for a model of the loss"
        return Recommendation(int(evidence.row[observed]), score, (score - half, score + half), reason)
    model = known.model
    prediction = model.predict(evidence.x[able])
    told = evidence.noise is not None
    noisy = 1.0 if told else 1.0 / (1.0 + math.exp(-2.0 * (float(model.theta[-1]) - SOME_NOISE)))
    y = evidence.y[able]
    cautious = 0.85 * prediction.mean + 0.15 * y + 0.6 * prediction.std
    chosen = int(np.argmin(noisy * cautious + (1.0 - noisy) * y))
    index = int(able[chosen])
    centre = float(noisy * prediction.mean[chosen] + (1.0 - noisy) * y[chosen])
    noise = model.noise_factor * (1.0 if evidence.noise is None else 0.3 * float(evidence.noise[index]))
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
    return Recommendation(int(evidence.row[index]), mean, (low, high), reason)
