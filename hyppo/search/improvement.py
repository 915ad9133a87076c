"""The Gaussian process's turns: log expected improvement, over the whole space."""

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING

import numpy as np

from hyppo import acquisition, surrogates
from hyppo.search.known import Known
from hyppo.space import FloatArray

if TYPE_CHECKING:
    from hyppo.surrogates.pool import Pool

PENDING_SHOWN = 250  # pending points that the process is told of at most: those in the most promising places
NEAR = 300  # candidates around the best points
BATCH_POOL = 300  # further candidates if a search is for several points


class Improvement:
    """Turns of the Gaussian process in one search: the first is optimised, later ones pick from its candidates."""

    def __init__(
        self,
        known: Known,
        pending: FloatArray,
        taken: Set[bytes],
        generator: np.random.Generator,
        pool: FloatArray,
        given: int,
        room: int,
    ) -> None:
        space, evidence = known.space, known.evidence
        model, self.step = known.fitted
        posterior = model.predict_mean(evidence.x)
        best = float(posterior.min())
        noise = 1.0 if evidence.noise is None else float(np.median(evidence.noise))
        at = space.features(pending, on_lattice=True)
        if pending.shape[0] > PENDING_SHOWN:
            # Elsewhere a pending point makes no place the best one less.
            promise = acquisition.expected_improvement.log_ei(model, at, best)
            at = at[np.sort(np.argsort(-promise, kind="stable")[:PENDING_SHOWN])]
        informed = acquisition.expected_improvement.with_pending(model, at, noise)
        parents = evidence.unit[np.argsort(posterior, kind="stable")[:5]]
        near = acquisition.candidates.around(space, generator, parents, NEAR)
        pool = np.vstack([pool, acquisition.candidates.free(space, near, taken)])

        self._prudence = known.prudence(known.log_success(pool))

        def worth(unit: FloatArray) -> FloatArray:
            log_ei = acquisition.expected_improvement.log_ei(informed, space.features(unit, on_lattice=True), best)
            return self._prudent(log_ei, known.log_success(unit))

        self.first: FloatArray | None = acquisition.candidates.evolve(space, generator, pool, worth, taken)
        self._space, self._best, self._noise, self._room = space, best, noise, room
        self._informed, self._given = informed, given
        self._known, self._generator, self._around = known, generator, (pool, parents)
        self._pool: Pool | None = None

    def next(self, given: Sequence[FloatArray], taken: Set[bytes]) -> FloatArray | None:
        """The next point after the points `given` by this search; None if the pool has no other."""
        if self.first is not None:
            first, self.first = self.first, None
            return first
        if self._pool is None:
            self._pool = self._gathered(given[self._given], taken)
        for unit in given[self._given :]:
            self._pool.add(self._space.features(unit[None, :], on_lattice=True)[0], self._noise)
        self._given = len(given)
        prediction = self._pool.prediction
        log_ei = acquisition.expected_improvement.log_ei_at(prediction, self._best)
        worths = self._prudent(log_ei, self._log_success)
        for row in np.argsort(-worths, kind="stable"):
            if self._keys[row] not in taken:
                return np.asarray(self._points[row])
        return None

    def _gathered(self, first: FloatArray, taken: Set[bytes]) -> "Pool":
        """The candidates of later turns: those of the first turn, and more around the point that it gave."""
        pool, parents = self._around
        space = self._space
        parents = np.vstack([first[None, :], parents])
        closer = acquisition.candidates.around(space, self._generator, parents, BATCH_POOL)
        self._points = acquisition.candidates.free(space, np.vstack([pool, closer]), taken)
        self._keys = space.keys(self._points)
        self._log_success = self._known.log_success(self._points)
        return surrogates.pool.Pool(self._informed, space.features(self._points, on_lattice=True), self._room)

    def _prudent(self, log_ei: FloatArray, log_success: FloatArray | None) -> FloatArray:
        """`log_ei`, with the candidates that are likely to fail behind the others."""
        if self._prudence is None or log_success is None:
            return log_ei
        return self._prudence.worth(log_ei, log_success)
