"""The study: ask for points, tell losses, know the best. The one mutable object of the core.

A study is its configuration, its root seed and its history; trials, pending points, the incumbent and counts are
derived from these. What is asked next is a function of them alone, so a study that goes on from its log asks what the
uninterrupted one would have asked.
"""

import atexit
import math
import os
import sys
import tempfile
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyppo.columns import Columns
from hyppo.criterion import ENSEMBLE_LOSS, MEAN_LOSS, TARGETS, Criterion, loss_of, pack, unpack
from hyppo.design import design_size, sobol
from hyppo.errors import StudyError
from hyppo.log import Header, MemoryLog, StudyLog, open_log, read_log
from hyppo.replica import RESUME, Failure, Outcome, Replica, Task
from hyppo.seeds import generator_for, seed_for
from hyppo.space import FloatArray, Space
from hyppo.stopping import Rule, rule_of, with_censored
from hyppo.trial import Asked, Event, Note, ReplicaRecord, Settled, State, Trial, apply

if TYPE_CHECKING:
    import pandas as pd

    from hyppo.predictions import Predictions
    from hyppo.search import Recommendation, Surface

Objective = Callable[[Replica], Any]

SEARCH_PURPOSE = 2  # keeps the search's random streams apart from those of the designs
DEFAULT_REPLICAS = 3  # trainings of a point where the user does not say: the fewest that tell a spread from an outlier
SURROGATES = ("auto", "gp", "rbf", "random")


class SpaceExhausted(StudyError):
    """Every point of the space was tried, and all of them are still pending: nothing is left to ask."""


@dataclass(frozen=True, slots=True)
class Best:
    """The recommended configuration.

    Attributes
    ----------
    number : int
        Number of the trial.
    params : dict
    mean : float
        Mean loss over its replicas.
    spread : float or None
        Sample standard deviation over its replicas; None for one replica.
    replicas : int
        Replicas with a loss.
    interval : (float, float)
        90 % interval for the mean loss of training this configuration afresh (of the ensemble's loss, where that is
        the target).
    reason : str
        Why this trial, and why not the one with the lowest mean, where they differ.
    ensemble_loss : float or None
        l, the loss of the replicas' mean prediction; None without a criterion or predictions.
    loss_interval : (float, float) or None
        [l - 2u, l + 2u], u the standard deviation of the losses of single networks and dropout passes.
    checkpoints : tuple of pathlib.Path
        Trained networks of its replicas, where the trainings kept them; `load_ensemble` of the integrations loads them.
    """

    number: int
    params: dict[str, Any]
    mean: float
    spread: float | None
    replicas: int
    interval: tuple[float, float]
    reason: str
    ensemble_loss: float | None = None
    loss_interval: tuple[float, float] | None = None
    checkpoints: tuple[Path, ...] = ()

    def __str__(self) -> str:
        spread = "spread unknown" if self.spread is None else f"{self.spread:.3g} from one training to the next"
        return f"trial {self.number}: {self.params}\nloss {self.mean:.5g}, {spread} ({self.replicas} trained)"


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
        lives in memory.
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
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise StudyError(f"seed: expected an integer of at least 0, got {seed!r}")
        if not isinstance(risk, int | float) or not 0.0 <= risk < math.inf:
            raise StudyError(f"risk: expected a number of at least 0, got {risk!r}")
        if surrogate not in SURROGATES:
            raise StudyError(f"surrogate: expected one of {list(SURROGATES)}, got {surrogate!r}")
        if target not in TARGETS:
            raise StudyError(f"target: expected one of {list(TARGETS)}, got {target!r}")
        if criterion is not None and not callable(criterion):
            raise StudyError(f"criterion: expected a function of prediction and targets, got {criterion!r}")
        if target == ENSEMBLE_LOSS and criterion is None and objective is not None and "hyppo_keras" not in sys.modules:
            raise StudyError(
                'target="ensemble_loss" needs criterion=f, the loss f(mean prediction, targets) as a number; only '
                "Keras has a default, the compiled loss (then import hyppo_keras before the Study)"
            )
        self.space = space
        self.objective = objective
        self.log = Path(log) if log is not None else None
        self.replicas = _replica_range(replicas)
        self.required = 1 if replicas is None else self.replicas[0]
        self.seed = int(seed)
        self.risk = float(risk)
        self.surrogate = surrogate
        self.target = target
        self.criterion = criterion
        self.stopping = rule_of(stopping)
        self.isolate = isolate
        self._trials: list[Trial] = []
        self._position = 0
        self._writer: StudyLog | None = None
        self._read = False
        self._attended = False
        self._closing: weakref.finalize[Any, Any] | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        # Memos of what the history determines.
        self._columns = Columns(space, target)
        self._packed: bytes | None = None
        self._design: FloatArray = np.empty((0, space.dimension))

    def __repr__(self) -> str:
        return f"Study({self.space!r}, log={str(self.log) if self.log else None!r}, trials={len(self._trials)})"

    # -- history --------------------------------------------------------------------------------------------------

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials, in the order in which they were asked."""
        self._load()
        return tuple(self._trials)

    def _load(self) -> None:
        """Read the log, without locking it, where it was not read yet."""
        self._attend()
        if self._read or self._writer is not None or self.log is None or not self.log.exists():
            return
        header, events = read_log(self.log)
        header.refuse(self._header(), self.log)
        self._replay(events)

    def _attend(self) -> None:
        """Serve trainings from here on, where this process does only that: one history has one writer.

        A training process runs the user's script, and so does every MPI rank; both may touch the study before `run`.
        """
        if self.objective is not None and not self._attended:
            from hyppo.launch import attend

            attend()
            self._attended = True

    def _open(self) -> StudyLog:
        """Open the log for writing, and bring the history up to what it holds."""
        self._attend()
        if self._writer is None:
            if self.log is None:
                self._writer = MemoryLog()
            else:
                # `hyppo run --steal` says that the writer before is gone where a shared file system cannot
                steal = bool(os.environ.get("HYPPO_STEAL"))
                self._writer, _, events = open_log(self.log, self._header(), steal=steal)
                self._replay(events)
                self._closing = weakref.finalize(self, self._writer.close)
                # at exit, too: weakref's own exit hook is as old as the first finalizer of the process, often torch's,
                # and would close the log after h5py has shut down
                atexit.register(self._closing)
        return self._writer

    def _replay(self, events: Sequence[Event]) -> None:
        trials: list[Trial] = []
        for position, event in enumerate(events):
            apply(trials, event, position)
        self._trials, self._position, self._read = trials, len(events), True
        self._columns = Columns(self.space, self.target)

    def _record(self, *events: Event) -> None:
        """Log events, then apply them: what the log refuses did not happen."""
        try:
            self._open().append(events)
            for event in events:
                apply(self._trials, event, self._position)
                self._position += 1
        except KeyboardInterrupt:
            self.close()  # it may have come between log and history: the next use reads the log again
            raise

    def _header(self) -> Header:
        from hyppo import __version__

        return Header(
            uuid=str(uuid.uuid4()),
            space=self.space.to_json(),
            seed=self.seed,
            config={
                "replicas": list(self.replicas),
                "required": self.required,
                "risk": self.risk,
                "surrogate": self.surrogate,
                "target": self.target,
            },
            created=time.time(),
            version=__version__,
        )

    def note(self, text: str) -> None:
        """Leave a line for the reader of the study file."""
        self._record(Note(text, time.time()))

    def close(self) -> None:
        """Close the log; a later `ask` or `run` opens it again."""
        writer, self._writer = self._writer, None
        if self._closing is not None:
            self._closing.detach()
            self._closing = None
        if writer is not None:
            writer.close()

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
        proposals = self._propose(int(count))
        contender = self._contender(*proposals[0]) if proposals else self._neediest()
        if contender is not None:
            return (self._replicate(contender),)
        first, now = len(self._trials), time.time()
        self._record(
            *(
                Asked(
                    number,
                    self.space.decode(unit),
                    tuple((index, seed_for(self.seed, number, index)) for index in range(self.replicas[0])),
                    origin,
                    now,
                )
                for number, (unit, origin) in enumerate(proposals, start=first)
            )
        )
        return tuple(self._trials[first:])

    @property
    def exhausted(self) -> bool:
        """Whether every point of a finite space was tried."""
        size = self.space.size
        return size is not None and len(self._known().taken) >= size

    def _known(self) -> Columns:
        """The trials as arrays."""
        self._columns.update(self._trials)
        return self._columns

    def _propose(self, count: int) -> list[tuple[FloatArray, dict[str, Any]]]:
        """Coordinates and origins of the next new points, up to `count`; none where none is left."""
        known = self._known()
        taken = set(known.taken)
        if self.space.size is not None and len(taken) >= self.space.size:
            return []
        leading = design_size(self.space.dimension)
        # The design goes on where losses are slow to come (many ranks at the start) or trainings fail.
        slow = known.settled().size < max(2, leading // 2)
        designed = self._designed(taken, count if slow else min(count, leading - len(self._trials)))
        proposals = [(unit, {"by": "design"}) for unit in designed]
        if len(proposals) == count:
            return proposals
        taken.update(self.space.keys(np.array(designed).reshape(-1, self.space.dimension)))
        from hyppo.search import propose_batch

        pruned = [t.number for t in self._trials if t.settled is None and t.state is State.PRUNED]
        found = propose_batch(
            self.space,
            with_censored(known.observations(), known.units()[pruned]),
            np.vstack([known.pending_units(), *designed]),
            taken,
            generator_for(self.seed, SEARCH_PURPOSE, len(self._trials) + len(proposals)),
            count - len(proposals),
            surrogate=self.surrogate,
            risk=self.risk,
            previous=[t.origin for t in self._trials] + [origin for _, origin in proposals],
        )
        return proposals + [(proposal.unit, proposal.origin) for proposal in found]

    def _designed(self, taken: set[bytes], count: int) -> list[FloatArray]:
        """The first `count` points of the design that were not tried; fewer where it has found all that it can."""
        length = design_size(self.space.dimension)
        while count > 0:
            if len(self._design) < length:
                self._design = sobol(self.space, length, self.seed)
            points = [u for k, u in zip(self.space.keys(self._design), self._design, strict=True) if k not in taken]
            if len(points) >= count or len(self._design) < length:
                return points[:count]
            length *= 2
        return []

    def _settled(self) -> list[Trial]:
        """Trials with a finite loss, in the order in which they first had one."""
        return [self._trials[number] for number in self._known().settled()]

    def _contender(self, unit: FloatArray, origin: dict[str, Any]) -> Trial | None:
        """The known point that deserves the next training more than a new one does; None under fixed replicas."""
        fewest, most = self.replicas
        settled = self._settled()
        free = np.array([not t.pending and len(t.replicas) < most for t in settled], dtype=np.bool_)
        if fewest == most or not free.any():
            return None
        from hyppo.search import Proposal
        from hyppo.search.replicate import contender

        row = contender(
            self.space,
            self._known().observations(),
            free,
            Proposal(unit, origin),
            fewest,
            risk=self.risk,
            previous=[t.origin for t in self._trials],
        )
        return None if row is None else settled[row]

    def _neediest(self) -> Trial:
        """Of an exhausted space, the best of the points with the fewest replicas."""
        free = [t for t in self._trials if not t.pending and t.state is State.DONE]
        if not free:
            raise SpaceExhausted(
                f"all {self.space.size} points of the space were tried and none can be trained again now; "
                "tell the pending ones first"
            )
        return min(free, key=lambda t: (len(t.replicas), self.score(t), t.number))

    def score(self, trial: Trial) -> float:
        """What is minimised, `value + risk * spread` of the target as observed; infinity where nothing is known."""
        observed = trial.observed(self.target)
        return math.inf if observed is None else observed.score(self.risk)

    def _replicate(self, trial: Trial) -> Trial:
        """Ask for one further replica of a known point."""
        index = 1 + max(r.index for r in trial.replicas)
        seed = seed_for(self.seed, trial.number, index)
        self._record(Asked(trial.number, trial.params, ((index, seed),), {"by": "replicate"}, time.time()))
        return self._trials[trial.number]

    # -- tell -----------------------------------------------------------------------------------------------------

    def tell(self, number: int, losses: Iterable[float] | float) -> None:
        """Settle a trial with the losses of its replicas, in the order of its seeds.

        Any number of losses will do: replicas asked and not told are not awaited any more, losses beyond those asked
        are further replicas, and a later tell of the same number adds. A loss that is not finite is a failed replica.

        Raises
        ------
        StudyError
            A number that was never asked, no loss at all, or one that is not a number; the target is the loss of
            predictions, of which a told loss has none.
        """
        self._refuse_bare_losses()
        self._open()
        trial = self._trial(number)
        values = _losses(losses)
        now = time.time()
        indices = [r.index for r in trial.pending]
        following = 1 + max((r.index for r in trial.replicas), default=-1)
        indices += range(following, following + len(values))
        records = tuple(
            _told(index, seed_for(self.seed, number, index), loss, now)
            for index, loss in zip(indices, values, strict=False)
        )
        self._record(Settled(number, records, closed=True, time=now))

    def fail(self, number: int, why: str = "") -> None:
        """Settle what is pending of a trial as failed: it costs budget and never becomes a loss.

        Raises
        ------
        StudyError
            A number that was never asked, or a trial with nothing pending.
        """
        self._open()
        trial = self._trial(number)
        if not trial.pending:
            raise StudyError(f"trial {number} has nothing pending that could fail; it is {trial.state}")
        failure = Failure("Failed", str(why))
        now = time.time()
        records = tuple(ReplicaRecord(r.index, r.seed, State.FAILED, end=now, failure=failure) for r in trial.pending)
        self._record(Settled(number, records, closed=True, time=now))

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
        number, now = len(self._trials), time.time()
        seeds = [seed_for(self.seed, number, index) for index in range(len(values))]
        records = tuple(_told(i, seed, loss, now) for i, (seed, loss) in enumerate(zip(seeds, values, strict=True)))
        self._record(
            Asked(number, native, tuple(enumerate(seeds)), {"by": "added"}, now),
            Settled(number, records, closed=True, time=now),
        )
        return self._trials[number]

    def _refuse_bare_losses(self) -> None:
        if self.target == ENSEMBLE_LOSS:
            raise StudyError(
                'target="ensemble_loss" is the loss of predictions, which a loss from elsewhere does not have: '
                "train with study.run, or tell losses to a study of the mean_loss"
            )

    def _trial(self, number: int) -> Trial:
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise StudyError(f"number: expected a trial's number, got {number!r}")
        if not 0 <= number < len(self._trials):
            raise StudyError(f"trial {number} was never asked; the study has {len(self._trials)} trials")
        return self._trials[int(number)]

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

    def tasks(self, trial: Trial) -> list[Task]:
        """What a worker needs for each pending replica of a trial."""
        if self._packed is None and self.criterion is not None:
            self._packed = pack(self.criterion)
        return [
            Task(
                trial.number,
                r.index,
                r.seed,
                trial.params,
                str(self.directory(trial.number, r.index)),
                r.attempts,
                self.target,
                self._packed,
            )
            for r in trial.pending
        ]

    def settle(self, outcomes: Sequence[tuple[Task, Outcome]]) -> None:
        """Take in how trainings ended, all in one append to the log."""
        now = time.time()
        records = [(task.trial, _record_of(task, outcome)) for task, outcome in outcomes]
        for _, outcome in outcomes:
            if self.criterion is None and outcome.criterion is not None:
                self.criterion = unpack(outcome.criterion)
        # one look at a trial's predictions, however many of its replicas end together
        last = {number: at for at, (number, r) in enumerate(records) if r.loss is not None and r.losses is not None}
        for number, at in last.items():
            ended = [record for trial, record in records if trial == number] + list(self._trials[number].replicas)
            loss = self._ensemble_loss(number, sorted(r.index for r in ended if r.loss is not None))
            records[at] = (number, replace(records[at][1], ensemble_loss=loss))
        self._record(
            *(
                Settled(number, (record,), closed=record.state is State.PRUNED, time=now)  # a whole trial is given up
                for number, record in records
            )
        )
        for task, _ in outcomes:  # what has ended does not go on
            for path in Path(task.directory).glob(RESUME):
                path.unlink(missing_ok=True)

    def _ensemble_loss(self, number: int, replicas: Sequence[int]) -> float | None:
        """The criterion of the mean prediction; None where it is not finite."""
        if self.criterion is None or not replicas:
            return None
        from hyppo.predictions import combine

        combined = combine([self.directory(number, index) for index in replicas])
        loss = loss_of(self.criterion, combined.mean, combined.targets)
        return loss if math.isfinite(loss) else None

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
    def best(self) -> Best:
        """The configuration recommended now, by posterior score among those with enough replicas.

        Raises
        ------
        StudyError
            No replica has a finite loss yet.
        """
        self._load()
        from hyppo.search import recommend

        settled = self._settled()
        recommendation: Recommendation | None = None
        if settled:
            recommendation = recommend(
                self.space,
                self._known().observations(),
                surrogate=self.surrogate,
                risk=self.risk,
                required=self.required,
                previous=[t.origin for t in self._trials],
            )
        if recommendation is None:
            failed = sum(t.state is State.FAILED for t in self._trials)
            raise StudyError(f"no trial has a finite loss yet ({len(self._trials)} trials, {failed} failed)")
        trial = settled[recommendation.row]
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

    def surface(self) -> "Surface":
        """The fitted surrogate over the space, for `hyppo.sensitivity` and pictures.

        Raises
        ------
        StudyError
            Fewer than four different points with a loss, or constant losses.
        """
        self._load()
        from hyppo.search import surface

        fitted = surface(
            self.space, self._known().observations(), risk=self.risk, previous=[t.origin for t in self._trials]
        )
        if fitted is None:
            raise StudyError("no surrogate yet: it takes four points with losses that differ")
        return fitted

    def predictions(self, number: int) -> "Predictions":
        """Mean and standard deviation of a trial's predictions over its replicas and dropout passes.

        Raises
        ------
        StudyError
            A number that was never asked, or a trial whose replicas left no predictions.
        """
        self._load()
        from hyppo.predictions import combine

        trial = self._trial(number)
        return combine([self.directory(number, r.index) for r in trial.replicas if r.loss is not None])

    def checkpoints(self, number: int) -> tuple[Path, ...]:
        """The trained networks that a trial's replicas have left, in the order of the replicas.

        Raises
        ------
        StudyError
            A number that was never asked.
        """
        self._load()
        from hyppo.predictions import weights_in

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
        try:
            import pandas as pd
        except ModuleNotFoundError:
            raise StudyError("to_frame needs pandas: pip install 'hyppo-uq[report]'") from None
        rows = [
            {
                "number": t.number,
                "state": str(t.state),
                "mean": t.mean,
                "spread": t.spread,
                "replicas": t.stats.n if t.stats else 0,
                "ensemble_loss": t.ensemble_loss,
                "u": t.losses.std if t.losses else None,
                "start": min((r.start for r in t.replicas if r.start is not None), default=None),
                "end": max((r.end for r in t.replicas if r.end is not None), default=None),
                **t.params,
            }
            for t in self.trials
        ]
        return pd.DataFrame(rows)


def load(path: str | Path) -> Study:
    """The study in a file, for reading: nothing is locked or written, also while it runs.

    Raises
    ------
    LogError
        The file is missing, torn, or not a study.
    """
    header, events = read_log(path)
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
    study._replay(events)
    return study


def _replica_range(replicas: int | tuple[int, int] | None) -> tuple[int, int]:
    """(fewest, most) of what the user gave."""
    if replicas is None:
        return DEFAULT_REPLICAS, DEFAULT_REPLICAS
    pair = replicas if isinstance(replicas, Sequence) else (replicas, replicas)
    whole = len(pair) == 2 and all(isinstance(r, int | np.integer) and not isinstance(r, bool) for r in pair)
    if not whole or not 1 <= pair[0] <= pair[1]:
        raise StudyError(f"replicas: expected a number of at least 1, or (fewest, most), got {replicas!r}")
    return int(pair[0]), int(pair[1])


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


def _told(index: int, seed: int, loss: float, now: float) -> ReplicaRecord:
    if math.isfinite(loss):
        return ReplicaRecord(index, seed, State.DONE, loss=loss, end=now)
    return ReplicaRecord(index, seed, State.FAILED, end=now, failure=Failure.of_loss(loss))


def _record_of(task: Task, outcome: Outcome) -> ReplicaRecord:
    ended = State.DONE if outcome.failure is None else State.FAILED
    return ReplicaRecord(
        index=task.index,
        seed=task.seed,
        state=State.PRUNED if outcome.pruned else ended,
        loss=outcome.loss,
        start=outcome.start,
        end=outcome.end,
        failure=outcome.failure,
        curve=outcome.curve,
        host=outcome.host,
        attempts=task.attempt,
        losses=outcome.losses,
    )
