"""Protocols of the loop: the workers that train, and the view that shows the run."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from hyppo.training.replica import Outcome, Task

# Failures of the process, not exceptions of the user's function: only these are retried.
PROCESS_FAILURES = frozenset({"Killed", "Exited", "TimedOut", "Stalled"})


@dataclass(frozen=True, slots=True)
class Progressed:
    """A report of a running replica."""

    trial: int
    index: int
    step: int
    loss: float


class Workers(Protocol):
    """The workers that train. Slots are numbered from 0; one slot trains one replica at a time.

    `groups` holds the trial group of each slot. A future resolves to an `Outcome`. It raises `Stopped` if the training
    was cut short and must be repeated, or the error that makes training impossible.
    """

    groups: Sequence[int]

    def submit(self, task: Task, slot: int) -> Future[Outcome]:
        """Start one training on a free slot; does not wait."""

    def wait(self, timeout: float) -> None:
        """Return when a training ended or reported, or after `timeout` seconds."""

    def reports(self) -> list[Progressed]:
        """Reports since the last call."""

    def request_stop(self, task: Task | None = None) -> None:
        """Ask one training to end soon, if it runs; without `task`, all trainings."""

    def on_report(self, callback: Callable[[], None]) -> None:
        """Call `callback` when a training that runs in this thread reports or reads `should_stop`.

        `wait` cannot return meanwhile.
        """

    def close(self) -> None:
        """End every running training, and the processes that were started for this run alone."""


class Evaluator(Protocol):
    """Evaluates the criterion of a trial's mean prediction, one trial at a time, without blocking the loop."""

    def submit(self, trial: int, directories: Sequence[str], criterion: bytes) -> Future[float]:
        """Start one evaluation over the replicas in `directories`; the future raises if the criterion fails."""

    def poll(self) -> None:
        """See whether the evaluation has ended; does not wait."""

    def close(self) -> None:
        """End an evaluation that still runs."""


class Stopped(Exception):
    """The training ended early because it was asked to stop.

    It stays pending and is repeated from its start, unless the stopping rule pruned its trial.
    """

    def __init__(self, outcome: Outcome | None = None) -> None:
        super().__init__(outcome)  # pickle calls the class with these arguments
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Running:
    """One running training: its start (seconds of the loop's clock) and its last report."""

    task: Task
    since: float
    step: int | None = None
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """State of a run, for the view."""

    trials: int
    trials_settled: int
    trainings: int
    failed: int
    running: tuple[Running, ...]
    elapsed: float


class View(Protocol):
    """The view that shows the progress of a run."""

    def say(self, text: str) -> None:
        """Show one notice."""

    def failed(self, task: Task, outcome: Outcome) -> None:
        """A training has failed."""

    def show(self, status: Status, force: bool = False) -> None:
        """Show the state of the run, if it is time to."""
