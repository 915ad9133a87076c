"""The milliseconds of one replica between the ranks of an MPI job: time stamps on its way there and back.

python -m benchmarks.scaling hops --ranks 3

Points are random ones, so that no search is in the way. The stamps are taken around the launcher's own calls, in
the first rank and in those that train; start and end of the user's function are those of the study file.
"""

import argparse
import functools
import itertools
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scaling import problem
from benchmarks.scaling.sleepers import Sleeper, StampedStudy
from hyppo.launch.mpi.messages import Ended
from hyppo.launch.mpi.rank import Rank
from hyppo.launch.mpi.workers import MpiWorkers
from hyppo.launch.process import TrainingProcess
from hyppo.training.replica import Task

WAY = ("submit", "sent", "on its rank", "start", "end", "back on its rank", "back on the first rank", "logged")


class Stamps:
    """Appends a line for each stamp to a file of this process."""

    def __init__(self, folder: Path) -> None:
        self._file = open(folder / f"stamps-{os.getpid()}", "a", encoding="ascii", buffering=1)  # noqa: SIM115

    def __call__(self, event: str, task: Task | None) -> None:
        if task is not None:
            self._file.write(f"{time.time():.6f} {task.trial} {event}\n")

    def around(self, owner: type, name: str, call: Callable[..., Any]) -> None:
        """Have `call(original, self, ...)` stand for a method."""
        original = getattr(owner, name)
        setattr(owner, name, functools.wraps(original)(lambda *arguments: call(original, *arguments)))

    def install(self) -> None:
        def submit(original: Any, workers: MpiWorkers, task: Task, slot: int) -> Any:
            self("submit", task)
            future = original(workers, task, slot)
            self("sent", task)
            return future

        def begin(original: Any, rank: Rank, asker: int, message: Any) -> None:
            self("on its rank", message.task)
            original(rank, asker, message)

        def poll(original: Any, process: TrainingProcess) -> Any:
            task = process.task
            ending = original(process)
            self("back on its rank", None if ending is None else task)
            return ending

        def hear(original: Any, workers: MpiWorkers, sender: int, message: Any) -> Any:
            if isinstance(message, Ended) and message.serial in workers._submitted:
                self("back on the first rank", workers._submitted[message.serial].task)
            return original(workers, sender, message)

        self.around(MpiWorkers, "submit", submit)
        self.around(Rank, "_begin", begin)
        self.around(TrainingProcess, "poll", poll)
        self.around(MpiWorkers, "_take", hear)


def hops(folder: Path, study: StampedStudy) -> dict[str, list[float]]:
    """Median, mean and 90th percentile of each stretch of the way, and of the whole without the training; ms."""
    stamps: dict[int, dict[str, float]] = defaultdict(dict)
    for path in folder.glob("stamps-*"):
        for line in path.read_text().splitlines():
            at, number, event = line.split(" ", 2)
            stamps[int(number)][event] = float(at)
    for trial in study.trials:
        [replica] = trial.replicas
        if replica.start is not None and replica.end is not None:
            its = {"start": replica.start, "end": replica.end, "logged": study.logged[trial.number, 0]}
            stamps[trial.number].update(its)
    cold = _cold(folder)
    ways = [its for number, its in stamps.items() if number not in cold and set(its) == set(WAY)]
    found = {f"{a} -> {b}": [way[b] - way[a] for way in ways] for a, b in itertools.pairwise(WAY)}
    del found["start -> end"]
    found["overhead"] = [sum(parts) for parts in zip(*found.values(), strict=True)]
    return {
        name: [1e3 * float(x) for x in (np.median(all_), np.mean(all_), np.quantile(all_, 0.9))]
        for name, all_ in found.items()
    }


def _cold(folder: Path) -> set[int]:
    """The first trial of each rank: it started the training process."""
    lines = [path.read_text().splitlines() for path in folder.glob("stamps-*")]
    begun = [[int(line.split(" ")[1]) for line in its if line.endswith(" on its rank")] for its in lines]
    return {trials[0] for trials in begun if trials}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="file to write; stamps go beside it")
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--trials", type=int, default=40)
    given = parser.parse_args(arguments)
    Stamps(given.out.parent).install()
    with tempfile.TemporaryDirectory(prefix="hyppo-scaling-") as folder:
        study = StampedStudy(
            problem.SPACE, Sleeper(given.seconds, 0.0), log=Path(folder) / "study.h5", replicas=1, surrogate="random"
        )
        study.run(trials=given.trials, progress=False)
        given.out.write_text(json.dumps(hops(given.out.parent, study), indent=1) + "\n")
        study.close()


if __name__ == "__main__":
    main()
