"""Trials that no other trial beats in two numbers at once, such as loss and size."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hyppo.analysis.confirmation import interval_of
from hyppo.errors import StudyError
from hyppo.results import LOSS, estimate_of, goal_of
from hyppo.stats import LossStats
from hyppo.text import between, number
from hyppo.training.replica import Goal
from hyppo.trial import Trial

if TYPE_CHECKING:
    from hyppo.study import Study

LOSS_COLUMN = "loss"
METRICS = "metrics."
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class FrontTrial:
    """A trial of a front.

    Attributes
    ----------
    number : int
    params : dict
    values : (float, float)
        Of the two columns: the estimated loss of a fresh training, or the mean of a metric over the replicas.
    intervals : ((float, float), (float, float))
        90 % intervals of `values`. The interval of a metric is infinite for one replica.
    """

    number: int
    params: dict[str, Any]
    values: tuple[float, float]
    intervals: tuple[Interval, Interval]


@dataclass(frozen=True)
class Front(Sequence[FrontTrial]):
    """The trials that no other trial beats in both of two columns, in the order of the second column.

    Attributes
    ----------
    columns : (str, str)
    trials : tuple of FrontTrial
        This is what iteration gives.
    smallest : FrontTrial or None
        The trial with the lowest second column among those whose estimated loss is not above the interval of the
        recommended trial's: the smallest network within the interval of the best. None if neither column is the loss.
    goal : Goal
        The number that is estimated, by name, as in `Best`; `print(front)` shows it in its own sign.
    """

    columns: tuple[str, str]
    trials: tuple[FrontTrial, ...]
    smallest: FrontTrial | None
    goal: Goal = LOSS

    def __getitem__(self, at: Any) -> Any:
        return self.trials[at]

    def __len__(self) -> int:
        return len(self.trials)

    def __iter__(self) -> Iterator[FrontTrial]:
        return iter(self.trials)

    def __str__(self) -> str:
        lines = []
        for trial in self.trials:
            parts = [self._said(*three) for three in zip(self.columns, trial.values, trial.intervals, strict=True)]
            lines.append(f"trial {trial.number}: {', '.join(parts)}  {trial.params}")
        if self.smallest is not None:
            other = self.columns[self.columns[0] == LOSS_COLUMN]
            lines.append(f"lowest {other} within the interval of the best: trial {self.smallest.number}")
        return "\n".join(lines)

    def _said(self, column: str, value: float, interval: Interval) -> str:
        name = column
        if column == LOSS_COLUMN:
            name, value, interval = self.goal.metric, self.goal.shown(value), self.goal.interval(*interval)
        low, high = interval
        around = f" ({between(low, high)})" if math.isfinite(high - low) and high > low else ""
        return f"{name} {number(value, 4, high - low)}{around}"


def front(study: "Study", first: str, second: str) -> Front:
    """The front of two columns; see `Study.front`."""
    best = study.best  # an error if no trial has a loss
    estimated = study._estimates()
    names = {METRICS + name: None for trial, _, _ in estimated for name in trial.metrics}
    known = [LOSS_COLUMN, *names]
    for column in (first, second):
        if not isinstance(column, str) or column not in known:
            raise StudyError(f"expected two of the columns {known}, got {column!r}")
    if first == second:
        raise StudyError(f"expected two different columns of {known}, got {first!r} twice")
    rows: list[FrontTrial] = []
    for trial, loss, interval in estimated:
        both = [_value(trial, column, loss, interval) for column in (first, second)]
        pairs = [pair for pair in both if pair is not None]
        if len(pairs) == 2:
            (a, around_a), (b, around_b) = pairs
            rows.append(FrontTrial(trial.number, dict(trial.params), (a, b), (around_a, around_b)))
    columns = first, second
    smallest = _smallest(columns, rows, best.interval[1])
    return Front(columns, _unbeaten(rows), smallest, estimate_of(goal_of(study), study.config))


def _value(trial: Trial, column: str, loss: float, interval: Interval) -> tuple[float, Interval] | None:
    """The value of a trial in a column, and its interval; None if the trial lacks the metric."""
    if column == LOSS_COLUMN:
        return loss, interval
    name = column.removeprefix(METRICS)
    values = [r.metrics[name] for r in trial.replicas if r.loss is not None and name in r.metrics]
    if not values:
        return None
    return trial.metrics[name], interval_of(LossStats.of(values))


def _unbeaten(rows: Sequence[FrontTrial]) -> tuple[FrontTrial, ...]:
    """Rows for which no other is at least as low in both values and lower in one, by the second value."""
    kept: list[FrontTrial] = []
    for row in sorted(rows, key=lambda row: (row.values[1], row.values[0])):
        if not kept or row.values[0] < kept[-1].values[0] or row.values == kept[-1].values:
            kept.append(row)
    return tuple(kept)


def _smallest(columns: tuple[str, str], rows: Sequence[FrontTrial], most: float) -> FrontTrial | None:
    """The row with the lowest other column among those with a loss of at most `most`."""
    if LOSS_COLUMN not in columns:
        return None
    at = columns.index(LOSS_COLUMN)
    within = [row for row in rows if row.values[at] <= most]
    return min(within, key=lambda row: (row.values[1 - at], row.values[at]), default=None)
