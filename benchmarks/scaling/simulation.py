"""Simulated groups on a virtual clock, driven by the real loop, the real study and a real study file.

    virtual time   seconds that the manager really spent, plus the seconds skipped while it had nothing to do
    group          trains one replica at a time, for a log-normal virtual time
    start          until every group has had work          drain   from the last work handed out to the end
    utilisation    share of group time spent in training between start and drain
    stale          losses that came in between the ask of a point and the start of its training

The manager's seconds are those of its CPU, and those of the wall while the disk syncs: other programs on the machine
do not count. Trainings run in virtual time only: while the manager is busy they go on, and ended ones wait.
"""

import heapq
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import hyppo
from benchmarks.scaling import problem
from hyppo.loop import Interrupt, Loop, Options, Progressed, Session, Status
from hyppo.search.budget import Left
from hyppo.training.replica import Outcome, Task
from hyppo.trial import Event, Trial


class Clock:
    """Virtual seconds since it was made. With `free` the manager takes no time: only skipped seconds count."""

    def __init__(self, free: bool = False) -> None:
        self.free = free
        self._skipped = 0.0
        self._waited = 0.0
        self._began = time.process_time()

    @property
    def manager(self) -> float:
        """Seconds that the manager has spent: CPU, and waits for the disk."""
        return time.process_time() - self._began + self._waited

    def __call__(self) -> float:
        return self._skipped if self.free else self._skipped + self.manager

    def skip(self, seconds: float) -> None:
        """Let time pass in which the manager has nothing to do."""
        self._skipped += max(0.0, seconds)

    def waited(self, seconds: float) -> None:
        """Count seconds in which the manager waited for the disk."""
        self._waited += max(0.0, seconds)


@dataclass
class Spent:
    """Seconds and number of the manager's actions, by kind."""

    ask: float = 0.0
    tell: float = 0.0
    log: float = 0.0
    points: int = 0  # new points
    appends: int = 0
    searches: list[tuple[int, int, float]] = field(default_factory=list)  # (trials before, points, seconds) of each

    @property
    def steps(self) -> int:
        return len(self.searches)


class TimedStudy(hyppo.Study):
    """A study that measures its asks and tells, without the share of the log."""

    def __init__(self, clock: Clock, spent: Spent, **arguments: Any) -> None:
        super().__init__(problem.SPACE, **arguments)
        self.clock, self.spent = clock, spent
        self.known = 0  # losses so far
        self.known_at_ask: dict[int, int] = {}  # by trial

    def _record(self, *events: Event) -> None:
        self._open()
        cpu, wall = time.process_time(), time.perf_counter()
        super()._record(*events)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        self.clock.waited(wall - cpu)
        self.spent.log += max(cpu, wall)
        self.spent.appends += 1

    def _ask(self, count: int, left: Left) -> tuple[Trial, ...]:
        began, logged = self.clock.manager, self.spent.log
        known = self.known
        trials = super()._ask(count, left)
        seconds = self.clock.manager - began - (self.spent.log - logged)
        self.spent.ask += seconds
        self.spent.points += len(trials)
        if trials:
            self.spent.searches.append((trials[0].number, len(trials), seconds))
        self.known_at_ask |= {trial.number: known for trial in trials}
        return trials


class TimedSession(Session):
    """The session of a timed study."""

    study: TimedStudy

    def settle(self, outcomes: Sequence[tuple[Task, Outcome]], *arguments: Any) -> None:
        study = self.study
        began, logged = study.clock.manager, study.spent.log
        super().settle(outcomes, *arguments)
        study.known += len(outcomes)
        study.spent.tell += study.clock.manager - began - (study.spent.log - logged)


class Groups:
    """Trial groups of one slot each, which train in virtual time. See `hyppo.loop.Workers`."""

    def __init__(self, count: int, clock: Clock, mean: float, sigma: float, study: TimedStudy) -> None:
        self.groups: Sequence[int] = range(count)
        self.clock, self.mean, self.sigma, self.study = clock, mean, sigma, study
        self.trained: list[tuple[float, float]] = []  # (start, end)
        self.stale: list[int] = []
        self.peak = 0  # the most that trained at a time
        self.all_busy: float | None = None  # when every group has had work
        self._had: set[int] = set()
        self._ends: list[tuple[float, int, Task, Future[Outcome]]] = []

    def submit(self, task: Task, slot: int) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        start = self.clock()
        end = start + problem.seconds_of(task.seed, self.mean, self.sigma)
        heapq.heappush(self._ends, (end, len(self.trained), task, future))
        self.trained.append((start, end))
        self.stale.append(self.study.known - self.study.known_at_ask[task.trial])
        self.peak = max(self.peak, len(self._ends))
        self._had.add(slot)
        if self.all_busy is None and len(self._had) == len(self.groups):
            self.all_busy = start
        return future

    def wait(self, timeout: float) -> None:
        if self._ends:
            self.clock.skip(min(self._ends[0][0] - self.clock(), timeout))
        now = self.clock()
        while self._ends and self._ends[0][0] <= now:
            end, serial, task, future = heapq.heappop(self._ends)
            loss = problem.noisy_loss(task.params, task.seed)
            future.set_result(Outcome(loss, None, self.trained[serial][0], end, host=f"group-{serial}"))

    def reports(self) -> list[Progressed]:
        return []

    def on_report(self, callback: Callable[[], None]) -> None:
        pass

    def request_stop(self, task: Task | None = None) -> None:
        pass

    def close(self) -> None:
        self._ends.clear()


class Nobody:
    """No view: showing is not measured."""

    def say(self, text: str) -> None:
        pass

    def failed(self, task: Task, outcome: Outcome) -> None:
        pass

    def show(self, status: Status, force: bool = False) -> None:
        pass


@dataclass(frozen=True)
class Report:
    """Result of one simulated run; seconds are virtual, except the manager's."""

    groups: int
    seconds: float
    sigma: float
    replicas: int
    trials: int
    surrogate: str
    free: bool
    seed: int
    elapsed: float
    start: float
    drain: float
    utilisation: float
    utilisation_in_all: float
    asks_per_second: float
    spent: dict[str, Any]
    manager: float  # seconds of ask, tell, log and all else
    stale_mean: float
    stale_most: int
    regret: float  # true loss of the recommended point, the optimum's is 0
    best_seen: float  # least true loss of all points

    @property
    def per_event(self) -> dict[str, float]:
        """Milliseconds of the manager for each training: ask, tell, log, and the loop itself."""
        events = self.trials * self.replicas
        parts = {name: self.spent[name] for name in ("ask", "tell", "log")}
        parts["loop"] = self.manager - sum(parts.values())
        return {name: 1e3 * seconds / events for name, seconds in parts.items()}


def load() -> None:
    """Import and compile before the clock starts, as the first asks would: a run of hours does not notice."""
    with hyppo.Study(problem.SPACE) as study:
        for number in range(24):
            trial = study.ask()
            study.tell(trial.number, [float(number % 7), float(number % 5)])
        study.ask_batch(4)


def simulate(
    groups: int,
    seconds: float,
    trials: int,
    path: Path | None,
    *,
    sigma: float = 0.5,
    replicas: int = 1,
    seed: int = 0,
    surrogate: str = "auto",
    free: bool = False,
) -> Report:
    """Run one simulated study to its end.

    Parameters
    ----------
    groups, trials : int
    seconds : float
        Mean virtual seconds of a training.
    path : path or None
        Study file to make; in memory if None.
    sigma : float
        Standard deviation of the logarithm of the training times.
    free : bool
        The manager's own time does not count: every ask then knows all losses there are.
    """
    load()
    clock, spent = Clock(free), Spent()
    study = TimedStudy(
        clock, spent, objective=problem.trained, log=path, replicas=replicas, seed=seed, surrogate=surrogate
    )
    workers = Groups(groups, clock, seconds, sigma, study)
    Loop(TimedSession(study), workers, Options(trials=trials), Nobody(), Interrupt(), clock).go()
    elapsed, manager = clock(), clock.manager
    start = workers.all_busy if workers.all_busy is not None else elapsed
    stop = max(s for s, _ in workers.trained)
    inside = sum(max(0.0, min(e, stop) - max(s, start)) for s, e in workers.trained)
    best = study.best
    report = Report(
        groups=groups,
        seconds=seconds,
        sigma=sigma,
        replicas=replicas,
        trials=trials,
        surrogate=surrogate,
        free=free,
        seed=seed,
        elapsed=elapsed,
        start=start,
        drain=elapsed - stop,
        utilisation=inside / (groups * (stop - start)) if stop > start else float("nan"),
        utilisation_in_all=sum(e - s for s, e in workers.trained) / (groups * elapsed),
        asks_per_second=spent.points / elapsed,
        spent=asdict(spent),
        manager=manager,
        stale_mean=float(np.mean(workers.stale)),
        stale_most=max(workers.stale),
        regret=problem.true_loss(best.params) - problem.OPTIMUM,
        best_seen=min(problem.true_loss(t.params) for t in study.trials) - problem.OPTIMUM,
    )
    study.close()
    return report
