"""Trials, and the events that make them.

A study's history is a sequence of events; its trials are that sequence folded by `apply`, a pure function. The same
fold runs while a study runs, after a restart, and in every reader of the study file.

    Asked     a point got a number, or an existing trial got further replicas; they are pending from here on
    Settled   replicas ended, with a loss or a failure; `closed` drops the trial's other pending replicas
    Note      something for the reader of the file; changes no trial
    Began     a session began; changes no trial
    Planned   a run began, with this budget; changes no trial
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, NoReturn, Protocol

from hyppo.config import CONFIRMATION, MEAN, MEAN_LOSS, named
from hyppo.curve import EMPTY, Curve
from hyppo.errors import StudyError
from hyppo.stats import LossStats, Score, summary
from hyppo.training.replica import Failure, Goal, Outcome, Task

ENQUEUED = "enqueued"  # origin of a trial that the user asked for


class State(StrEnum):
    """State of a trial or a replica."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"
    PRUNED = "pruned"


@dataclass(frozen=True, slots=True)
class ReplicaRecord:
    """All that is known of one replica. Unknown is None.

    `start` and `end` are unix seconds; `curve` holds the reports as (step, loss), thinned to `hyppo.curve.POINTS`;
    `attempts` counts the tries.
    `losses` are the criterion's, of this replica's predictions; `ensemble_loss` is that of the mean prediction of the
    trial's replicas up to and including this one. `metrics` are further numbers of the training by name; `goal` says
    which metric the loss is.
    """

    index: int
    seed: int
    state: State = State.PENDING
    loss: float | None = None
    start: float | None = None
    end: float | None = None
    failure: Failure | None = None
    curve: Curve = EMPTY
    host: str = ""
    attempts: int = 1
    losses: LossStats | None = None
    ensemble_loss: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    goal: Goal | None = None

    @staticmethod
    def told(index: int, seed: int, loss: float, now: float) -> "ReplicaRecord":
        """Of a replica that was trained elsewhere; one whose loss is not finite has failed."""
        if math.isfinite(loss):
            return ReplicaRecord(index, seed, State.DONE, loss=loss, end=now)
        return ReplicaRecord(index, seed, State.FAILED, end=now, failure=Failure.of_loss(loss))

    @staticmethod
    def of(task: Task, outcome: Outcome) -> "ReplicaRecord":
        """Of a training that ended, its curve thinned; one whose reports cannot be stored has failed."""
        try:
            curve = Curve.of(outcome.curve).thinned()
        except (TypeError, ValueError, OverflowError) as error:
            failure = Failure("ObjectiveError", f"replica.report takes a step (an integer) and a loss: {error}")
            outcome, curve = replace(outcome, loss=None, failure=outcome.failure or failure, losses=None), EMPTY
        ended = State.DONE if outcome.failure is None else State.FAILED
        return ReplicaRecord(
            index=task.index,
            seed=task.seed,
            state=State.PRUNED if outcome.pruned else ended,
            loss=outcome.loss,
            start=outcome.start,
            end=outcome.end,
            failure=outcome.failure,
            curve=curve,
            host=outcome.host,
            attempts=task.attempt,
            losses=outcome.losses,
            metrics=dict(sorted(outcome.metrics.items())),  # in the order in which a file gives them back
            goal=outcome.goal,
        )


class ReadOnlyDict(dict[str, Any]):
    """A dict that refuses changes, for the parameters of a trial: they are the study's own. A copy is a plain dict.

    >>> params = ReadOnlyDict(lr=0.1)
    >>> params | {"lr": 0.2}
    {'lr': 0.2}
    >>> params["lr"] = 0.2
    Traceback (most recent call last):
    TypeError: the parameters of a trial cannot be changed; dict(trial.params) is a copy that can
    """

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("the parameters of a trial cannot be changed; dict(trial.params) is a copy that can")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)


@dataclass(frozen=True)
class Trial:
    """One point of the space and all that is known of it.

    Attributes
    ----------
    number : int
    params : dict
        Native Python values; read-only.
    replicas : tuple of ReplicaRecord
    origin : dict
        The proposer of the point, and the memory of the search from that step.
    settled : int or None
        Position of the first finite loss in the study's order of events.
    ensemble_loss : float or None
        l, the criterion of the mean prediction of the replicas that ended; None without a criterion or predictions.
    confirmations : tuple of ReplicaRecord
        Trainings by `study.confirm`, with indices from CONFIRMATION on; no search and no estimate sees them.
    """

    number: int
    params: Mapping[str, Any]
    replicas: tuple[ReplicaRecord, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)
    settled: int | None = None
    ensemble_loss: float | None = None
    confirmations: tuple[ReplicaRecord, ...] = ()

    @property
    def name(self) -> str | None:
        """The name that `study.enqueue` gave it."""
        name = self.origin.get("name")
        return None if name is None else str(name)

    @property
    def is_enqueued(self) -> bool:
        """Whether the user asked for it with `study.enqueue`."""
        return self.origin.get("by") == ENQUEUED

    @cached_property
    def state(self) -> State:
        states = {r.state for r in self.replicas}
        for state in (State.PENDING, State.DONE, State.PRUNED):
            if state in states:
                return state
        return State.FAILED

    @cached_property
    def stats(self) -> LossStats | None:
        """Count, mean and standard deviation of the finite losses."""
        return LossStats.of(r.loss for r in self.replicas if r.loss is not None)

    @cached_property
    def losses(self) -> LossStats | None:
        """The criterion over all trained networks and dropout passes: its `std` is u."""
        return LossStats.pooled(r.losses for r in self.replicas if r.loss is not None and r.losses is not None)

    @property
    def loss_interval(self) -> tuple[float, float] | None:
        """[l - 2u, l + 2u] around the ensemble's loss; None if either is unknown."""
        if self.ensemble_loss is None or self.losses is None or self.losses.std is None:
            return None
        return self.ensemble_loss - 2.0 * self.losses.std, self.ensemble_loss + 2.0 * self.losses.std

    def observed(self, target: str, score: Score = MEAN) -> LossStats | None:
        """Count, value and spread that a search for `target` sees: of the losses, or of the ensemble's loss."""
        if target == MEAN_LOSS or self.stats is None:
            return summary((r.loss for r in self.replicas if r.loss is not None), score)
        if self.ensemble_loss is None:
            return None
        return LossStats(self.stats.n, self.ensemble_loss, self.losses.std if self.losses else None)

    def score(self, target: str, risk: float, score: Score = MEAN) -> float:
        """The score to minimise, `value + risk * spread` of the observed target; infinity if nothing is known."""
        observed = self.observed(target, score)
        return math.inf if observed is None else observed.score(risk)

    @cached_property
    def metrics(self) -> Mapping[str, float]:
        """Mean of each further number over the replicas with a loss: `seconds`, `memory`, and those logged."""
        values: dict[str, list[float]] = {}
        for record in self.replicas:
            if record.loss is not None:
                for name, value in record.metrics.items():
                    values.setdefault(name, []).append(value)
        return {name: math.fsum(found) / len(found) for name, found in values.items()}

    @property
    def goal(self) -> Goal | None:
        """The metric that the losses are, if a callback monitored one."""
        return next((r.goal for r in self.replicas if r.goal is not None), None)

    @property
    def mean(self) -> float | None:
        return self.stats.mean if self.stats else None

    @property
    def spread(self) -> float | None:
        return self.stats.std if self.stats else None

    @property
    def pending(self) -> tuple[ReplicaRecord, ...]:
        return tuple(r for r in self.replicas if r.state is State.PENDING)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the replicas to train now."""
        return tuple(r.seed for r in self.pending)


def records_of(trial: Trial) -> tuple[ReplicaRecord, ...]:
    """All trainings of a trial: its replicas, then its confirmations."""
    return (*trial.replicas, *trial.confirmations)


@dataclass(frozen=True, slots=True)
class Asked:
    """Replicas became pending: of a new trial if `number` is new, of an existing one otherwise."""

    number: int
    params: Mapping[str, Any]
    replicas: tuple[tuple[int, int], ...]  # (index, seed)
    origin: Mapping[str, Any] = field(default_factory=dict)
    time: float = 0.0


@dataclass(frozen=True, slots=True)
class Settled:
    """Replicas of one trial ended. `closed`: the trial's other pending replicas are no longer awaited."""

    number: int
    records: tuple[ReplicaRecord, ...]
    closed: bool = False
    time: float = 0.0


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the reader of the study file: a session began, a plan, a warning."""

    text: str
    time: float = 0.0


@dataclass(frozen=True, slots=True)
class Began:
    """A session of the study began; `provenance` tells by which program, on which machine (see `hyppo.provenance`)."""

    provenance: Mapping[str, Any]
    time: float = 0.0


@dataclass(frozen=True, slots=True)
class Planned:
    """A run began; `budget` has its limits by name: `trials`, `trainings`, `time_limit` (s), `confirmations`."""

    budget: Mapping[str, Any]
    time: float = 0.0


Event = Asked | Settled | Note | Began | Planned


class Trials(Protocol):
    """The trials that events are folded into, by number: a list, or a draft of one."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int, /) -> Trial: ...
    def __setitem__(self, number: int, trial: Trial, /) -> None: ...
    def append(self, trial: Trial, /) -> None: ...


class Draft:
    """Trials as they will be, over a list that stays as it is until `commit`.

    >>> trials = [Trial(0, {"lr": 0.1})]
    >>> draft = Draft(trials)
    >>> apply(draft, Asked(1, {"lr": 0.2}, ((0, 17),)), 0)
    >>> len(trials), len(draft)
    (1, 2)
    >>> draft.commit()
    >>> trials[1].seeds
    (17,)
    """

    def __init__(self, trials: list[Trial]) -> None:
        self._trials = trials
        self._changed: dict[int, Trial] = {}
        self._length = len(trials)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int, /) -> Trial:
        return self._changed[number] if number in self._changed else self._trials[number]

    def __setitem__(self, number: int, trial: Trial, /) -> None:
        self._changed[number] = trial

    def append(self, trial: Trial, /) -> None:
        self._changed[self._length] = trial
        self._length += 1

    def commit(self) -> None:
        """Bring the list up to date. If an interrupt cuts this short, a second call completes it."""
        for number, trial in sorted(self._changed.items()):
            if number == len(self._trials):
                self._trials.append(trial)
            else:
                self._trials[number] = trial


def apply(trials: Trials, event: Event, position: int) -> None:
    """Fold one event into `trials`, in place; `position` is its place in the study's order of events.

    Raises
    ------
    StudyError
        An event that contradicts earlier ones: a gap in the numbers, a replica settled twice.
    """
    match event:
        case Asked(number, params, replicas, origin):
            pending = tuple(ReplicaRecord(index, seed) for index, seed in replicas)
            if number == len(trials):
                trials.append(Trial(number, ReadOnlyDict(params), pending, ReadOnlyDict(origin)))
            elif number < len(trials):
                trials[number] = _merged(trials[number], pending)
            else:
                raise StudyError(f"trial {number} cannot follow trial {len(trials) - 1}")
        case Settled(number, records, closed):
            if not 0 <= number < len(trials):
                raise StudyError(f"trial {number} was never asked; the study has {len(trials)} trials")
            trial = _merged(trials[number], records)
            if closed:
                trial = replace(trial, replicas=tuple(r for r in trial.replicas if r.state is not State.PENDING))
            searched = [r for r in records if r.index < CONFIRMATION]
            settled = trial.settled
            if settled is None and any(r.loss is not None for r in searched):
                settled = position
            # A replica with predictions changes the mean prediction: its loss is then that of the record, or unknown.
            predicted = [r for r in searched if r.losses is not None and r.loss is not None]
            ensemble = predicted[-1].ensemble_loss if predicted else trial.ensemble_loss
            trials[number] = replace(trial, settled=settled, ensemble_loss=ensemble)
        case Note() | Began() | Planned():
            pass


def _merged(trial: Trial, records: Iterable[ReplicaRecord]) -> Trial:
    """The trial with new or settled replicas and confirmations."""
    known = {r.index: r for r in records_of(trial)}
    for record in records:
        before = known.get(record.index)
        if before is not None and before.state is State.FAILED and record.state is State.PENDING:
            record = replace(record, attempts=before.attempts + 1)  # a failed replica is trained again
        elif before is not None and before.state is not State.PENDING:
            raise StudyError(f"{named(trial.number, record.index)} is settled already")
        known[record.index] = record
    ordered = [known[index] for index in sorted(known)]
    return replace(
        trial,
        replicas=tuple(r for r in ordered if r.index < CONFIRMATION),
        confirmations=tuple(r for r in ordered if r.index >= CONFIRMATION),
    )
