"""Which of the points tried to recommend."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hyppo.search import gaussian_process
from hyppo.search.estimate import EXACT, estimated, noisiness
from hyppo.search.evidence import Evidence
from hyppo.search.known import Known
from hyppo.search.threads import on_one_thread
from hyppo.space import FloatArray, IntArray
from hyppo.text import counted

if TYPE_CHECKING:
    from hyppo.surrogates.gp import GP

# Weight of the observed mean beside the posterior's in the choice, if replicas or if single trainings tell the noise.
# With replicas, 0.3 instead of 0.15 was worth 1.14 +-0.05 times the trainings with three a point and 1.04 +-0.02 by
# default (150 trainings), with single ones 0.95 +-0.05 (60), on ten tables of real trainings (split "choose").
OBSERVED_TOLD, OBSERVED_ONCE = 0.3, 0.15
# Deviations by which a point that was trained once must be better than those trained again. At 1 and at 2 this was
# worth 1.04 +-0.03 after 20 trainings on the benchmark's split "choose" (71 studies), and changed nothing later.
CLEAR = 2.0


@dataclass(frozen=True)
class Recommendation:
    """The visited point to recommend."""

    row: int  # of the observations
    estimate: float  # posterior mean of the loss of a fresh training
    interval: tuple[float, float]  # 90 %, for the mean loss of training it again and again; infinite where unknown
    reason: str


@dataclass(frozen=True)
class Estimates:
    """Estimated losses of visited points.

    Attributes
    ----------
    index : (m,) array
        Rows of the evidence.
    value : (m,) array
        Posterior mean of the loss of a fresh training.
    low, high : (m,) arrays
        90 % interval for the mean loss of training it again and again; infinite where unknown.
    """

    index: IntArray
    value: FloatArray
    low: FloatArray
    high: FloatArray


@on_one_thread
def estimate(known: Known, *, required: int = 1, failed: IntArray | None = None) -> Estimates | None:
    """Estimate the losses of the visited points, with intervals (see `hyppo.search.estimate`).

    Points with a single noisy training are among them: their intervals say how little is known.

    Parameters
    ----------
    known : Known
    required : int
        Number of replicas that a trial needs. If no trial has as many, the highest number is enough.
    failed : (n,) array, optional
        Failed trainings of each row of the observations. A point of which most failed is left out if there is another.

    Returns
    -------
    Estimates or None
        None without observations.
    """
    if known.data.mean.size == 0:
        return None
    index = np.flatnonzero(_trained(known.evidence, required, _failures_of(known.evidence, failed)))
    found = estimated(known, index)
    return Estimates(index, found.value, found.low, found.high)


@on_one_thread
def recommend(
    known: Known, *, required: int = 1, failed: IntArray | None = None, quantity: str = "loss"
) -> Recommendation | None:
    """The visited point with the best estimate of the score, which is not the luckiest observation.

    A point must have earned its place: the choice adds some of the posterior's uncertainty and of the observation's
    standard error. Choosing so instead of by the observed mean was worth 1.4 times the trainings on problems with three
    replicas and 1.5 times with single noisy ones. If the process sees no noise, the observation is the truth: every
    blend was worse there.

    If trainings are noisy and three points have two, it has two at least, or is clearly better than those. For the
    arguments see `estimate`; `quantity` names the score in the reason, without risk. None without observations.
    """
    if known.data.mean.size == 0:
        return None
    evidence = known.evidence
    failures = _failures_of(evidence, failed)
    able = _able(known, required, failures)
    index = int(able[np.argmin(_caution(known, able))])
    reason = _reason(known, index, failures, quantity) + _failures(evidence, failures, index)
    found = estimated(known, np.array([index]))
    interval = float(found.low[0]), float(found.high[0])
    return Recommendation(int(evidence.row[index]), float(found.value[0]), interval, reason)


def _caution(known: Known, able: IntArray, deviations: float = 0.6) -> FloatArray:
    """The cautious score of visited points, (m,) -> (m,): the recommended one has the lowest.

    It adds `deviations` of the posterior, and half as many of the observation.
    """
    evidence = known.evidence
    if not known.enough:
        return evidence.score[able]
    model, y = known.fitted[0], evidence.y[able]
    mean, std = _posterior(evidence, model, able)
    error = np.zeros(able.size) if evidence.noise is None else np.sqrt(model.noise_factor * evidence.noise[able])
    told = evidence.single is not None
    noisy = noisiness(math.log(model.noise_factor * (evidence.single or 1.0)), told)
    observed = OBSERVED_TOLD if told else OBSERVED_ONCE
    centre = (1.0 - observed) * mean + observed * y
    cautious = centre + deviations * (std + 0.5 * error)
    return np.asarray(noisy * cautious + (1.0 - noisy) * y)


def _posterior(evidence: Evidence, model: "GP", rows: IntArray) -> tuple[FloatArray, FloatArray]:
    """Posterior mean and standard deviation of the scores at `rows` of the evidence, (m,) -> (m,), (m,)."""
    shown, posterior = gaussian_process.visited(evidence, model)
    at = gaussian_process.places(evidence, shown)[rows]
    own = at >= 0
    mean, std = np.empty(rows.size), np.empty(rows.size)
    mean[own], std[own] = posterior.mean[at[own]], posterior.std(at[own])
    if evidence.noise is not None:
        noise = posterior.noise[at[own]]
        wrong = gaussian_process.doubt(posterior.model, at[own], noise)
        mean[own], variance = gaussian_process.mixed(wrong, mean[own], std[own] ** 2, evidence.y[rows[own]], noise)
        std[own] = np.sqrt(variance)
    if not own.all():  # the process is conditioned on part of the points
        elsewhere = model.predict(evidence.x[rows[~own]])
        mean[~own], std[~own] = elsewhere.mean, elsewhere.std
    return mean, std


def _failures_of(evidence: Evidence, failed: IntArray | None) -> IntArray:
    return np.zeros(evidence.n, dtype=np.int64) if failed is None else failed[evidence.row]


def _trained(evidence: Evidence, required: int, failures: IntArray) -> npt.NDArray[np.bool_]:
    """Whether a point has the trainings that it needs, and no more failures than losses, (n,)."""
    able = evidence.settled & (failures <= evidence.count)
    if not able.any():
        able = evidence.settled
    most = int(evidence.count[able].max())
    return np.asarray(able & (evidence.count >= min(required, most)))


def _able(known: Known, required: int, failures: IntArray) -> IntArray:
    """Points with the evidence that a recommendation needs, (m,)."""
    evidence = known.evidence
    enough = _trained(evidence, required, failures)
    noisy = evidence.single is not None and evidence.single > EXACT
    twice = enough & (evidence.count >= 2)
    if not noisy or int(twice.sum()) < 3:
        return np.flatnonzero(enough)
    best = _caution(known, np.flatnonzero(twice), 0.0).min()
    once = np.flatnonzero(enough & ~twice)
    clear = once[_caution(known, once, CLEAR) < best]
    return np.sort(np.concatenate([np.flatnonzero(twice), clear]))


def _reason(known: Known, index: int, failures: IntArray, quantity: str) -> str:
    """Why the point is recommended and, if another one has a lower observed score, why not that one."""
    evidence = known.evidence
    settled = np.flatnonzero(evidence.settled)
    lowest = int(settled[np.argmin(evidence.score[settled])])
    effects = f" without the effects of {known.data.without}" if known.data.without else ""
    if evidence.score[index] <= evidence.score[lowest]:
        agrees = ", and the surrogate agrees" if known.enough else "; too little is known for a model of the loss"
        return f"the best observed{effects}{agrees}"
    count, quantity = int(evidence.count[lowest]), quantity if evidence.added is None else "score"
    other = f"the best observed {quantity}{effects} ({evidence.score[lowest]:.6g} over {counted(count, 'training')})"
    if failures[lowest] > count:
        return f"{other} is of a point of which {failures[lowest]} trainings failed"
    if known.enough:
        expected, _ = _posterior(evidence, known.fitted[0], np.array([index, lowest]))
        if expected[1] > expected[0]:
            return f"{other} is more likely luck: the surrogate expects a higher one there than at this point"
    return f"{other} is too uncertain"


def _failures(evidence: Evidence, failures: IntArray, index: int) -> str:
    """The sentence about the failures of the recommended point."""
    if not failures[index]:
        return ""
    return f"; {failures[index]} of its {failures[index] + evidence.count[index]} trainings failed"
