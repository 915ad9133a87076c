"""What there is to see of a run, and the protocol of what shows it."""

from dataclasses import dataclass
from typing import Protocol

from hyppo.replica import Outcome, Task


@dataclass(frozen=True, slots=True)
class Running:
    """One training under way: since when (seconds of the loop's clock), and what it reported last."""

    task: Task
    since: float
    step: int | None = None
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """What there is to show of a run."""

    trials: int
    trials_settled: int
    trainings: int
    failed: int
    running: tuple[Running, ...]
    elapsed: float


class View(Protocol):
    """What shows how a run goes."""

    def say(self, text: str) -> None:
        """Show one notice."""

    def failed(self, task: Task, outcome: Outcome) -> None:
        """A training has failed."""

    def show(self, status: Status, force: bool = False) -> None:
        """Show where the run is, if it is time to."""
