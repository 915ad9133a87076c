"""One race: one optimiser on one problem with one seed, and its record."""

import math
import time
import traceback
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from benchmarks.optimizers import problems
from benchmarks.optimizers.peers import OPTIMIZERS, Point, Recommended, Setting, create

CHECKPOINTS = 10  # number of recommendations requested, evenly spaced, the last at the end
SPENT = (60, 150, 300)  # trainings after which a race at equal trainings asks for a recommendation
CONTENDERS = 10  # number of best visited points from which the truly best should be recommended


@dataclass(frozen=True)
class Entry:
    """One race; two with equal entries are the same race.

    Attributes
    ----------
    problem, optimizer : str
    seed, budget : int
        pending : int
        Number of pending points.
    unit : {"evaluations", "trainings"}
        The unit of the budget. The problem sets the number of trainings in an evaluation.
    replicas : int, optional
        Trainings of a point when the budget counts trainings; None leaves them to the optimiser.
    """

    problem: str
    optimizer: str
    seed: int
    budget: int
    pending: int = 1
    unit: str = "evaluations"
    replicas: int | None = None


@dataclass
class Outcome:
    """The result of a race. All losses are true ones, of points tried or recommended.

    Attributes
    ----------
    family : str
    version : str
        Version of the optimiser's distribution.
    trainings : int
        Total number spent: budget times the problem's replicas.
    observed : list of float
        The loss at the point with the best observed mean, after each evaluation.
    recommended : dict of int to float
        Number of evaluations -> the loss at the recommended point.
    final : float
        Loss at the last recommendation: the result that counts.
    oracle : float
        Lowest loss of all points tried, which a perfect recommendation would have.
    interval : (float, float), optional
        The optimiser's own 90 % interval for `expected`.
    expected : float
        The true value of the estimate at the last recommendation: `final`, or, for an optimiser that knows failures,
        the mean loss of the trainings that do not fail.
    spent : dict of int to dict
        At equal trainings, number of trainings -> state: see `_state`.
    ask_seconds, recommend_seconds : float
        Mean CPU time of an ask with its tell, and of a recommendation; wall time would depend on other processes.
    error : str, optional
        Traceback, if the optimiser failed: then only earlier results count.
    """

    family: str
    version: str
    trainings: int = 0
    observed: list[float] = field(default_factory=list)
    recommended: dict[int, float] = field(default_factory=dict)
    final: float | None = None
    oracle: float | None = None
    interval: tuple[float, float] | None = None
    expected: float | None = None
    spent: dict[int, dict[str, Any]] = field(default_factory=dict)
    ask_seconds: float = 0.0
    recommend_seconds: float = 0.0
    error: str | None = None


@dataclass
class _Observed:
    """All trainings of a point so far; an optimiser may repeat the point."""

    params: Any
    true: float
    losses: list[float]


def race(entry: Entry) -> dict[str, Any]:
    """Run one race: its entry and outcome, as one flat record for a JSON line.

    `entry.pending` points are pending at a time, and are told in a random order: 1 is sequential.
    """
    problem = problems.problem(entry.problem)
    outcome = Outcome(problem.family, OPTIMIZERS[entry.optimizer].version())
    try:
        _run(entry, problem, outcome)
    except Exception:
        outcome.error = traceback.format_exc(limit=-4)
    return {**asdict(entry), **asdict(outcome)}


def _run(entry: Entry, problem: problems.Problem, outcome: Outcome) -> None:
    if entry.unit == "trainings":
        each, budget, replicas = 1, entry.budget, entry.replicas or 1
        evaluations = entry.budget // replicas
        marks = sorted({m for m in SPENT if m < budget} | {budget})
    else:
        each, budget, replicas = problem.replicas, entry.budget * problem.replicas, problem.replicas
        evaluations = entry.budget
        marks = [round(entry.budget * (i + 1) / CHECKPOINTS) for i in range(CHECKPOINTS)]
    peer = create(
        entry.optimizer,
        Setting(
            problem.space,
            evaluations,
            replicas,
            problem.noisy,
            entry.seed,
            entry.pending,
            adaptive=entry.unit == "trainings" and entry.replicas is None,
        ),
    )
    knows_failures = getattr(peer, "knows_failures", False)
    clock = getattr(peer, "clock", time.process_time)  # an optimiser in a separate process has its own clock
    arrival = np.random.default_rng([entry.seed, 8])
    tried: dict[bytes, _Observed] = {}
    out: list[Point] = []
    asked = tells = 0
    working = recommending = 0.0

    def best_observed() -> _Observed:
        return min(tried.values(), key=lambda o: sum(o.losses) / len(o.losses))

    def identity(params: Any) -> bytes:
        return problem.space.keys(problem.space.encode(params)[None, :])[0]

    while outcome.trainings < budget:
        while len(out) < entry.pending and asked < budget:
            start = clock()
            point = peer.ask()
            working += clock() - start
            point = Point(point.key, point.params, min(point.replicas, budget - asked))
            asked += point.replicas
            out.append(point)
        point = out.pop(int(arrival.integers(len(out))))
        seen = tried.setdefault(identity(point.params), _Observed(point.params, problem.true(point.params), []))
        losses = problem.losses(point.params, entry.seed, len(seen.losses), point.replicas)
        counted = [problem.failed if math.isnan(loss) else loss for loss in losses]
        seen.losses += counted
        start = clock()
        peer.tell(point, losses if knows_failures else counted)
        working += clock() - start
        tells += 1
        outcome.trainings += point.replicas
        done = outcome.trainings // each
        # With an adaptive optimiser a point may have any number of trainings; curves are by trainings spent.
        outcome.observed += [best_observed().true] * (done - len(outcome.observed))
        outcome.oracle = min(o.true for o in tried.values())
        while marks and done >= marks[0]:
            start = clock()
            answer = peer.recommend()
            recommending += clock() - start
            answer = answer or Recommended(best_observed().params)
            mark = marks.pop(0)
            outcome.final = outcome.recommended[mark] = problem.true(answer.params)
            outcome.interval = answer.interval
            outcome.expected = problem.expected(answer.params) if knows_failures else outcome.final
            if entry.unit == "trainings":
                state = _state(tried, identity(answer.params), answer)
                outcome.spent[mark] = {**state, "expected": outcome.expected}
        outcome.ask_seconds = working / tells
        outcome.recommend_seconds = recommending / max(1, len(outcome.recommended))


def _state(tried: dict[bytes, _Observed], chosen: bytes, answer: Recommended) -> dict[str, Any]:
    """The state of a race: true, reported and observed loss of the recommended point, and its competitors.

    `among` has the true losses of the best visited points, ascending; `replicas` is the number of trainings of the
    recommended one.
    """
    point = tried[chosen]
    observed = sum(point.losses) / len(point.losses)
    return {
        "true": point.true,
        "observed": observed,
        "estimate": observed if answer.estimate is None else answer.estimate,
        "interval": answer.interval,
        "among": sorted(o.true for o in tried.values())[:CONTENDERS],
        "visited": len(tried),
        "replicas": len(point.losses),
    }
