"""One race: one optimiser at one problem with one seed, and what is written down of it."""

import math
import time
import traceback
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from benchmarks.optimizers import problems
from benchmarks.optimizers.peers import OPTIMIZERS, Point, Recommended, Setting, create

CHECKPOINTS = 10  # recommendations asked for on the way, evenly spaced, the last at the end


@dataclass(frozen=True)
class Entry:
    """What a race is of; two with equal entries are the same race."""

    problem: str
    optimizer: str
    seed: int
    budget: int
    pending: int = 1


@dataclass
class Outcome:
    """What came out. All losses are true ones, of points tried or recommended.

    Attributes
    ----------
    family : str
    version : str
        Of the optimiser's distribution.
    trainings : int
        Spent in all: budget times the problem's replicas.
    observed : list of float
        After each evaluation: the loss at the point with the best observed mean.
    recommended : dict of int to float
        After so many evaluations: the loss at the recommended point.
    final : float
        Loss at the last recommendation: what counts.
    oracle : float
        Least loss of all points tried: what a perfect choice among them would have been.
    interval : (float, float), optional
        The optimiser's own 90 % interval for `final`.
    ask_seconds, recommend_seconds : float
        Mean CPU time of an ask with its tell, and of a recommendation: the clock would see the neighbours.
    error : str, optional
        Traceback, where the optimiser failed: then only what came before counts.
    """

    family: str
    version: str
    trainings: int = 0
    observed: list[float] = field(default_factory=list)
    recommended: dict[int, float] = field(default_factory=dict)
    final: float | None = None
    oracle: float | None = None
    interval: tuple[float, float] | None = None
    ask_seconds: float = 0.0
    recommend_seconds: float = 0.0
    error: str | None = None


@dataclass
class _Observed:
    """All trainings of a point so far; an optimiser may come back to it."""

    params: Any
    true: float
    losses: list[float]


def race(entry: Entry) -> dict[str, Any]:
    """Run one race: its entry and outcome, as one flat record for a JSON line.

    `entry.pending` points are out at a time, and come back in a random order: 1 is sequential.
    """
    problem = problems.problem(entry.problem)
    outcome = Outcome(problem.family, OPTIMIZERS[entry.optimizer].version())
    try:
        _run(entry, problem, outcome)
    except Exception:
        outcome.error = traceback.format_exc(limit=-4)
    return {**asdict(entry), **asdict(outcome)}


def _run(entry: Entry, problem: problems.Problem, outcome: Outcome) -> None:
    budget = entry.budget * problem.replicas
    peer = create(
        entry.optimizer,
        Setting(problem.space, entry.budget, problem.replicas, problem.noisy, entry.seed, entry.pending),
    )
    clock = getattr(peer, "clock", time.process_time)  # an optimiser in a process of its own brings its clock
    arrival = np.random.default_rng([entry.seed, 8])
    tried: dict[bytes, _Observed] = {}
    out: list[Point] = []
    asked = tells = 0
    working = recommending = 0.0
    marks = [round(entry.budget * (i + 1) / CHECKPOINTS) for i in range(CHECKPOINTS)]

    def best_observed() -> _Observed:
        return min(tried.values(), key=lambda o: sum(o.losses) / len(o.losses))

    while outcome.trainings < budget:
        while len(out) < entry.pending and asked < budget:
            start = clock()
            point = peer.ask()
            working += clock() - start
            point = Point(point.key, point.params, min(point.replicas, budget - asked))
            asked += point.replicas
            out.append(point)
        point = out.pop(int(arrival.integers(len(out))))
        key = problem.space.keys(problem.space.encode(point.params)[None, :])[0]
        seen = tried.setdefault(key, _Observed(point.params, problem.true(point.params), []))
        losses = problem.losses(point.params, entry.seed, len(seen.losses), point.replicas)
        counted = [problem.failed if math.isnan(loss) else loss for loss in losses]
        seen.losses += counted
        start = clock()
        peer.tell(point, losses if getattr(peer, "knows_failures", False) else counted)
        working += clock() - start
        tells += 1
        outcome.trainings += point.replicas
        done = outcome.trainings // problem.replicas
        # An adaptive optimiser tells less or more than an evaluation at a time; curves are by trainings spent.
        outcome.observed += [best_observed().true] * (done - len(outcome.observed))
        while marks and done >= marks[0]:
            start = clock()
            answer = peer.recommend()
            recommending += clock() - start
            answer = answer or Recommended(best_observed().params)
            outcome.final = outcome.recommended[marks.pop(0)] = problem.true(answer.params)
            outcome.interval = answer.interval
        outcome.oracle = min(o.true for o in tried.values())
        outcome.ask_seconds = working / tells
        outcome.recommend_seconds = recommending / max(1, len(outcome.recommended))
