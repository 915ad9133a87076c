"""The radial basis function's turns: weighted value and distance, near the incumbent.

Few candidates and some generations of children of the best of them find a lower weighted score than many candidates
do, at less cost; with weights that lean to the value more than those of Regis & Shoemaker it was worth 1.16 +- 0.09
times the evaluations at 50, and nothing lost at 100, on 113 problems.

The surrogate takes a pending point at the mean that the Gaussian process expects there. Without it every ask meets the
same surface until a loss comes, and its points crowd together: with eight pending that cost a third of the evaluations.
"""

from collections.abc import Set
from typing import TYPE_CHECKING

import numpy as np

from hyppo import acquisition, surrogates
from hyppo.search.evidence import Evidence, thinned
from hyppo.search.gaussian_process import CONDITIONED_ON
from hyppo.search.known import Known
from hyppo.search.memory import LocalStep, Memory
from hyppo.space import FloatArray

if TYPE_CHECKING:
    from hyppo.surrogates.base import FittedModel

RADIUS = 0.2  # of the local search to begin with, as a fraction of each range
SMALLEST_RADIUS = RADIUS / 64
SUCCESSES = 3
CANDIDATES = 30  # a dimension
GENERATIONS = 4  # of children of the best candidates
BELIEVED = 100  # pending points that the surrogate is told of at most: those nearest to the incumbent
REFIT_UP_TO = 200  # points up to which one search tells the surrogate of its own points too
PARENTS = 4
CHILDREN = 40


def next_step(evidence: Evidence, d: int, memory: Memory) -> LocalStep:
    """The next step of the local search: its radius halves after failures and doubles after successes."""
    best, last = float(evidence.score.min()), memory.local
    if last is None:
        return LocalStep(spread=evidence.spread, radius=RADIUS, best=best)
    radius = last.radius
    successes, failures = (last.successes + 1, 0) if best < last.best else (0, last.failures + 1)
    if successes >= SUCCESSES:
        radius, successes = min(2.0 * radius, RADIUS), 0
    elif failures >= max(5, d):
        radius, failures = max(0.5 * radius, SMALLEST_RADIUS), 0
    return LocalStep(spread=evidence.spread, radius=radius, successes=successes, failures=failures, best=best)


class LocalSearch:
    """The radial basis function's turns in one search: one fit for all of them."""

    def __init__(
        self,
        known: Known,
        generator: np.random.Generator,
        pool: FloatArray,
        *,
        ensemble: bool,
    ) -> None:
        self._space, self._evidence, self._generator, self._pool = known.space, known.evidence, generator, pool
        self._known, self._ensemble = known, ensemble
        self._believed = 0  # pending points that the model was fitted to
        self._model: surrogates.ensemble.Ensemble | surrogates.rbf.RBF | None = None

    def _fitted(self, pending: FloatArray) -> "surrogates.ensemble.Ensemble | surrogates.rbf.RBF":
        """The interpolant of the losses, and of the Gaussian process' mean at points without a loss."""
        shown = self._evidence.at(thinned(self._evidence, CONDITIONED_ON))
        if self._model is not None and (self._ensemble or shown.n > REFIT_UP_TO or len(pending) == self._believed):
            return self._model
        self._believed = len(pending)
        ridge = 1e-6 * shown.n
        if self._ensemble and shown.noise is not None:
            spread = np.sqrt(shown.noise * shown.count)
            self._model = surrogates.ensemble.fit(shown.x, shown.y, spread, self._generator, ridge=ridge)
        elif self._ensemble or len(pending) == 0:
            self._model = surrogates.rbf.fit(shown.x, shown.y, ridge=ridge)
        else:
            waiting = self._space.features(pending, on_lattice=True)
            best = self._evidence.x[int(np.argmin(self._evidence.y))]
            waiting = waiting[np.argsort(np.sum((waiting - best) ** 2, axis=1), kind="stable")[:BELIEVED]]
            x, y = np.vstack([shown.x, waiting]), np.append(shown.y, self._known.model.predict_mean(waiting))
            self._model = surrogates.rbf.fit(x, y, ridge=ridge)
        return self._model

    def next(self, pending: FloatArray, taken: Set[bytes], memory: Memory) -> tuple[FloatArray, LocalStep] | None:
        """The next point and its step; None if neither the neighbourhood nor the pool has a free one."""
        space, evidence, d = self._space, self._evidence, self._space.dimension
        step = next_step(evidence, d, memory)
        turn = memory.local_steps
        # DYCORS lets the probability fall with the logarithm of the budget spent; without a budget, by a power that
        # stays near that curve for budgets of 50 to 100.
        probability = 1.0
        if (turn + turn // len(acquisition.weighted.WEIGHTS)) % 2:
            probability = max(min(20.0 / d, 1.0) * (1.0 + max(evidence.n - d, 0)) ** -0.35, 1.0 / d)
        row = int(np.argmin(evidence.y))
        near = acquisition.candidates.dycors(
            space, self._generator, evidence.unit[row], step.radius, probability, min(CANDIDATES * d, 600)
        )
        candidates = acquisition.candidates.free(space, near, taken)
        if candidates.shape[0] == 0:
            candidates = acquisition.candidates.free(space, self._pool, taken)
        if candidates.shape[0] == 0:
            return None
        weight = acquisition.weighted.WEIGHTS[turn % len(acquisition.weighted.WEIGHTS)]
        centres = np.vstack([evidence.x, space.features(pending, on_lattice=True)])
        model = self._fitted(pending)
        value, distance = self._measured(model, candidates, centres, row)
        log_success = self._known.log_success(candidates)
        prudence = self._known.prudence(log_success)

        def score() -> FloatArray:
            scores = acquisition.weighted.score(value, distance, weight)
            return scores if prudence is None or log_success is None else prudence.score(scores, log_success)

        scores = score()
        for generation in range(GENERATIONS):
            best = candidates[np.argsort(scores, kind="stable")[:PARENTS]]
            narrow = step.radius / (1.0 + generation)
            near = acquisition.candidates.around(space, self._generator, best, CHILDREN, (0.03 * narrow, 0.5 * narrow))
            born = acquisition.candidates.free(space, near, taken)
            if born.shape[0]:
                more_value, more_distance = self._measured(model, born, centres, row)
                candidates = np.vstack([candidates, born])
                value, distance = np.concatenate([value, more_value]), np.concatenate([distance, more_distance])
                more_success = self._known.log_success(born)
                if log_success is not None and more_success is not None:
                    log_success = np.concatenate([log_success, more_success])
                scores = score()
        return candidates[int(np.argmin(scores))], step

    def _measured(
        self, model: "FittedModel", unit: FloatArray, centres: FloatArray, row: int
    ) -> tuple[FloatArray, FloatArray]:
        """The surrogate's value at candidates, and their distance to the nearest centre, (q, d) -> (q,), (q,)."""
        x = self._space.features(unit, on_lattice=True)
        near = _nearby(centres, self._evidence.x[row], x)
        return model.predict(x).mean, acquisition.weighted.distances(x, near)


def _nearby(centres: FloatArray, middle: FloatArray, x: FloatArray) -> FloatArray:
    """Those of `centres` that can be the nearest one of a point x, if `middle` is one of them.

    No x is farther from its nearest centre than from the middle, so that centres beyond twice the farthest x play no
    part: of ten thousand centres few are left near the end of a search.
    """
    reach = float(np.max(np.sum((x - middle) ** 2, axis=1)))
    near = np.sum((centres - middle) ** 2, axis=1) <= 4.0 * reach * (1.0 + 1e-9) + 1e-12
    return np.asarray(centres[near])
