"""Which point to try next, and which of those tried to recommend: pure functions of what is known.

    symbol   shape   meaning
    unit     (n, d)  lattice coordinates of visited points
    x        (n, D)  their features (see `Space.features`)
    y        (n,)    their scores, mean + risk * spread, transformed (see `surrogates.outputs`)
    v        (n,)    variance of y's noise
    n        int     points with a loss

Two surrogates take turns: a Gaussian process that knows the noise of every point, by expected improvement, and a cubic
radial basis function near the incumbent, by weighted value and distance. On some 100 problems of 2 to 10 parameters
either alone needed 1.1 to 2 times the evaluations of both in turn.

What an ask has to know of earlier asks (hyperparameters to start from, radius of the local search, whose turn it is)
is in the origins of the earlier trials and nowhere else: a resumed study proposes what an uninterrupted one would.
"""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hyppo import acquisition, surrogates
from hyppo.errors import StudyError
from hyppo.space import FloatArray, IntArray, Space
from hyppo.threads import on_one_thread

if TYPE_CHECKING:
    from hyppo.surrogates.gp import GP
    from hyppo.surrogates.outputs import Outputs

SURROGATES = ("auto", "gp", "rbf", "random")

REFIT_ALWAYS = 100  # points up to which hyperparameters are fitted at every ask
FITTED_ON = 300  # points that hyperparameters are fitted to at most
CONDITIONED_ON = 600  # points that a surrogate is conditioned on at most: an ask stays under a second at any n
PENDING_SHOWN = 250  # pending points that the process is told of at most: those in the most promising places
BATCH_POOL = 300  # further candidates where a search is for several points

RADIUS = 0.2  # of the local search to begin with, as a fraction of each range
SMALLEST_RADIUS = RADIUS / 64
SUCCESSES = 3

NOISY = -3.0  # log of a learned noise variance from which it rules the search
SOME_NOISE = -5.0  # and from which observations are not taken for the truth


@dataclass(frozen=True)
class Observations:
    """Trials with a finite loss, rows in the order in which they first settled."""

    unit: FloatArray  # (n, d) lattice coordinates
    mean: FloatArray  # (n,) mean loss
    spread: FloatArray  # (n,) sample standard deviation, NaN where unknown
    count: IntArray  # (n,) finite replicas


@dataclass(frozen=True)
class Proposal:
    """A point to try, and where it comes from in a form that JSON keeps."""

    unit: FloatArray  # (d,)
    origin: dict[str, Any]


@dataclass(frozen=True)
class Recommendation:
    """The visited point to recommend."""

    row: int  # of the observations
    mean: float  # estimate of the score, original units
    interval: tuple[float, float]  # 90 %, for the mean score of training it again and again; infinite where unknown
    reason: str


@dataclass(frozen=True)
class _Evidence:
    """Observations as surrogates take them: equal points merged, scores transformed, noise carried along."""

    row: IntArray  # (m,) row of the observations
    unit: FloatArray  # (m, d)
    x: FloatArray  # (m, D)
    score: FloatArray  # (m,)
    y: FloatArray  # (m,)
    noise: FloatArray | None  # (m,) variance of y; None where no point has replicas
    freedom: float  # degrees of freedom behind `noise`
    count: IntArray  # (m,)
    outputs: "Outputs"

    @property
    def n(self) -> int:
        return self.y.size

    def at(self, rows: IntArray) -> "_Evidence":
        return _Evidence(
            self.row[rows],
            self.unit[rows],
            self.x[rows],
            self.score[rows],
            self.y[rows],
            None if self.noise is None else self.noise[rows],
            self.freedom,
            self.count[rows],
            self.outputs,
        )


def _evidence(space: Space, data: Observations, risk: float) -> _Evidence:
    merged = surrogates.outputs.merge(space.keys(data.unit), data.mean, data.spread, data.count)
    unit = data.unit[merged.row]
    x = space.features(unit)
    variance = surrogates.spread.smooth(x, merged.variance, merged.freedom, space.owner)
    score = merged.mean if variance is None else merged.mean + risk * np.sqrt(variance)
    outputs = surrogates.outputs.fit(score)
    y = outputs.forward(score)
    noise: FloatArray | None = None
    if variance is not None:
        # Of the mean, variance / replicas; of the spread, by its degrees of freedom (the prior's among them).
        spread_term = risk**2 / (2.0 * (surrogates.spread.PRIOR_FREEDOM + merged.freedom))
        noise = variance * (1.0 / merged.count + spread_term) * outputs.derivative(score) ** 2
        noise = np.clip(noise, 1e-8, 10.0)
    return _Evidence(merged.row, unit, x, score, y, noise, float(merged.freedom.sum()), merged.count, outputs)


def _thinned(evidence: _Evidence, limit: int) -> IntArray:
    """At most `limit` rows: a third the best, a third the nearest to the best, the rest spread over time."""
    n = evidence.n
    if n <= limit:
        return np.arange(n)
    order = np.argsort(evidence.y, kind="stable")
    keep = np.zeros(n, dtype=bool)
    keep[order[: limit // 3]] = True
    distance = np.sum((evidence.x - evidence.x[order[0]]) ** 2, axis=1)
    distance[keep] = np.inf
    keep[np.argsort(distance, kind="stable")[: limit // 3]] = True
    others = np.flatnonzero(~keep)
    keep[others[np.linspace(0, others.size - 1, limit - int(keep.sum())).astype(np.int64)]] = True
    return np.flatnonzero(keep)


def _last(previous: Sequence[Mapping[str, Any]], by: str) -> Mapping[str, Any] | None:
    return next((origin for origin in reversed(previous) if origin.get("by") == by), None)


def _process(space: Space, evidence: _Evidence, previous: Sequence[Mapping[str, Any]]) -> "tuple[GP, dict[str, Any]]":
    """The Gaussian process, fitted or with the hyperparameters of an earlier ask, and the origin that it leaves."""
    gp = surrogates.gp
    d, known = space.dimension, evidence.noise is not None
    start, fitted_at = None, 0
    last = _last(previous, "gp")
    if last is not None and len(last["theta"]) == d + 2:
        start, fitted_at = np.array(last["theta"], dtype=np.float64), int(last["fitted_at"])
        if last["known_noise"] is not known:  # the last entry has changed its meaning
            start[-1] = gp.prior(d, known).mean[-1]
            fitted_at = 0
    due = evidence.n <= REFIT_ALWAYS or evidence.n - fitted_at >= evidence.n / 50 or evidence.n < fitted_at
    shown = evidence.at(_thinned(evidence, CONDITIONED_ON))
    if start is None or due:
        fitted = evidence.at(_thinned(evidence, FITTED_ON))
        cold = start is None or fitted_at == 0 or (evidence.n <= REFIT_ALWAYS and evidence.n % 5 == 0)
        starts = ([] if start is None else [start]) + ([gp.cold_start(d, known)] if cold else [])
        model = gp.fit(
            fitted.x,
            fitted.y,
            noise=fitted.noise,
            owner=space.owner,
            starts=starts,
            iterations=50 if start is None or evidence.n <= FITTED_ON else 10,
            # The pooled variance is itself an estimate: its logarithm has the variance 2 / freedom.
            noise_std=math.sqrt(0.25 + 2.0 / max(evidence.freedom, 1.0)),
        )
        start, fitted_at = model.theta, evidence.n
        if fitted.n == shown.n:
            return model, {"by": "gp", "theta": start.tolist(), "fitted_at": fitted_at, "known_noise": known}
    model = gp.condition(shown.x, shown.y, start, noise=shown.noise, owner=space.owner)
    return model, {"by": "gp", "theta": start.tolist(), "fitted_at": fitted_at, "known_noise": known}


class _Improvement:
    """The Gaussian process's turns in one search: the first is optimised, later ones pick from the pool of it."""

    def __init__(
        self,
        space: Space,
        evidence: _Evidence,
        pending: FloatArray,
        taken: Set[bytes],
        generator: np.random.Generator,
        pool: FloatArray,
        previous: Sequence[Mapping[str, Any]],
        given: int,
        room: int,
    ) -> None:
        model, self.origin = _process(space, evidence, previous)
        posterior = model.predict_mean(evidence.x)
        best = float(posterior.min())
        noise = 1.0 if evidence.noise is None else float(np.median(evidence.noise))
        where = space.features(pending)
        if pending.shape[0] > PENDING_SHOWN:
            # Elsewhere a pending point makes no place the best one less.
            promise = acquisition.expected_improvement.log_ei(model, where, best)
            where = where[np.sort(np.argsort(-promise, kind="stable")[:PENDING_SHOWN])]
        informed = acquisition.expected_improvement.with_pending(model, where, noise)
        parents = evidence.unit[np.argsort(posterior, kind="stable")[:5]]
        near = acquisition.candidates.around(space, generator, parents, 600)
        pool = np.vstack([pool, acquisition.candidates.free(space, near, taken)])

        def worth(unit: FloatArray) -> FloatArray:
            return acquisition.expected_improvement.log_ei(informed, space.features(unit), best)

        self.first: FloatArray | None = acquisition.candidates.evolve(space, generator, pool, worth, taken)
        self._space, self._best, self._noise, self._room = space, best, noise, room
        self._informed, self._given = informed, given
        if room > 1:
            parents = np.vstack([self.first[None, :], parents])
            closer = acquisition.candidates.around(space, generator, parents, BATCH_POOL)
            self._points = acquisition.candidates.free(space, np.vstack([pool, closer]), taken)
            self._keys = space.keys(self._points)
            self._pool: surrogates.pool.Pool | None = None

    def next(self, given: Sequence[FloatArray], taken: Set[bytes]) -> FloatArray | None:
        """The next point where this search has given `given` so far; None where the pool has no other."""
        if self.first is not None:
            first, self.first = self.first, None
            return first
        if self._pool is None:
            self._pool = surrogates.pool.Pool(self._informed, self._space.features(self._points), self._room)
        for unit in given[self._given :]:
            self._pool.add(self._space.features(unit[None, :])[0], self._noise)
        self._given = len(given)
        prediction = self._pool.prediction
        worths = acquisition.expected_improvement.log_ei_at(prediction, self._best)
        for row in np.argsort(-worths, kind="stable"):
            if self._keys[row] not in taken:
                return np.asarray(self._points[row])
        return None


def _is_process_turn(previous: Sequence[Mapping[str, Any]]) -> bool:
    """Every other ask; every third where single trainings turned out noisy, in which the local search bears up better.

    Measured: every third instead of every other was worth 1.7 times the trainings under such noise, and cost a tenth
    without noise or with replicas.
    """
    since = 0
    for origin in reversed(previous):
        if origin.get("by") == "gp":
            noisy = not origin["known_noise"] and origin["theta"][-1] > NOISY
            return since >= (2 if noisy else 1)
        since += origin.get("by") == "rbf"
    return True


def _radius(evidence: _Evidence, d: int, previous: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """State of the local search after the last of its asks: halved after failures, doubled after successes."""
    best = float(evidence.score.min())
    last = _last(previous, "rbf")
    if last is None:
        return {"by": "rbf", "radius": RADIUS, "successes": 0, "failures": 0, "best": best}
    radius = float(last["radius"])
    better = best < last["best"]
    successes, failures = (int(last["successes"]) + 1, 0) if better else (0, int(last["failures"]) + 1)
    if successes >= SUCCESSES:
        radius, successes = min(2.0 * radius, RADIUS), 0
    elif failures >= max(5, d):
        radius, failures = max(0.5 * radius, SMALLEST_RADIUS), 0
    return {"by": "rbf", "radius": radius, "successes": successes, "failures": failures, "best": best}


class _Distance:
    """The radial basis function's turns in one search: one fit for all of them."""

    def __init__(
        self,
        space: Space,
        evidence: _Evidence,
        generator: np.random.Generator,
        pool: FloatArray,
        *,
        ensemble: bool,
    ) -> None:
        self._space, self._evidence, self._generator, self._pool = space, evidence, generator, pool
        self._ensemble = ensemble
        self._model: surrogates.ensemble.Ensemble | surrogates.rbf.RBF | None = None

    def _fitted(self) -> "surrogates.ensemble.Ensemble | surrogates.rbf.RBF":
        if self._model is None:
            shown = self._evidence.at(_thinned(self._evidence, CONDITIONED_ON))
            ridge = 1e-6 * shown.n
            if self._ensemble and shown.noise is not None:
                spread = np.sqrt(shown.noise * shown.count)
                self._model = surrogates.ensemble.fit(shown.x, shown.y, spread, self._generator, ridge=ridge)
            else:
                self._model = surrogates.rbf.fit(shown.x, shown.y, ridge=ridge)
        return self._model

    def next(
        self, pending: FloatArray, taken: Set[bytes], previous: Sequence[Mapping[str, Any]]
    ) -> tuple[FloatArray, dict[str, Any]] | None:
        """The next point and its origin; None where neither the neighbourhood nor the pool has a free one."""
        space, evidence, d = self._space, self._evidence, self._space.dimension
        origin = _radius(evidence, d, previous)
        turn = sum(1 for earlier in previous if earlier.get("by") == "rbf")
        # DYCORS lets the probability fall with the logarithm of the budget spent; without a budget, by a power that
        # stays near that curve for budgets of 50 to 100.
        probability = 1.0
        if (turn + turn // len(acquisition.weighted.WEIGHTS)) % 2:
            probability = max(min(20.0 / d, 1.0) * (1.0 + max(evidence.n - d, 0)) ** -0.35, 1.0 / d)
        row = int(np.argmin(evidence.y))
        near = acquisition.candidates.dycors(
            space, self._generator, evidence.unit[row], float(origin["radius"]), probability, min(100 * d, 2_000)
        )
        candidates = acquisition.candidates.free(space, near, taken)
        if candidates.shape[0] == 0:
            candidates = acquisition.candidates.free(space, self._pool, taken)
        if candidates.shape[0] == 0:
            return None
        x = space.features(candidates)
        value = self._fitted().predict(x).mean
        centres = _nearby(np.vstack([evidence.x, space.features(pending)]), evidence.x[row], x)
        weight = acquisition.weighted.WEIGHTS[turn % len(acquisition.weighted.WEIGHTS)]
        scores = acquisition.weighted.score(value, acquisition.weighted.distances(x, centres), weight)
        return candidates[int(np.argmin(scores))], origin


def _nearby(centres: FloatArray, middle: FloatArray, x: FloatArray) -> FloatArray:
    """Those of `centres` that can be the nearest of one to a point x, where `middle` is one of them.

    No x is farther from its nearest centre than from the middle, so that centres beyond twice the farthest x play no
    part: of ten thousand centres few are left near the end of a search.
    """
    reach = float(np.max(np.sum((x - middle) ** 2, axis=1)))
    near = np.sum((centres - middle) ** 2, axis=1) <= 4.0 * reach * (1.0 + 1e-9) + 1e-12
    return np.asarray(centres[near])


def _checked(surrogate: str, risk: float) -> None:
    if surrogate not in SURROGATES:
        raise StudyError(f"surrogate: expected one of {list(SURROGATES)}, got {surrogate!r}")
    if not (math.isfinite(risk) and risk >= 0.0):
        raise StudyError(f"risk: expected a finite number >= 0, got {risk!r}")


def propose(
    space: Space,
    data: Observations,
    pending: FloatArray,
    taken: Set[bytes],
    generator: np.random.Generator,
    *,
    surrogate: str = "auto",
    risk: float = 0.0,
    previous: Sequence[Mapping[str, Any]] = (),
) -> Proposal | None:
    """The next point to try.

    Parameters
    ----------
    space : Space
    data : Observations
        What is known.
    pending : (p, d) array
        Coordinates of points without a loss yet.
    taken : set of bytes
        `space.keys` of all points that were ever tried or are pending.
    generator : numpy.random.Generator
        Of this ask alone.
    surrogate : {"auto", "gp", "rbf", "random"}
        "auto" lets both models take turns.
    risk : float
        Weight of the spread in the score, >= 0.
    previous : sequence of mappings
        Origins of all earlier trials, by number.

    Returns
    -------
    Proposal or None
        A point that is not taken; None where the space has no other.

    Raises
    ------
    StudyError
        An unknown surrogate, or a negative risk.

    Examples
    --------
    >>> from hyppo.space import Real
    >>> space = Space(a=Real(0, 1))
    >>> unit = np.array([[0.0], [0.4], [1.0]])
    >>> data = Observations(unit, np.array([1.0, 0.1, 1.2]), np.full(3, np.nan), np.ones(3, dtype=np.int64))
    >>> proposal = propose(space, data, np.empty((0, 1)), set(space.keys(unit)), np.random.default_rng(0))
    >>> proposal.origin["by"], bool(0.1 < proposal.unit[0] < 0.7)
    ('gp', True)
    """
    found = propose_batch(space, data, pending, taken, generator, 1, surrogate=surrogate, risk=risk, previous=previous)
    return found[0] if found else None


@on_one_thread
def propose_batch(
    space: Space,
    data: Observations,
    pending: FloatArray,
    taken: Set[bytes],
    generator: np.random.Generator,
    count: int,
    *,
    surrogate: str = "auto",
    risk: float = 0.0,
    previous: Sequence[Mapping[str, Any]] = (),
) -> list[Proposal]:
    """Up to `count` points to try, from one fit of each surrogate; the first is what `propose` gives.

    Each further point takes those before it for pending. Fewer come where the space has no more.

    Parameters
    ----------
    count : int
        At least 1; the others are those of `propose`.

    Raises
    ------
    StudyError
        As `propose`.

    Examples
    --------
    >>> from hyppo.space import Real
    >>> space = Space(a=Real(0, 1))
    >>> unit = np.array([[0.0], [0.4], [1.0]])
    >>> data = Observations(unit, np.array([1.0, 0.1, 1.2]), np.full(3, np.nan), np.ones(3, dtype=np.int64))
    >>> batch = propose_batch(space, data, np.empty((0, 1)), set(), np.random.default_rng(0), 3)
    >>> [proposal.origin["by"] for proposal in batch]
    ['gp', 'rbf', 'gp']
    """
    _checked(surrogate, risk)
    seen = {*taken, *space.keys(data.unit), *space.keys(pending)}
    pool = acquisition.candidates.fresh(space, generator, seen, max(acquisition.candidates.POOL, count))
    if pool.shape[0] == 0:
        return []
    if surrogate == "random":
        return [Proposal(unit, {"by": "random"}) for unit in pool[:count]]
    evidence = _evidence(space, data, risk)
    if evidence.n < 2 or not np.ptp(evidence.y) > 0.0:
        return _apart(space, np.vstack([evidence.x, space.features(pending)]), pool, count)
    origins = list(previous)
    given: list[FloatArray] = []
    proposals: list[Proposal] = []
    improvement: _Improvement | None = None
    distance = _Distance(space, evidence, generator, pool, ensemble=surrogate == "rbf")
    while len(proposals) < count:
        unit: FloatArray | None = None
        if surrogate == "gp" or (surrogate == "auto" and _is_process_turn(origins)):
            if improvement is None:
                waiting, room = np.vstack([pending, *given]), count - len(given)
                improvement = _Improvement(
                    space, evidence, waiting, seen, generator, pool, origins, given=len(given), room=room
                )
            unit, origin = improvement.next(given, seen), improvement.origin
        if unit is None:
            found = distance.next(np.vstack([pending, *given]), seen, origins)
            if found is None:
                break
            unit, origin = found
        if proposals:
            origin = origin | {"batch": len(proposals)}
        seen.update(space.keys(unit[None, :]))
        given.append(unit)
        origins.append(origin)
        proposals.append(Proposal(unit, origin))
    return proposals


def _apart(space: Space, centres: FloatArray, pool: FloatArray, count: int) -> list[Proposal]:
    """Points of the pool as far from everything as it has, while there is nothing to learn from."""
    x = space.features(pool)
    distance = acquisition.weighted.distances(x, centres)
    proposals: list[Proposal] = []
    for _ in range(min(count, pool.shape[0])):
        row = int(np.argmax(distance))
        proposals.append(Proposal(pool[row], {"by": "design"}))
        distance = np.minimum(distance, acquisition.weighted.distances(x, x[row : row + 1]))
        distance[row] = -1.0
    return proposals


@on_one_thread
def recommend(
    space: Space,
    data: Observations,
    *,
    surrogate: str = "auto",
    risk: float = 0.0,
    required: int = 1,
    previous: Sequence[Mapping[str, Any]] = (),
) -> Recommendation | None:
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
    space, data, surrogate, risk, previous
        As for `propose`.
    required : int
        Replicas that a trial needs to be recommended; the most that any has, where that is fewer.

    Returns
    -------
    Recommendation or None
        None without observations.

    Raises
    ------
    StudyError
        An unknown surrogate, or a negative risk.
    """
    _checked(surrogate, risk)
    if data.mean.size == 0:
        return None
    evidence = _evidence(space, data, risk)
    able = np.flatnonzero(evidence.count >= min(required, int(evidence.count.max())))
    observed = int(able[np.argmin(evidence.score[able])])
    if evidence.n < 4 or not np.ptp(evidence.y) > 0.0:
        half = math.inf
        if evidence.noise is not None:
            slope = float(evidence.outputs.derivative(evidence.score)[observed])
            half = 1.645 * math.sqrt(2.0 * evidence.noise[observed]) / slope
        score = float(evidence.score[observed])
        reason = "the best observed; too little is known for a model of the loss"
        return Recommendation(int(evidence.row[observed]), score, (score - half, score + half), reason)
    model, _ = _process(space, evidence, previous)
    prediction = model.predict(evidence.x[able])
    known = evidence.noise is not None
    noisy = 1.0 if known else 1.0 / (1.0 + math.exp(-2.0 * (float(model.theta[-1]) - SOME_NOISE)))
    y = evidence.y[able]
    cautious = 0.85 * prediction.mean + 0.15 * y + 0.6 * prediction.std
    chosen = int(np.argmin(noisy * cautious + (1.0 - noisy) * y))
    index = int(able[chosen])
    centre = float(noisy * prediction.mean[chosen] + (1.0 - noisy) * y[chosen])
    noise = model.noise_factor * (1.0 if evidence.noise is None else 0.3 * float(evidence.noise[index]))
    half = 1.645 * math.sqrt(float(prediction.std[chosen]) ** 2 + noise)
    mean, low, high = (float(v) for v in evidence.outputs.inverse(centre + np.array([0.0, -half, half])))
    if not known:
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


@dataclass(frozen=True)
class Surface:
    """The Gaussian process over a space, as a function of coordinates."""

    space: Space
    model: "GP"
    outputs: "Outputs"

    def mean(self, unit: FloatArray) -> FloatArray:
        """Posterior mean on the transformed scale, (q, d) -> (q,)."""
        return self.model.predict_mean(self.space.features(unit))

    def loss(self, y: FloatArray) -> FloatArray:
        """Transformed values in units of the loss."""
        return self.outputs.inverse(y)


@on_one_thread
def surface(
    space: Space, data: Observations, *, risk: float = 0.0, previous: Sequence[Mapping[str, Any]] = ()
) -> Surface | None:
    """The surrogate that `propose` would use; None where there is too little to fit one."""
    if data.mean.size < 4:
        return None
    evidence = _evidence(space, data, risk)
    if evidence.n < 4 or not np.ptp(evidence.y) > 0.0:
        return None
    return Surface(space, _process(space, evidence, previous)[0], evidence.outputs)
