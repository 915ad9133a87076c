"""The study: ask for points, tell losses, know the best.

A study is its configuration, its root seed and its history, the one thing that changes; trials, pending points, the
incumbent and counts are derived from these.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from hyppo.config import ENSEMBLE_LOSS, MEAN_LOSS, SURROGATES, TARGETS, one_of, replicas_of, risk_of, seed_of
from hyppo.errors import LogError, StudyError
from hyppo.log import Header, read_log
from hyppo.log.history import History
from hyppo.results import Best, frame_of
from hyppo.search.columns import Columns
from hyppo.search.policy import Policy
from hyppo.seeds import seed_for
from hyppo.space import Space
from hyppo.stopping import Rule, rule_of
from hyppo.training.criterion import Criterion, has_default, pack
from hyppo.training.replica import RESUME, Failure, Outcome, Replica, Task
from hyppo.trial import Asked, Event, Note, ReplicaRecord, Settled, State, Trial

if TYPE_CHECKING:
    import pandas as pd

    from hyppo.search.surface import Surface
    from hyppo.training.predictions import Predictions

Objective = Callable[[Replica], Any]
P = ParamSpec("P")
R = TypeVar("R")


def _locked(method: "Callable[Concatenate[Study, P], R]") -> "Callable[Concatenate[Study, P], R]":
    """Let one thread at a time into the study: an ask sees all that was asked and told before it."""

    @wraps(method)
    def call(self: "Study", /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._lock:
            return method(self, *args, **kwargs)

    return call


class Study:
    """A search over a space, with replicas.

    Parameters
    ----------
    space : Space
    objective : callable, optional
        Called once per replica with a `Replica`; returns the loss, a `Result`, or nothing where a callback hands the
        result over. Not needed to drive the search with `ask` and `tell`.
    log : path, optional
        Study file (HDF5). An existing one goes on; it is opened at the first `ask` or `run`. Without it the study
        lives in memory. Relative paths and symbolic links are resolved here, once: a script may change its directory.
    replicas : int or (int, int), optional
        Trainings of every point, or the fewest and the most (adaptive: contenders earn more). Default 3, and then
        `tell` asks for no more than what it is told.
    seed : int
        Root seed: with it and the losses, every ask is determined.
    risk : float
        The score is `mean + risk * spread`.
    surrogate : {"auto", "gp", "rbf", "random"}
        What proposes points.
    target : {"mean_loss", "ensemble_loss"}
        What is optimised: the mean of the replicas' losses, or the loss of their mean prediction.
    criterion : callable, optional
        criterion(prediction, targets) -> number, of numpy arrays over all validation examples: the loss of the mean
        prediction. With it that loss is logged for either target. `target="ensemble_loss"` needs it; Keras has a
        default, the compiled loss.
    stopping : {"median", "halving"} or a rule of `hyppo.stopping`, optional
        Give trials up that are worse than the others at the same step of training: `replica.should_stop` turns true,
        and their further replicas are dropped. By default every training ends by itself.
    isolate : bool
        Train in a process of its own (default), which a crash or a hang cannot take down with it.

    Raises
    ------
    StudyError
        An argument that cannot be used.

    Examples
    --------
    >>> from hyppo.space import Integer, Real
    >>> study = Study(Space(x=Real(-1, 1), n=Integer(1, 4)), seed=1)
    >>> for _ in range(12):
    ...     trial = study.ask()
    ...     study.tell(trial.number, [trial.params["x"] ** 2 + trial.params["n"]])
    >>> study.best.params["n"], len(study.trials)
    (1, 12)
    """

    def __init__(
        self,
        space: Space,
        objective: Objective | None = None,
        *,
        log: str | Path | None = None,
        replicas: int | tuple[int, int] | None = None,
        seed: int = 0,
        risk: float = 0.0,
        surrogate: str = "auto",
        target: str = MEAN_LOSS,
        criterion: Criterion | None = None,
        stopping: str | Rule | None = None,
        isolate: bool = True,
    ) -> None:
        if not isinstance(space, Space):
            raise StudyError(f"space: expected a hyppo.Space, got {space!r}")
        if objective is not None and not callable(objective):
            raise StudyError(f"objective: expected a function of one replica, got {objective!r}")
        self.seed = seed_of(seed)
        self.risk = risk_of(risk)
        self.surrogate = one_of(SURROGATES, "surrogate", surrogate)
        self.target = one_of(TARGETS, "target", target)
        if criterion is not None and not callable(criterion):
            raise StudyError(f"criterion: expected a function of prediction and targets, got {criterion!r}")
        if target == ENSEMBLE_LOSS and criterion is None and objective is not None and not has_default():
            raise StudyError(
                'target="ensemble_loss" needs criterion=f, the loss f(mean prediction, targets) as a number; only '
                "Keras has a default, the compiled loss (then import hyppo_keras before the Study)"
            )
        self.space = space
        self.objective = objective
        self.log = _resolved(log) if log is not None else None
        self.replicas = replicas_of(replicas)
        self.required = 1 if replicas is None else self.replicas[0]
        self.criterion = criterion
        self.stopping = rule_of(stopping)
        self.isolate = isolate
        self._attended = False
        self._lock = threading.RLock()
        self._in_training: set[tuple[int, int]] = set()  # trial and replica, from `tasks` to `settle`
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._packed: bytes | None = None
        config = {
            "replicas": list(self.replicas),
            "required": self.required,
            "risk": self.risk,
            "surrogate": surrogate,
            "target": target,
        }
        self._history = History(self.log, partial(Header.new, space, self.seed, config))
        self._columns = Columns(space, target)
        self._policy = Policy(
            space,
            self.seed,
            surrogate=surrogate,
            risk=self.risk,
            target=target,
            replicas=self.replicas,
            required=self.required,
        )

    def __repr__(self) -> str:
        return f"Study({self.space!r}, log={str(self.log) if self.log else None!r}, trials={len(self._history.trials)})"

    # -- history --------------------------------------------------------------------------------------------------

    @property
    @_locked
    def trials(self) -> tuple[Trial, ...]:
        """All trials, in the order in which they were asked."""
        self._load()
        return tuple(self._history.trials)

    def _attend(self) -> None:
        """Serve trainings from here on, where this process does only that: one history has one writer.

        A training process runs the user's script, and so does every MPI rank; both may touch the study before `run`.
        """
        if self.objective is not None and not self._attended:
            from hyppo.launch import attend

            attend()
            self._attended = True

    def _load(self) -> None:
        """Know what the log holds, without locking it."""
        self._attend()
        if self._history.read():
            self._columns = Columns(self.space, self.target)

    def _open(self) -> None:
        """Know what the log holds, and be its writer."""
        self._attend()
        if self._history.open():
            self._columns = Columns(self.space, self.target)

    def _record(self, *events: Event) -> None:
        self._open()
        self._history.record(*events)

    def _known(self) -> Columns:
        """The trials as arrays."""
        self._columns.update(self._history.trials)
        return self._columns

    @_locked
    def note(self, text: str) -> None:
        """Leave a line for the reader of the study file."""
        self._record(Note(text, time.time()))

    @_locked
    def close(self) -> None:
        """Close the log; a later `ask` or `run` opens it again."""
        self._in_training.clear()
        self._history.close()

    @_locked
    def merge(self) -> None:
        """Carry over to the study file what a killed run has left in its journal."""
        self._history.merge()

    def __enter__(self) -> "Study":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- ask ------------------------------------------------------------------------------------------------------

    def ask(self) -> Trial:
        """The next trial: its `number`, its `params`, and the `seeds` of the replicas to train now.

        A number that was asked before comes back where a known point is worth further replicas: always once a small
        space is exhausted, and under adaptive replicas.

        Raises
        ------
        SpaceExhausted
            Every point was tried and is still pending.
        LogError
            The log cannot be opened or written.
        """
        return self.ask_batch(1)[0]

    @_locked
    def ask_batch(self, count: int) -> tuple[Trial, ...]:
        """Up to `count` trials from one look at the losses, at little more than the cost of one.

        The first is the one that `ask` would give; each knows those before it as pending. Fewer come where the space
        has no more new points: one at a time that is worth further replicas, then.

        Raises
        ------
        StudyError
            `count` is not an integer of at least 1.
        SpaceExhausted, LogError
            As for `ask`.

        Examples
        --------
        >>> from hyppo.space import Real
        >>> [trial.number for trial in Study(Space(x=Real(0, 1))).ask_batch(3)]
        [0, 1, 2]
        """
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
            raise StudyError(f"count: expected an integer of at least 1, got {count!r}")
        self._open()
        chosen = self._policy.next(self._known(), int(count))
        if isinstance(chosen, Trial):
            return (self._replicate(chosen),)
        first, now = len(self._history.trials), time.time()
        self._record(
            *(
                Asked(
                    number,
                    self.space.decode(point.unit),
                    tuple((index, seed_for(self.seed, number, index)) for index in range(self.replicas[0])),
                    point.step.to_json(),
                    now,
                )
                for number, point in enumerate(chosen, start=first)
            )
        )
        return tuple(self._history.trials[first:])

    @property
    @_locked
    def exhausted(self) -> bool:
        """Whether every point of a finite space was tried."""
        size = self.space.size
        return size is not None and len(self._known().taken) >= size

    def score(self, trial: Trial) -> float:
        """What is minimised, `value + risk * spread` of the target as observed; infinity where nothing is known."""
        return trial.score(self.target, self.risk)

    def _replicate(self, trial: Trial) -> Trial:
        """Ask for one further replica of a known point."""
        index = 1 + max(r.index for r in trial.replicas)
        seed = seed_for(self.seed, trial.number, index)
        self._record(Asked(trial.number, trial.params, ((index, seed),), {"by": "replicate"}, time.time()))
        return self._history.trials[trial.number]

    # -- tell -----------------------------------------------------------------------------------------------------

    @_locked
    def tell(self, number: int, losses: Iterable[float] | float) -> None:
        """Settle a trial with the losses of its replicas, in the order of its seeds.

        Any number of losses will do: replicas asked and not told are not awaited any more, losses beyond those asked
        are further replicas, and a later tell of the same number adds. A loss that is not finite is a failed replica.

        Raises
        ------
        StudyError
            A number that was never asked, no loss at all, or one that is not a number; a trial that `study.run` is
            training; the target is the loss of predictions, of which a told loss has none.
        """
        self._refuse_bare_losses()
        self._open()
        trial = self._trial(number)
        self._refuse_in_training(trial)
        values = _losses(losses)
        now = time.time()
        indices = [r.index for r in trial.pending]
        following = 1 + max((r.index for r in trial.replicas), default=-1)
        indices += range(following, following + len(values))
        records = tuple(
            ReplicaRecord.told(index, seed_for(self.seed, number, index), loss, now)
            for index, loss in zip(indices, values, strict=False)
        )
        self._record(Settled(number, records, closed=True, time=now))

    @_locked
    def fail(self, number: int, why: str = "") -> None:
        """Settle what is pending of a trial as failed: it costs budget and never becomes a loss.

        Raises
        ------
        StudyError
            A number that was never asked, a trial with nothing pending, or one that `study.run` is training.
        """
        self._open()
        trial = self._trial(number)
        self._refuse_in_training(trial)
        if not trial.pending:
            raise StudyError(f"trial {number} has nothing pending that could fail; it is {trial.state}")
        failure = Failure("Failed", str(why))
        now = time.time()
        records = tuple(ReplicaRecord(r.index, r.seed, State.FAILED, end=now, failure=failure) for r in trial.pending)
        self._record(Settled(number, records, closed=True, time=now))

    @_locked
    def add(self, params: Mapping[str, Any], losses: Iterable[float] | float) -> Trial:
        """Take in a result known from elsewhere, as a trial of its own.

        Raises
        ------
        SpaceError
            Parameters that are not a point of the space.
        StudyError
            As for `tell`.
        """
        self._refuse_bare_losses()
        self._open()
        native = self.space.native(params)
        values = _losses(losses)
        number, now = len(self._history.trials), time.time()
        seeds = [seed_for(self.seed, number, index) for index in range(len(values))]
        records = tuple(
            ReplicaRecord.told(i, seed, loss, now) for i, (seed, loss) in enumerate(zip(seeds, values, strict=True))
        )
        self._record(
            Asked(number, native, tuple(enumerate(seeds)), {"by": "added"}, now),
            Settled(number, records, closed=True, time=now),
        )
        return self._history.trials[number]

    def _refuse_bare_losses(self) -> None:
        if self.target == ENSEMBLE_LOSS:
            raise StudyError(
                'target="ensemble_loss" is the loss of predictions, which a loss from elsewhere does not have: '
                "train with study.run, or tell losses to a study of the mean_loss"
            )

    def _refuse_in_training(self, trial: Trial) -> None:
        busy = [r.index for r in trial.pending if (trial.number, r.index) in self._in_training]
        if busy:
            raise StudyError(
                f"study.run is training trial {trial.number} (replicas {busy}) and settles it when the training ends: "
                "return the loss from the training function, or raise an exception there for a failure"
            )

    def _trial(self, number: int) -> Trial:
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise StudyError(f"number: expected a trial's number, got {number!r}")
        if not 0 <= number < len(self._history.trials):
            raise StudyError(f"trial {number} was never asked; the study has {len(self._history.trials)} trials")
        return self._history.trials[int(number)]

    # -- run ------------------------------------------------------------------------------------------------------

    def run(
        self,
        trials: int | None = None,
        *,
        trainings: int | None = None,
        time_limit: float | None = None,
        **options: Any,
    ) -> None:
        """Train until a budget is spent; see `hyppo.run.run` for all options.

        Parameters
        ----------
        trials, trainings : int, optional
            Trials, or replicas, in all: those in the log count, retries do not.
        time_limit : float, optional
            Seconds of this call after which nothing new is asked; what runs is finished.
        """
        from hyppo.run import run

        run(self, trials=trials, trainings=trainings, time_limit=time_limit, **options)

    @_locked
    def tasks(self, trial: Trial) -> list[Task]:
        """What a worker needs for each pending replica of a trial."""
        self._in_training.update((trial.number, r.index) for r in trial.pending)
        return [
            Task(
                trial.number,
                r.index,
                r.seed,
                dict(trial.params),
                str(self.directory(trial.number, r.index)),
                r.attempts,
                self.target,
                self.packed_criterion,
            )
            for r in trial.pending
        ]

    @property
    def packed_criterion(self) -> bytes | None:
        """The criterion as it travels to other processes: the study's, or the one that a training has found."""
        if self._packed is None and self.criterion is not None:
            self._packed = pack(self.criterion)
        return self._packed

    @_locked
    def settle(
        self,
        outcomes: Sequence[tuple[Task, Outcome]],
        ensemble_losses: Mapping[int, float | None] = MappingProxyType({}),
    ) -> None:
        """Record how trainings ended, all in one append to the log.

        Parameters
        ----------
        outcomes : sequence of (Task, Outcome)
        ensemble_losses : mapping, optional
            By trial, the criterion of the mean prediction of its replicas, these included; None if it is unknown.
        """
        now = time.time()
        records = [(task.trial, ReplicaRecord.of(task, outcome)) for task, outcome in outcomes]
        for _, outcome in outcomes:
            if self.packed_criterion is None:
                self._packed = outcome.criterion
        last = {number: at for at, (number, r) in enumerate(records) if r.loss is not None and r.losses is not None}
        for number, at in last.items():
            records[at] = (number, replace(records[at][1], ensemble_loss=ensemble_losses.get(number)))
        self._record(
            *(
                Settled(number, (record,), closed=record.state is State.PRUNED, time=now)  # a whole trial is given up
                for number, record in records
            )
        )
        self._in_training.difference_update((task.trial, task.index) for task, _ in outcomes)
        for task, outcome in outcomes:  # what has ended does not go on, nor do the dropped replicas of a trial given up
            folder = Path(task.directory)
            for path in folder.parent.glob(f"*/{RESUME}") if outcome.pruned else folder.glob(RESUME):
                path.unlink(missing_ok=True)

    def directory(self, number: int, index: int) -> Path:
        """Folder of one replica, beside the study file; of a study without one, until the process ends."""
        if self.log is not None:
            root = self.log.with_name(self.log.name + ".d")
        else:
            if self._scratch is None:
                self._scratch = tempfile.TemporaryDirectory(prefix="hyppo-")
            root = Path(self._scratch.name)
        return root.absolute() / f"trial-{number:05d}" / f"replica-{index:02d}"

    # -- what came out --------------------------------------------------------------------------------------------

    @property
    @_locked
    def best(self) -> Best:
        """The configuration recommended now, by posterior score among those with enough replicas.

        Raises
        ------
        StudyError
            No replica has a finite loss yet.
        """
        self._load()
        found = self._policy.recommendation(self._known())
        if found is None:
            trials = self._history.trials
            failed = sum(t.state is State.FAILED for t in trials)
            raise StudyError(f"no trial has a finite loss yet ({len(trials)} trials, {failed} failed)")
        trial, recommendation = found
        stats = trial.stats
        assert stats is not None
        return Best(
            trial.number,
            dict(trial.params),
            stats.mean,
            stats.std,
            stats.n,
            recommendation.interval,
            recommendation.reason,
            trial.ensemble_loss,
            trial.loss_interval,
            self.checkpoints(trial.number),
        )

    @_locked
    def surface(self) -> "Surface":
        """The fitted surrogate over the space, for `hyppo.sensitivity` and pictures.

        Raises
        ------
        StudyError
            Fewer than four different points with a loss, or constant losses.
        """
        self._load()
        fitted = self._policy.surface(self._known())
        if fitted is None:
            raise StudyError("no surrogate yet: it takes four points with losses that differ")
        return fitted

    @_locked
    def predictions(self, number: int) -> "Predictions":
        """Mean and standard deviation of a trial's predictions over its replicas and dropout passes.

        Raises
        ------
        StudyError
            A number that was never asked, or a trial whose replicas left no predictions.
        """
        self._load()
        from hyppo.training.predictions import combine

        trial = self._trial(number)
        return combine([self.directory(number, r.index) for r in trial.replicas if r.loss is not None])

    @_locked
    def checkpoints(self, number: int) -> tuple[Path, ...]:
        """The trained networks that a trial's replicas have left, in the order of the replicas.

        Raises
        ------
        StudyError
            A number that was never asked.
        """
        self._load()
        from hyppo.training.predictions import weights_in

        folders = [self.directory(number, r.index) for r in self._trial(number).replicas if r.loss is not None]
        return tuple(path for path in map(weights_in, folders) if path is not None)

    def to_frame(self) -> "pd.DataFrame":
        """One row a trial: number, state, mean, spread, replicas, ensemble_loss, u, start, end, then its parameters.

        `u` is the standard deviation of the criterion over replicas and passes; `start` and `end` are unix seconds.

        Raises
        ------
        StudyError
            pandas is not installed.
        """
        return frame_of(self.trials)


def load(path: str | Path) -> Study:
    """The study in a file, for reading: nothing is locked or written, also while it runs.

    Raises
    ------
    LogError
        The file is missing, torn, or not a study.
    """
    return study_of(path, *read_log(path))


def study_of(path: str | Path, header: Header, events: Sequence[Event]) -> Study:
    """The study that `read_log` read from `path`.

    Raises
    ------
    LogError
        Header and events make no study.
    """
    try:
        low, high = header.config["replicas"]
        study = Study(
            Space.from_json(header.space),
            log=path,
            replicas=(low, high) if header.config["required"] == low else None,
            seed=header.seed,
            risk=header.config["risk"],
            surrogate=header.config["surrogate"],
            target=header.config.get("target", MEAN_LOSS),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LogError(f"{path} is damaged: its configuration makes no study ({error!r})") from error
    study._history.replay(events)
    return study


def _resolved(log: str | Path) -> Path:
    """The study file that a path leads to now."""
    try:
        path = Path(os.path.realpath(os.fspath(log)))
    except (TypeError, ValueError) as error:
        raise StudyError(f"log: expected the path of a study file, got {log!r} ({error})") from None
    if path.is_dir():
        raise StudyError(f"log: {path} is a folder; name a file in it, such as {path / 'study.h5'}")
    return path


def _losses(losses: Iterable[float] | float) -> list[float]:
    values = list(losses) if isinstance(losses, Iterable) and not isinstance(losses, str) else [losses]
    if not values:
        raise StudyError("losses: expected at least one, got none; study.fail(number, why) settles a failed trial")
    for value in values:
        if isinstance(value, bool | str) or value is None:
            raise StudyError(f"losses: expected numbers, got {value!r}")
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError) as error:
        raise StudyError(f"losses: expected numbers, got {losses!r} ({error})") from None
