"""Which of two configurations is better, and how sure that is.

    symbol   shape    meaning
    y        (n,)     losses of both, n = n_a + n_b
    X        (n, 2)   indicators of a and b
    b        (n,)     effect of each loss's block, normal with mean b0 and covariance P given the other trials
    V        (n, n)   P + diag(v), v the variances of single trainings of a and b

The means of a and b are the generalised least squares (X' V^-1 X)^-1 X' V^-1 (y - b0). Blocks that both have cancel in
their difference, also if one of the two has more replicas than the other. v is the sample variance, drawn toward that
of the other trials by PRIOR degrees of freedom; the interval is Student's with Satterthwaite's degrees of freedom, and
at most those behind both variances together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hyppo.config import ENSEMBLE_LOSS, MEAN, Config
from hyppo.errors import StudyError
from hyppo.search.blocks import Blocks, FloatArray, Losses, better, confirmed_of, fit_blocks, losses_of, unchosen_of
from hyppo.search.ensembles import ensemble_stats
from hyppo.stats import LossStats, Score, summary
from hyppo.stats import freedom as freedom_of
from hyppo.text import interval, number
from hyppo.trial import ReplicaRecord

if TYPE_CHECKING:
    from hyppo.study import Study
    from hyppo.trial import Trial

PRIOR = 4  # degrees of freedom, at most, that the other trials count for in the variance of one
LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two configurations compared.

    Attributes
    ----------
    difference : float
        Mean loss of the first minus that of the second: negative if the first is better.
    interval : (float, float)
        90 % interval of the difference; infinite if no spread is known.
    probability : float
        That the first is better.
    """

    difference: float
    interval: tuple[float, float]
    probability: float

    def __str__(self) -> str:
        around, width = interval(*self.interval), self.interval[1] - self.interval[0]
        difference = number(self.difference, 4, width)
        return f"difference {difference} ({around}), better with probability {self.probability:.3g}"


def compare_trials(a: "Trial", b: "Trial", trials: "Sequence[Trial]", config: Config) -> Comparison:
    """Compare two trials by their confirmations, if both have two, or else by their replicas.

    Parameters
    ----------
    a, b : Trial
        Each with a loss.
    trials : sequence of Trial
        All of the study, which tell the effects of blocks and the usual spread.
    config : Config
        Of the study.
    """
    confirmed = len(confirmed_of(a)) > 1 and len(confirmed_of(b)) > 1
    if config.target == ENSEMBLE_LOSS:
        pair = (a.confirmations, b.confirmations) if confirmed else (a.replicas, b.replicas)
        return compare_ensembles(*pair, config)
    if confirmed:
        return compare(confirmed_of(a), confirmed_of(b), [], config)
    others = [unchosen_of(t, config) for t in trials if t.number not in (a.number, b.number)]
    return compare(losses_of(a), losses_of(b), others, config)


def compare_with_named(study: "Study", number: int) -> "list[tuple[Trial, Comparison]]":
    """The trial of this number compared with each other trial that has a name and a loss."""
    named = [t for t in study.trials if t.name is not None and t.number != number and t.stats is not None]
    return [(trial, study.compare(number, trial.number)) for trial in named]


def compare(a: Losses, b: Losses, others: Sequence[Losses], config: Config) -> Comparison:
    """Compare the losses of two trials, given by index, with those of `others` at hand.

    With a score other than the mean, the difference is that of the scores, of losses without the effects of folds, or
    of data seeds if these are clear, as in the search.

    Examples
    --------
    >>> a, b = {0: 1.0, 1: 2.1, 2: 3.0, 3: 4.1}, {0: 1.5, 1: 2.5, 2: 3.6, 3: 4.4}
    >>> found = compare(a, b, [], Config())
    >>> round(found.difference, 3), found.probability > 0.99
    (-0.45, True)
    """
    if config.score != MEAN:
        return _compare_scores(a, b, others, config)
    used = better(others)
    pooled = fit_blocks([*used, a, b], config.block_of)
    known = fit_blocks(used, config.block_of)
    blocks = known or (pooled and replace(pooled, index={}, mean=np.zeros(1), covariance=np.zeros((1, 1))))
    own = [config.block_of(index) for index in (*a, *b)]
    shift, covariance = (np.zeros(len(own)), np.zeros((len(own), len(own)))) if blocks is None else blocks.on(own)
    y = np.array([*a.values(), *b.values()])
    first = np.arange(y.size) < len(a)
    usual = _usual(used) if known is None else (known.training, min(PRIOR, known.freedom))
    estimates = _variances(y[first], y[~first], usual, pooled)
    if estimates is None:
        return Comparison(float(y[first].mean() - y[~first].mean()), (-math.inf, math.inf), 0.5)
    (variance_a, freedom_a), (variance_b, freedom_b), most = estimates
    smallest = max(1e-12 * float(np.ptp(y)) ** 2, 1e-300)
    v = covariance + np.diag(np.maximum(np.where(first, variance_a, variance_b), smallest))
    x = np.stack([first, ~first], axis=1).astype(float)
    weighted = np.linalg.solve(v, np.column_stack([x, y - shift]))
    spread = np.linalg.inv(x.T @ weighted[:, :2])
    means = spread @ (x.T @ weighted[:, 2])
    error = math.sqrt(max(float(spread[0, 0] + spread[1, 1] - 2.0 * spread[0, 1]), 0.0))
    part_a, part_b = variance_a / len(a), variance_b / len(b)
    total = part_a + part_b
    freedom = min(total**2 / (part_a**2 / freedom_a + part_b**2 / freedom_b), most) if total else freedom_a
    return _student(float(means[0] - means[1]), error, freedom)


def compare_ensembles(a: Sequence[ReplicaRecord], b: Sequence[ReplicaRecord], config: Config) -> Comparison:
    """Compare the losses of the ensembles of two trials' networks, both at the size `config.ensemble_size`.

    Raises
    ------
    StudyError
        The loss of the mean prediction of one of them is unknown.
    """
    one, two = (ensemble_stats(records, config.ensemble_size) for records in (a, b))
    if one is None or two is None:
        raise StudyError("the loss of the mean prediction of one of the two trials is unknown: nothing to compare by")
    return _welch(one, two)


def _compare_scores(a: Losses, b: Losses, others: Sequence[Losses], config: Config) -> Comparison:
    """Welch's comparison of two scores, of losses without the effects of their blocks if these are clear."""
    used = better(others)
    blocks = fit_blocks([*used, a, b], config.block_of)
    usual, shared = _usual(used), 0.0
    if blocks is not None and blocks.matter(folds=config.folds is not None):
        # Without effects that were estimated from them, losses differ too little.
        wider = _widening(blocks, [*used, a, b], config)
        usual = blocks.training, min(PRIOR, blocks.freedom)
        own = [config.block_of(index) for index in (*a, *b)]
        weight = np.repeat([1.0 / len(a), -1.0 / len(b)], [len(a), len(b)])
        shared = float(weight @ blocks.on(own)[1] @ weight)
    else:
        blocks, wider = None, 1.0
    one, two = (_stats(losses, blocks, wider, config) for losses in (a, b))
    variance, freedom = usual
    if one.n == two.n == 1 and freedom:
        return _student(one.mean - two.mean, math.sqrt(2.0 * variance + shared), freedom)
    return _welch(one, two, config.score, shared)


def _stats(losses: Losses, blocks: Blocks | None, wider: float, config: Config) -> LossStats:
    """Number, score and standard deviation of losses without the effects of blocks."""
    values = list((losses if blocks is None else blocks.off(losses, config.block_of)).values())
    stats = summary(values, config.score)
    assert stats is not None
    return stats if stats.std is None else replace(stats, std=wider * stats.std)


def _widening(blocks: Blocks, trials: Sequence[Losses], config: Config) -> float:
    """The factor from the standard deviation of losses without estimated effects to that without the true ones."""
    left = _squares([blocks.off(losses, config.block_of) for losses in trials if len(losses) > 1])
    return math.sqrt(max(blocks.freedom * blocks.training / left, 1.0)) if left > 0.0 else 1.0


def _welch(one: LossStats, two: LossStats, score: Score = MEAN, shared: float = 0.0) -> Comparison:
    """Compare two values by their own standard deviations; `shared` is a further variance of their difference."""
    known = [stats for stats in (one, two) if stats.std is not None]
    difference = one.mean - two.mean
    if not known:
        return Comparison(difference, (-math.inf, math.inf), 0.5)
    parts = [
        ((known[0].std if stats.std is None else stats.std) or 0.0) ** 2 / stats.n for stats in (one, two)
    ]  # if only one has several losses, its spread stands for that of the other
    freedoms = [freedom_of(known[0].n if stats.std is None else stats.n, score) for stats in (one, two)]
    total = sum(parts)
    freedom = total**2 / sum(p**2 / f for p, f in zip(parts, freedoms, strict=True)) if total else 1.0
    return _student(difference, math.sqrt(total + shared), freedom)


Estimate = tuple[float, float]  # variance of a single training, and degrees of freedom behind it


def _usual(trials: Sequence[Losses]) -> Estimate:
    """The variance between trainings of a trial, from trials too few to tell the effects of blocks."""
    freedom = sum(len(losses) - 1 for losses in trials)
    squares = _squares(trials)
    return (squares / freedom, min(PRIOR, freedom)) if freedom and math.isfinite(squares) else (0.0, 0)


def _squares(trials: Sequence[Losses]) -> float:
    """Sum of the squared distances of losses from the mean of their trial."""
    return sum(float(np.sum((y - y.mean()) ** 2)) for y in (np.array([*losses.values()]) for losses in trials))


def _variances(
    a: FloatArray, b: FloatArray, usual: Estimate, pooled: Blocks | None
) -> tuple[Estimate, Estimate, float] | None:
    """Variances of single trainings of two trials without the effects of blocks; None if nothing tells them.

    The third number is their total of degrees of freedom, in which those of the other trials count once.
    """
    if pooled is not None and pooled.data > 0.0:
        # The variance without block effects is known only from all trials together.
        both = pooled.training, float(max(pooled.freedom - len(pooled.index) + 1, 1))
        return both, both, both[1]
    variance, prior = usual
    found: list[Estimate] = []
    for y in (a, b):
        freedom = prior + y.size - 1
        if freedom > 0:
            found.append(((prior * variance + float(np.sum((y - y.mean()) ** 2))) / freedom, float(freedom)))
    if not found:
        return None
    together = float(prior + a.size + b.size - 2)
    # If only one of the two has several trainings, its variance stands for the other's.
    return found[0], found[-1], together


def _student(difference: float, error: float, freedom: float) -> Comparison:
    from scipy.special import stdtr, stdtrit

    if error == 0.0:
        return Comparison(difference, (difference, difference), 0.5 if difference == 0.0 else float(difference < 0.0))
    half = float(stdtrit(freedom, 0.5 + LEVEL / 2)) * error
    return Comparison(difference, (difference - half, difference + half), float(stdtr(freedom, -difference / error)))
