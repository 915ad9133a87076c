"""The Gaussian process of a search: fitted on a schedule, conditioned in between."""

import math
from typing import TYPE_CHECKING

import numpy as np

from hyppo import surrogates
from hyppo.search.evidence import Evidence, thinned
from hyppo.search.memory import Memory, ProcessStep
from hyppo.space import Space

if TYPE_CHECKING:
    from hyppo.surrogates.gp import GP

REFIT_ALWAYS = 20  # points up to which hyperparameters are fitted at every ask
REFIT_OFTEN = 100  # points up to which they are fitted at every turn of the process, and to convergence
TURN = 2  # points from one turn of the process to the next
FITTED_ON = 300  # points that hyperparameters are fitted to at most
CONDITIONED_ON = 600  # points that a surrogate is conditioned on at most: an ask stays under a second at any n


def process(space: Space, evidence: Evidence, memory: Memory) -> "tuple[GP, ProcessStep]":
    """The Gaussian process, fitted or with the hyperparameters of an earlier ask, and the step that it leaves."""
    gp = surrogates.gp
    d, known = space.dimension, evidence.noise is not None
    start, fitted_at = None, 0
    last = memory.process
    if last is not None and len(last.theta) == d + 2:
        start, fitted_at = np.array(last.theta), last.fitted_at
        if last.known_noise is not known:  # the last entry has changed its meaning
            start[-1] = gp.prior(d, known).mean[-1]
            fitted_at = 0
    new = evidence.n - fitted_at
    due = evidence.n <= REFIT_ALWAYS or new >= max(TURN, evidence.n / 50) or new < 0
    shown = evidence.at(thinned(evidence, CONDITIONED_ON))
    if start is None or due:
        fitted = evidence.at(thinned(evidence, FITTED_ON))
        cold = fitted_at == 0 or (evidence.n <= REFIT_OFTEN and evidence.n % 5 == 0)
        starts = [] if start is None else [start] + ([gp.cold_start(d, known)] if cold else [])
        model = gp.fit(
            fitted.x,
            fitted.y,
            noise=fitted.noise,
            owner=space.owner,
            starts=starts,
            iterations=50 if fitted_at == 0 or evidence.n <= REFIT_OFTEN else 10,
            noise_std=math.sqrt(0.25 + evidence.level_std**2),
        )
        start, fitted_at = model.theta, evidence.n
        if fitted.n == shown.n:
            return model, _step(evidence, model, fitted_at)
    model = gp.condition(shown.x, shown.y, start, noise=shown.noise, owner=space.owner)
    return model, _step(evidence, model, fitted_at)


def _step(evidence: Evidence, model: "GP", fitted_at: int) -> ProcessStep:
    theta, known = tuple(model.theta.tolist()), evidence.noise is not None
    return ProcessStep(spread=evidence.spread, theta=theta, fitted_at=fitted_at, known_noise=known)
