"""Protocols of the loop: the workers that train, and the view that shows the run."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from hyppo.training.replica import Outcome, Task

# The process died or hung, and not by an exception of the user's function: only these are worth a retry.
PROCESS_FAILURES = frozenset({"Killed", "Exited", "TimedOut", "Stalled"})


@dataclass(frozen=True, slots=True)
class Progressed:
    """A replica that trains has reported."""

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
        """Call `callback` at each report of a training that keeps `wait` from returning."""

    def close(self) -> None:
        """End every training that still runs, and the processes that are of this run alone."""


class Evaluator(Protocol):
    """Evaluates the criterion of a trial's mean prediction, one trial at a time, and never in the loop's way."""

    def submit(self, trial: int, directories: Sequence[str], criterion: bytes) -> Future[float]:
        """Start one evaluation over the replicas in `directories`; the future raises if the loss cannot be known."""

    def poll(self) -> None:
        """See whether the evaluation has ended; does not wait."""

    def close(self) -> None:
        """End an evaluation that still runs."""


class Stopped(Exception):
    """A training that ended early because it was asked to.

    It stays pending, and is trained again, whole; unless the study's rule gave it up.
    """

    def __init__(self, outcome: Outcome | None = None) -> None:
        super().__init__(outcome)  # the arguments that pickle uses to make it again
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Running:
    """One training under way: its start (seconds of the loop's clock), and its last report."""

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
