"""The Gaussian process of a search: fitted on a schedule, conditioned in between, and doubted at visited points.

    symbol     shape   meaning
    y, v       (n,)    observed means and the variances of their noise
    e, r       (q,)    residuals of observed means that are predicted from all others, and their variances
    q          (q,)    probability that the process is wrong at a point

A process is smooth, and the loss is not: a visited point may be better or worse than its neighbours tell. Smoothing
helps a search. But to weigh visited points against each other by a smooth process alone is to be too sure of those that
were trained once, and to take a point that many trainings show to be good for luck. So, if replicas tell the noise, the
loss at visited points deviates from the process, by a variance of DEVIATION, and with a small probability the process
is wrong: the loss is then as the point's own trainings tell. By Bayes' rule q / (1 - q) is WRONG / (1 - WRONG) times
N(e; 0, 1 + v) / N(e; 0, r), scores having a variance of 1.

With the deviation a training was worth 1.16 +-0.04 and 1.05 +-0.04 times as much (60 and 150 trainings) on ten tables
of real trainings, and 1.15 +-0.06 and 1.09 +-0.09 on 57 synthetic problems (benchmark's split "choose"). The doubt
changed little there (0.96 to 1.04); without it a point that was far better than all others in each of its replicas, but
stood alone, was not recommended.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hyppo import surrogates
from hyppo.search.evidence import Evidence, thinned
from hyppo.search.memory import Memory, ProcessStep
from hyppo.space import FloatArray, IntArray, Space

if TYPE_CHECKING:
    from hyppo.surrogates.gp import GP, AtData

REFIT_ALWAYS = 20  # points up to which hyperparameters are fitted at every ask
REFIT_OFTEN = 100  # points up to which they are fitted at every turn of the process, and to convergence
TURN = 2  # points from one turn of the process to the next
GROWN = 0.05  # share of new points from which more of them are fitted again
FITTED_ON = 300  # points that hyperparameters are fitted to at most
FITTED_QUICKLY_ON = 100  # points that they are fitted to at most if no ask remembers them
TOLERANCE = 1e-5  # of a fit: a hundredth of a log posterior, which no ask can tell, for two thirds of the time
DEVIATION = 0.03  # variance of the loss at a point beside the process, on the scale of the targets
WRONG = 0.03  # probability that the process is wrong at a point, before its residual is known
CONDITIONED_ON = 600  # points that a surrogate is conditioned on at most: an ask stays under a second at any n


def _remembered(space: Space, evidence: Evidence, memory: Memory) -> tuple[FloatArray | None, int]:
    """Hyperparameters of an earlier ask, None without any, and the number of points that they were fitted to."""
    last, d, known = memory.process, space.dimension, evidence.noise is not None
    if last is None or len(last.theta) != d + 2:
        return None, 0
    theta = np.array(last.theta)
    if last.known_noise is known:
        return theta, last.fitted_at
    # The last entry has changed its meaning: the noise that was learned becomes a factor of the known one.
    if evidence.single is None:
        theta[-1] = surrogates.gp.prior(d, known).mean[-1]
    else:
        theta[-1] -= math.log(evidence.single)
    return theta, 0


def due(space: Space, evidence: Evidence, memory: Memory) -> bool:
    """Whether the process must be fitted before it proposes a point."""
    start, fitted_at = _remembered(space, evidence, memory)
    new = evidence.n - fitted_at
    often = TURN if evidence.n <= REFIT_OFTEN else GROWN * evidence.n
    return start is None or evidence.n <= REFIT_ALWAYS or new >= often or new < 0


def process(
    space: Space, evidence: Evidence, memory: Memory, starts: Sequence[FloatArray] = ()
) -> "tuple[GP, ProcessStep]":
    """The Gaussian process, fitted or with the hyperparameters of an earlier ask, and the step that it leaves.

    Without an earlier ask, `starts` are the hyperparameters to start from; by default a fit to few points finds them.
    """
    gp = surrogates.gp
    d, known = space.dimension, evidence.noise is not None
    start, fitted_at = _remembered(space, evidence, memory)
    shown = evidence.at(thinned(evidence, CONDITIONED_ON))
    if start is None or due(space, evidence, memory):
        fitted = evidence.at(thinned(evidence, FITTED_ON))
        cold = fitted_at == 0 or (evidence.n <= REFIT_OFTEN and evidence.n % 5 == 0)
        starts = starts if start is None else [start] + ([gp.cold_start(d, known)] if cold else [])
        model = gp.fit(
            fitted.x,
            fitted.y,
            noise=fitted.noise,
            owner=space.owner,
            starts=starts,
            iterations=50 if fitted_at == 0 or evidence.n <= REFIT_OFTEN else 10,
            noise_std=math.sqrt(0.25 + evidence.level_std**2),
            tolerance=TOLERANCE,
        )
        start, fitted_at = model.theta, evidence.n
        if fitted.n == shown.n:
            return model, _step(evidence, model, fitted_at)
    model = gp.condition(shown.x, shown.y, start, noise=shown.noise, owner=space.owner)
    return model, _step(evidence, model, fitted_at)


def conditioned(space: Space, evidence: Evidence, memory: Memory) -> "GP":
    """The Gaussian process with the hyperparameters of an earlier ask, whether or not they are due to be fitted.

    For asks that leave no step of the process, which would have to fit in vain: a step remembers the hyperparameters.
    """
    gp = surrogates.gp
    start, _ = _remembered(space, evidence, memory)
    if start is None:
        fitted = evidence.at(thinned(evidence, FITTED_QUICKLY_ON))
        model = gp.fit(
            fitted.x,
            fitted.y,
            noise=fitted.noise,
            owner=space.owner,
            noise_std=math.sqrt(0.25 + evidence.level_std**2),
            tolerance=TOLERANCE,
        )
        if fitted.n == evidence.n:
            return model
        start = model.theta
    shown = evidence.at(thinned(evidence, CONDITIONED_ON))
    return gp.condition(shown.x, shown.y, start, noise=shown.noise, owner=space.owner)


def doubt(model: "GP", rows: IntArray, noise: FloatArray, caution: float = 1.0) -> FloatArray:
    """Probability q that a process is wrong at points `rows` of its data, (q,).

    `noise`, (q,), is v there. It counts `caution` times: the mean of few replicas may be luckier than they tell.
    """
    residual, variance = model.leave_one_out(rows)
    right = variance + (caution - 1.0) * noise
    wrong = np.maximum(1.0 + caution * noise, right)
    log_odds = math.log(WRONG / (1.0 - WRONG)) + 0.5 * (np.log(right / wrong) + residual**2 * (1 / right - 1 / wrong))
    return np.asarray(np.exp(-np.logaddexp(0.0, -log_odds)))


def mixed(
    wrong: FloatArray, mean: FloatArray, variance: FloatArray, told: FloatArray, own: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of scores, (q,) each, that are N(told, own) with probability `wrong`, else N(mean, variance).

    >>> mixed(np.array([0.5]), np.zeros(1), np.ones(1), np.array([2.0]), np.ones(1))
    (array([1.]), array([2.]))
    """
    centre = (1.0 - wrong) * mean + wrong * told
    spread = (1.0 - wrong) * (variance + (mean - centre) ** 2) + wrong * (own + (told - centre) ** 2)
    return centre, spread


def places(evidence: Evidence, shown: IntArray) -> IntArray:
    """Place in `shown` of each row of the evidence, -1 for those that a process is not conditioned on, (n,)."""
    place = np.full(evidence.n, -1)
    place[shown] = np.arange(shown.size)
    return place


def visited(evidence: Evidence, model: "GP") -> "tuple[IntArray, AtData]":
    """Rows of the evidence that a search's process is conditioned on, (m,), and the posterior of their scores."""
    return thinned(evidence, CONDITIONED_ON), model.at_data(0.0 if evidence.noise is None else DEVIATION)


def _step(evidence: Evidence, model: "GP", fitted_at: int) -> ProcessStep:
    theta, known = tuple(model.theta.tolist()), evidence.noise is not None
    return ProcessStep(spread=evidence.spread, theta=theta, fitted_at=fitted_at, known_noise=known)
