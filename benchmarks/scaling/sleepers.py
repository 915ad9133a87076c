"""One run of real trainings that sleep, under mpiexec or alone; rank 0 writes the measurements.

mpiexec -n 9 python -m benchmarks.scaling.sleepers out.json --seconds 0.35 --trials 400

slot        a replica group: trains one replica at a time
overhead    of a replica: submit to the start of the user's function, and its end to the loss in the log
searching   the part of it in which the first rank was at a search for another replica's point
gap         of a slot: end of a training to the start of its next one
speed-up    seconds of training per second, from when every slot trains until the last loss is in the log
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hyppo
from benchmarks.scaling import problem
from benchmarks.scaling.simulation import Nobody, load
from hyppo import launch
from hyppo.launch.choose import workers_for
from hyppo.loop import Interrupt, Loop, Options, Progressed, Session, Workers
from hyppo.search.budget import Left
from hyppo.training.replica import Outcome, Task
from hyppo.trial import Event, Settled

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Sleeper:
    """Trains for a log-normal time, which its seed decides, by sleeping."""

    seconds: float
    sigma: float

    def __call__(self, replica: hyppo.Replica) -> float:
        time.sleep(problem.seconds_of(replica.seed, self.seconds, self.sigma))
        return problem.noisy_loss(replica.params, replica.seed)


class Stamped:
    """Workers that note when each training was handed out, and to which slot."""

    def __init__(self, workers: Workers) -> None:
        self.groups: Sequence[int] = workers.groups
        self._workers = workers
        self.submitted: dict[tuple[int, int], tuple[float, int]] = {}

    def submit(self, task: Task, slot: int) -> Future[Outcome]:
        self.submitted[task.trial, task.index] = time.time(), slot
        return self._workers.submit(task, slot)

    def wait(self, timeout: float) -> None:
        self._workers.wait(timeout)

    def reports(self) -> list[Progressed]:
        return self._workers.reports()

    def request_stop(self, task: Task | None = None) -> None:
        self._workers.request_stop(task)

    def on_report(self, callback: Callable[[], None]) -> None:
        self._workers.on_report(callback)

    def close(self) -> None:
        self._workers.close()


class InBatches(Stamped):
    """The same, but a batch reports only when its last training has ended: the baseline of asynchrony."""

    def __init__(self, workers: Workers) -> None:
        super().__init__(workers)
        self._running: list[Future[Outcome]] = []

    def submit(self, task: Task, slot: int) -> Future[Outcome]:
        future = super().submit(task, slot)
        self._running.append(future)
        return future

    def wait(self, timeout: float) -> None:
        while not all(future.done() for future in self._running):
            super().wait(timeout)
        self._running.clear()


class StampedStudy(hyppo.Study):
    """A study that notes when each loss was in the log, and the time of its asks."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.logged: dict[tuple[int, int], float] = {}
        self.asked: dict[int, float] = {}
        self.searches: list[tuple[float, float]] = []  # (start, end)

    def _ask(self, count: int, left: Left) -> tuple[hyppo.Trial, ...]:
        began = time.time()
        trials = super()._ask(count, left)
        self.searches.append((began, time.time()))
        self.asked |= {trial.number: began for trial in trials}
        return trials

    def _record(self, *events: Event) -> None:
        super()._record(*events)
        now = time.time()
        self.logged |= {(e.number, r.index): now for e in events if isinstance(e, Settled) for r in e.records}


def _quantile(seconds: Sequence[float] | FloatArray, q: float) -> float | None:
    return float(np.quantile(seconds, q)) if len(seconds) else None


def measured(study: StampedStudy, workers: Stamped) -> dict[str, Any]:
    """Overhead, utilisation and fairness of one run; seconds."""
    by_slot: dict[int, list[tuple[float, float]]] = defaultdict(list)
    to_start, to_log, searching, ends = [], [], [], []
    searches = np.array(study.searches)
    first = {slot: min(t for t, s in workers.submitted.values() if s == slot) for slot in range(len(workers.groups))}
    for trial in study.trials:
        for replica in trial.replicas:
            if replica.start is None or replica.end is None:
                continue
            key = trial.number, replica.index
            at, slot = workers.submitted[key]
            by_slot[slot].append((replica.start, replica.end))
            ends.append(study.logged[key])
            if at > first[slot]:  # the first of a slot starts its process
                to_start.append(replica.start - at)
                to_log.append(study.logged[key] - replica.end)
                inside = np.minimum(searches[:, 1], study.logged[key]) - np.maximum(searches[:, 0], replica.end)
                searching.append(float(np.maximum(inside, 0.0).sum()))
    overhead = np.add(to_start, to_log)
    handed = [at for at, _ in workers.submitted.values()]
    start, stop = max(slot[0][0] for slot in map(sorted, by_slot.values())), max(handed)
    trained = [stretch for slot in by_slot.values() for stretch in slot]
    busy = sum(max(0.0, min(e, stop) - max(s, start)) for s, e in trained)
    warm = max(ends) - start
    gaps = [b[0] - a[1] for slot in by_slot.values() for a, b in zip(sorted(slot), sorted(slot)[1:], strict=False)]
    counts = np.array([len(by_slot[slot]) for slot in range(len(workers.groups))])
    logged = np.sort(np.array(ends))
    stale = [int(np.sum((logged > study.asked[t]) & (logged <= at))) for (t, _), (at, _) in workers.submitted.items()]
    return {
        "slots": len(workers.groups),
        "trainings": int(counts.sum()),
        "elapsed": max(ends) - min(handed),
        "elapsed_warm": warm,
        "speedup": sum(max(0.0, e - max(s, start)) for s, e in trained) / warm,
        "utilisation": busy / (len(workers.groups) * (stop - start)) if stop > start else None,
        "overhead_median": _quantile(overhead, 0.5),
        "overhead_p95": _quantile(overhead, 0.95),
        "to_start_median": _quantile(to_start, 0.5),
        "to_log_median": _quantile(to_log, 0.5),
        "not_searching_median": _quantile(np.subtract(overhead, searching), 0.5),
        "gap_median": _quantile(gaps, 0.5),
        "gap_mean": float(np.mean(gaps)) if gaps else None,
        "per_slot": [int(counts.min()), int(counts.max())],
        "fairness": float(counts.sum() ** 2 / (counts.size * (counts**2).sum())),  # Jain's index, 1 is even
        "searches": len(searches),
        "search_median": _quantile(searches[:, 1] - searches[:, 0], 0.5),
        "search_share": float((searches[:, 1] - searches[:, 0]).sum() / (max(ends) - min(handed))),
        "stale_mean": float(np.mean(stale)),
        "stale_most": max(stale),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=0.35)
    parser.add_argument("--sigma", type=float, default=0.5)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--surrogate", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, help="training processes without MPI")
    parser.add_argument("--synchronous", action="store_true", help="wait for each batch's last training")
    given = parser.parse_args(arguments)
    launch.serve_if_worker()
    load()
    cpu = time.process_time()
    options = Options(trials=given.trials, workers=given.workers, progress=False, output="file")
    with tempfile.TemporaryDirectory(prefix="hyppo-scaling-") as folder:
        study = StampedStudy(
            problem.SPACE,
            Sleeper(given.seconds, given.sigma),
            log=Path(folder) / "study.h5",
            replicas=given.replicas,
            seed=given.seed,
            surrogate=given.surrogate,
        )
        workers, plan = workers_for(
            Sleeper(given.seconds, given.sigma), True, given.replicas, options, lambda text: None
        )
        stamped = InBatches(workers) if given.synchronous else Stamped(workers)
        with Interrupt() as interrupt:
            Loop(Session(study), stamped, options, Nobody(), interrupt).go()
        cpu = time.process_time() - cpu
        workers.close()
        report = {"plan": plan, **{k: v for k, v in vars(given).items() if k != "out"}, **measured(study, stamped)}
        report["manager_cpu"] = cpu  # s, of the first rank
        study.close()
    given.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
