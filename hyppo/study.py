"""The study: ask for points, tell losses, know the best.

A study is its configuration, its root seed and its history, the one thing that changes; trials, pending points, the
incumbent and counts are derived from these.
"""

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, NoReturn, ParamSpec, TypeVar

from hyppo.arguments import native, number, whole
from hyppo.config import ENSEMBLE_LOSS, MEAN, MEAN_LOSS, Config, lost_score
from hyppo.errors import LogError, StudyError
from hyppo.log import Header, read_log
from hyppo.log.folders import Folders
from hyppo.log.history import History
from hyppo.results import LOSS, Best, estimate_of, frame_of
from hyppo.search.budget import UNKNOWN, Left
from hyppo.search.columns import Columns
from hyppo.search.feasible import Feasible
from hyppo.search.policy import Further, Policy
from hyppo.search.propose import Proposal
from hyppo.seeds import seed_for
from hyppo.space import Space
from hyppo.stats import LossStats, Score, summary
from hyppo.stopping import Rule
from hyppo.text import open_closed_streams
from hyppo.training.criterion import Criterion, has_default
from hyppo.training.replica import Failure, Goal, Replica
from hyppo.trial import ENQUEUED, Asked, Began, Event, Note, ReplicaRecord, Settled, State, Trial

if TYPE_CHECKING:
    import pandas as pd

    from hyppo.analysis.comparison import Comparison
    from hyppo.analysis.confirmation import Confirmation
    from hyppo.analysis.front import Front
    from hyppo.search.propose import Proposer
    from hyppo.search.surface import Surface
    from hyppo.training.predictions import Predictions

Objective = Callable[[Replica], Any]
BEST = "best"  # the recommended trial, by name
MOST_ASKED = 100_000  # trials in one call
P = ParamSpec("P")
R = TypeVar("R")


def _locked(method: "Callable[Concatenate[Study, P], R]") -> "Callable[Concatenate[Study, P], R]":
    """Run one method of the study at a time: an ask sees everything that was asked and told before it."""

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
        Called once per replica with a `Replica`; returns the loss, a `Result`, or nothing if a callback hands the
        result over. Not needed to drive the search with `ask` and `tell`.
    log : path, optional
        Study file (HDF5). An existing one goes on; it is opened at the first `ask` or `run`. Without it the study
        lives in memory. Relative paths and symbolic links are resolved here, once: a script may change its directory.
    replicas : int or (int, int), optional
        Trainings of every point, or the fewest and the most (adaptive: contenders earn more). Default (1, 8).
    seed : int
        Root seed: with it and the losses, every ask is determined.
    risk : float
        The score is `mean + risk * spread`.
    surrogate : {"auto", "gp", "rbf", "random"} or a Proposer
        Chooses new points; an object of your own has the method `propose` of `hyppo.search.propose.Proposer`.
    target : {"mean_loss", "ensemble_loss"}
        The optimised quantity: the mean of the replicas' losses, or the loss of their mean prediction.
    criterion : callable, optional
        criterion(prediction, targets) -> number, of numpy arrays over all validation examples: the loss of the mean
        prediction. With it that loss is logged for either target. `target="ensemble_loss"` needs it; Keras has a
        default, the compiled loss.
    stopping : {"median", "halving"} or a rule of `hyppo.stopping`, optional
        Give trials up that are worse than the others at the same step of training: `replica.should_stop` turns true,
        and their further replicas are dropped. By default every training ends by itself.
    folds : int, optional
        Folds of the data: replica r is to validate on fold r mod `folds`, which it finds in `replica.fold`. The loss of
        a configuration is then its mean over the folds.
    score : {"mean", "median", "trimmed"} or callable
        The summary of a configuration's losses in the search, the recommendation and the confirmation. The median
        and the trimmed mean suit trainings that now and then end far off. A function takes a list of losses and
        returns a number; a study file stores its name and one value, by which another function is noticed.
    feasible : callable, optional
        feasible(params) -> bool. Points for which it is False are no part of the space: no model that is too large, no
        batch that does not divide. It is called for hundreds of candidates at every ask, so let it take microseconds.
    isolate : bool
        Train in a separate process (default), so that a crash or a hang does not end the study.
    extend : bool
        Go on with a study file although ranges or values of parameters have changed. The file keeps all trials; those
        outside the new space stay as history, and are neither trained again nor recommended.

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
    >>> study.best.params["n"], sum(len(trial.replicas) for trial in study.trials)
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
        surrogate: "str | Proposer" = "auto",
        target: str = MEAN_LOSS,
        criterion: Criterion | None = None,
        stopping: str | Rule | None = None,
        folds: int | None = None,
        score: Score = MEAN,
        feasible: Callable[[dict[str, Any]], bool] | None = None,
        isolate: bool = True,
        extend: bool = False,
    ) -> None:
        if not isinstance(space, Space):
            raise StudyError(f"space: expected a hyppo.Space, got {space!r}")
        if objective is not None and not callable(objective):
            raise StudyError(f"objective: expected a function of one replica, got {objective!r}")
        self._config = Config.of(
            seed=seed,
            risk=risk,
            surrogate=surrogate,
            target=target,
            replicas=replicas,
            stopping=stopping,
            folds=folds,
            score=score,
            feasible=feasible,
        )
        if criterion is not None and not callable(criterion):
            raise StudyError(f"criterion: expected a function of prediction and targets, got {criterion!r}")
        if target == ENSEMBLE_LOSS and criterion is None and objective is not None and not has_default():
            raise StudyError(
                'target="ensemble_loss" needs criterion=f, the loss f(mean prediction, targets) as a number; only '
                "Keras has a default, the compiled loss (then import hyppo_keras before the Study)"
            )
        open_closed_streams()
        self._space = space
        self._objective = objective
        if log is not None:
            _resolved(log)  # an error now, if there is one
        self._log = None if log is None else Path(log)
        self._found = log is None
        self._criterion = criterion
        if not isinstance(isolate, bool):
            raise StudyError(f"isolate: expected True or False, got {isolate!r}")
        self._isolate = isolate
        if not isinstance(extend, bool):
            raise StudyError(f"extend: expected True or False, got {extend!r}")
        self._extend = extend
        self._is_manager = False
        self._began = False
        self._lock = threading.RLock()
        self._in_training: set[tuple[int, int]] = set()  # trial and replica, of a run; see `hyppo.loop.Session`
        self._set_up()

    def _set_up(self) -> None:
        """Begin without trials, by the configuration."""
        space, config = self._space, self._config
        self._folders = Folders(self._log)
        self._feasible = None if config.feasible is None else Feasible(space, config.feasible)
        self._history = History(self._log, partial(Header.new, space, config.seed, config.to_json()), self._extend)
        self._reset()
        self._policy = Policy(space, config)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(getattr(type(self), name, None), property):
            raise StudyError(f"study.{name} cannot be changed: make another Study, with the same log= to go on")
        super().__setattr__(name, value)

    def __getstate__(self) -> NoReturn:
        raise StudyError(
            "a Study can be neither copied nor sent to another process; keep it out of the object or the variables "
            "that the training function uses"
        )

    def __repr__(self) -> str:
        log = None if self._log is None else str(self._log)
        return f"Study({self.space!r}, log={log!r}, trials={len(self._history.trials)})"

    def _repr_html_(self) -> str:
        from hyppo.report.notebook import study_html

        return study_html(self)

    # -- configuration --------------------------------------------------------------------------------------------

    @property
    def space(self) -> Space:
        return self._space

    @property
    def objective(self) -> Objective | None:
        return self._objective

    @property
    def log(self) -> Path | None:
        """The study file."""
        self._find()
        return self._log

    def _find(self) -> None:
        """Resolve the path of the study file once, at its first use; later changes of directory do not matter."""
        if not self._found:
            assert self._log is not None
            self._log, self._found = _resolved(self._log), True
            self._set_up()

    @property
    def criterion(self) -> Criterion | None:
        return self._criterion

    @property
    def isolate(self) -> bool:
        return self._isolate

    @property
    def config(self) -> Config:
        """All other settings; `seed`, `risk` and so on are its attributes."""
        return self._config

    @property
    def seed(self) -> int:
        return self._config.seed

    @property
    def risk(self) -> float:
        return self._config.risk

    @property
    def surrogate(self) -> "str | Proposer":
        return self._config.surrogate

    @property
    def target(self) -> str:
        return self._config.target

    @property
    def replicas(self) -> tuple[int, int]:
        """The fewest and the most trainings of a point."""
        return self._config.replicas

    @property
    def stopping(self) -> Rule | None:
        return self._config.stopping

    # -- history --------------------------------------------------------------------------------------------------

    @property
    @_locked
    def trials(self) -> tuple[Trial, ...]:
        """All trials, in the order in which they were asked."""
        self._load()
        return tuple(self._history.trials)

    def _serve_if_worker(self) -> None:
        """Serve trainings and do not return, if this is a training process or an MPI rank other than the first.

        A training process runs the user's script, and so does every MPI rank; both may touch the study before `run`.
        """
        if self.objective is not None and not self._is_manager:
            from hyppo.launch import serve_if_worker

            serve_if_worker()
            self._is_manager = True

    def _load(self) -> None:
        """Read the log, without locking it."""
        self._serve_if_worker()
        self._find()
        if self._history.read():
            self._reset()

    def _open(self) -> None:
        """Read the log, and become its writer."""
        self._serve_if_worker()
        self._find()
        if self._history.open():
            self._give_up_outside()
            self._reset()
        if not self._began and self.log is not None:
            self._began = True
            self._begin()

    def _give_up_outside(self) -> None:
        """Settle as failed the pending replicas outside the space, which was wider when they were asked."""
        now, failure = time.time(), Failure("OutsideSpace", "the space became narrower before this training ended")
        given_up = [
            Settled(
                trial.number,
                tuple(ReplicaRecord(r.index, r.seed, State.FAILED, end=now, failure=failure) for r in trial.pending),
                time=now,
            )
            for trial in self._history.trials
            if trial.pending and trial.params not in self.space
        ]
        if given_up:
            self._history.record(*given_up)

    def _begin(self) -> None:
        """Log the provenance of this session, and tell which versions differ from those of the last one."""
        from hyppo.provenance import changes, provenance

        now = provenance(self.objective)
        changed = changes(self._history.sessions[-1].provenance, now) if self._history.sessions else []
        self._history.record(Began(now, time.time()))
        if changed:
            warnings.warn(
                f"{self.log} goes on with other versions: {', '.join(changed)}; losses may differ from the former ones "
                "(`hyppo show --provenance` lists all sessions)",
                stacklevel=2,
            )

    @property
    @_locked
    def provenance(self) -> tuple[dict[str, Any], ...]:
        """Program, versions, machine and job of each session with a study file, oldest first; see `hyppo.provenance`.

        Each has its start as `time`, in seconds since 1970.
        """
        self._load()
        return tuple({"time": began.time, **began.provenance} for began in self._history.sessions)

    def _reset(self) -> None:
        """Begin again with the trials that the log holds."""
        self._columns = Columns(self._space, self._config, self._feasible)
        self._enqueued = [t.number for t in self._history.trials if t.is_enqueued and t.pending]

    def _record(self, *events: Event) -> None:
        self._open()
        self._history.record(*events)

    def _known(self) -> Columns:
        """The trials as arrays."""
        self._columns.update(self._history.trials)
        return self._columns

    @_locked
    def note(self, text: str) -> None:
        """Leave a line for the reader of the study file.

        Raises
        ------
        StudyError
            Not text.
        """
        self._record(Note(text, time.time()))

    @_locked
    def close(self) -> None:
        """Close the log; a later `ask` or `run` opens it again."""
        self._in_training.clear()
        self._history.close()

    def __enter__(self) -> "Study":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- ask ------------------------------------------------------------------------------------------------------

    def ask(self) -> Trial:
        """The next trial: its `number`, its `params`, and the `seeds` of the replicas to train now.

        A known number is returned again with new seeds if its point is worth a further replica: with adaptive
        replicas, and always once a small space is exhausted. Trials of `enqueue` come first.

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
        """Up to `count` trials from one look at the losses, at a fraction of the cost of as many calls of `ask`.

        The first is the trial that `ask` would return; each is chosen with those before it as pending. A known trial
        that is worth several further replicas is returned once, with as many seeds. Fewer are returned if the space
        has no more new points.

        Parameters
        ----------
        count : int

        Raises
        ------
        StudyError
            `count` is not an integer from 1 to 100,000.
        SpaceExhausted, LogError
            As for `ask`.

        Examples
        --------
        >>> from hyppo.space import Real
        >>> [trial.number for trial in Study(Space(x=Real(0, 1))).ask_batch(3)]
        [0, 1, 2]
        """
        count = whole("count", count, least=1)
        if count > MOST_ASKED:
            raise StudyError(f"count: expected at most {MOST_ASKED}, got {count}")
        return self._ask(count, UNKNOWN)

    def _ask(self, count: int, left: Left) -> tuple[Trial, ...]:
        """The trials of `ask_batch` with this rest of a budget; none if it allows no trial and no replica."""
        self._open()
        waiting = self._take_enqueued(count)
        if waiting:
            return waiting
        chosen = self._policy.next(self._known(), count, left)
        first, now = len(self._history.trials), time.time()
        points = [point for point in chosen if isinstance(point, Proposal)]
        further = [known for known in chosen if isinstance(known, Further)]
        self._record(
            *(self._replicate(f.trial, f.count, now) for f in further),
            *(
                Asked(
                    number,
                    self.space.decode(point.unit),
                    tuple((index, seed_for(self.seed, number, index)) for index in range(self.replicas[0])),
                    point.step.to_json(),
                    now,
                )
                for number, point in enumerate(points, start=first)
            ),
        )
        trials = self._history.trials
        return (*(trials[f.trial.number] for f in further), *trials[first:])

    @_locked
    def enqueue(self, params: Mapping[str, Any], name: str | None = None) -> Trial:
        """Ask for a configuration before anything else: the one that you use now, a published default.

        It becomes a trial at once, and the next `run` or `ask` trains it first. It is never stopped early. To call this
        again with the same arguments, as a script does that goes on with its study file, returns the same trial.

        Parameters
        ----------
        params : mapping
            A point of the space.
        name : str, optional
            A name for `study.compare` and `study.confirm(against=...)`, such as "baseline".

        Raises
        ------
        SpaceError
            Parameters that are not a point of the space.
        StudyError
            A name that is empty, "best", or that of a trial with other parameters.
        LogError
            The log cannot be opened or written.

        Examples
        --------
        >>> from hyppo.space import Real
        >>> study = Study(Space(lr=Real(0, 1)))
        >>> study.enqueue({"lr": 0.1}, name="baseline").number
        0
        >>> trial = study.ask()
        >>> trial.name, trial.params["lr"]
        ('baseline', 0.1)
        """
        if name is not None and (not isinstance(name, str) or not name.strip() or name == BEST):
            raise StudyError(f"name: expected a text other than {BEST!r}, got {name!r}")
        self._open()
        native = self.space.native(params)
        if self._feasible is not None and not self._feasible.accepts(native):
            raise StudyError(f"feasible refuses {native}, which is to be trained")
        key = self.space.keys(self.space.encode(native)[None])[0]
        for trial in self._history.trials:
            if not trial.is_enqueued or trial.name != name:
                continue
            inside = trial.params in self.space
            if inside and self.space.keys(self.space.encode(trial.params)[None])[0] == key:
                return trial
            if name is not None:
                raise StudyError(
                    f"{name!r} is trial {trial.number} with the parameters {dict(trial.params)}; choose another name"
                )
        number = len(self._history.trials)
        origin = {"by": ENQUEUED} if name is None else {"by": ENQUEUED, "name": name}
        seeds = tuple((index, seed_for(self.seed, number, index)) for index in range(self.replicas[0]))
        self._record(Asked(number, native, seeds, origin, time.time()))
        self._enqueued.append(number)
        return self._history.trials[number]

    def _take_enqueued(self, count: int) -> tuple[Trial, ...]:
        """Up to `count` enqueued trials that have not been asked yet."""
        taken: list[Trial] = []
        while self._enqueued and len(taken) < count:
            trial = self._history.trials[self._enqueued.pop(0)]
            if trial.pending and not any((trial.number, r.index) in self._in_training for r in trial.pending):
                taken.append(trial)
        return tuple(taken)

    @property
    def goal(self) -> Goal | None:
        """The metric that the losses are, if a callback monitored one: `study.goal.shown(loss)` has its own sign."""
        return next((trial.goal for trial in self.trials if trial.goal is not None), None)

    def score(self, trial: Trial) -> float:
        """The score to minimise, `value + risk * spread` of the observed target; infinity if nothing is known."""
        return trial.score(self.target, self.risk, self._config.score)

    def _replicate(self, trial: Trial, count: int, now: float) -> Asked:
        """The event that asks for `count` further replicas of a known point."""
        first = 1 + max(r.index for r in trial.replicas)
        replicas = tuple((index, seed_for(self.seed, trial.number, index)) for index in range(first, first + count))
        return Asked(trial.number, trial.params, replicas, {"by": "replicate"}, now)

    # -- tell -----------------------------------------------------------------------------------------------------

    @_locked
    def tell(self, number: int, losses: Iterable[float] | float) -> None:
        """Settle a trial with the losses of its replicas, in the order of its seeds.

        Any number of losses is accepted: replicas that were asked and not told are no longer pending, additional losses
        are further replicas, and a later tell of the same number adds replicas. A loss that is not finite is a failed
        replica.

        Raises
        ------
        StudyError
            A number that was never asked, no loss at all, or one that is not a number; a trial that `study.run` is
            training; the target is the loss of predictions, of which a told loss has none.
        """
        self._refuse_bare_losses()
        self._open()
        trial = self._trial(number)
        number = trial.number
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
        """Settle the pending replicas of a trial as failed: they cost budget and never become a loss.

        Raises
        ------
        StudyError
            A number that was never asked, a trial with nothing pending, or one that `study.run` is training.
        """
        self._open()
        trial = self._trial(number)
        number = trial.number
        self._refuse_in_training(trial)
        if not trial.pending:
            raise StudyError(f"trial {number} has nothing pending that could fail; it is {trial.state}")
        failure = Failure("Failed", str(why))
        now = time.time()
        records = tuple(ReplicaRecord(r.index, r.seed, State.FAILED, end=now, failure=failure) for r in trial.pending)
        self._record(Settled(number, records, closed=True, time=now))

    @_locked
    def add(self, params: Mapping[str, Any], losses: Iterable[float] | float) -> Trial:
        """Add a result known from elsewhere, as a new trial.

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

    def _named(self, which: int | str) -> Trial:
        """The trial of a number or a name; "best" is the recommended one."""
        if not isinstance(which, str):
            return self._trial(which)
        if which == BEST:
            return self._trial(self.best.number)
        for trial in self._history.trials:
            if trial.name == which:
                return trial
        names = sorted({t.name for t in self._history.trials if t.name is not None})
        raise StudyError(f"no trial has the name {which!r}; names are {[BEST, *names]}")

    def _trial(self, number: int) -> Trial:
        position = whole("a trial's number", number)
        if not 0 <= position < len(self._history.trials):
            raise StudyError(f"trial {position} was never asked; the study has {len(self._history.trials)} trials")
        return self._history.trials[position]

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
            Seconds of this call after which nothing new is asked; running trainings are finished.
        """
        from hyppo.run import run

        run(self, trials=trials, trainings=trainings, time_limit=time_limit, **options)

    def confirm(
        self, replicas: int | tuple[int, int] = 10, against: int | str | None = None, **options: Any
    ) -> "Confirmation":
        """Train the recommended configuration again, with seeds that no trial saw, and say whether it holds.

        With the target "ensemble_loss" the new networks form an ensemble, whose loss is compared with the prediction.

        The trainings go through the same workers as those of `run`, also under MPI, and into the same study file; no
        search, estimate or recommendation ever sees them. A call that was interrupted goes on when it is made again.

        Parameters
        ----------
        replicas : int or (int, int)
            Trainings, at least 2; or the fewest and the most: after each few the verdict is looked at, and a clear one
            ends the confirmation.
        against : int or str, optional
            Number or name of a trial to compare with, such as "baseline". It is trained as often, in turn with the
            recommended one. If it is the recommended one itself, there is no comparison.
        **options
            As for `run`, without a budget.

        Returns
        -------
        Confirmation
            Mean, spread, whether the predicted interval held, the comparison, and a paragraph for a methods section.

        Raises
        ------
        StudyError
            No objective, no loss yet, `against` is no trial or "best", or every confirmation failed.

        Examples
        --------
        >>> from hyppo.space import Real
        >>> study = Study(Space(x=Real(0, 1)), lambda replica: replica.params["x"] + replica.seed % 5, isolate=False)
        >>> study.run(trials=4, progress=False)
        >>> confirmation = study.confirm(replicas=3, progress=False)
        >>> len(confirmation.losses), confirmation.number == study.best.number
        (3, True)
        """
        from hyppo.run.confirm import confirm

        return confirm(self, replicas, against, **options)

    # -- results --------------------------------------------------------------------------------------------

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
            outside = sum(t.stats is not None and t.params not in self.space for t in trials)
            more = f", {outside} with a loss but outside the space" if outside else ""
            raise StudyError(f"no trial has a finite loss yet ({len(trials)} trials, {failed} failed{more})")
        trial, recommendation = found
        records = [record for same in self._columns.equal(trial) for record in same.replicas]
        losses = [record.loss for record in records if record.loss is not None]
        stats, score = LossStats.of(losses), summary(losses, self._config.score)
        assert stats is not None
        assert score is not None
        return Best(
            trial.number,
            dict(trial.params),
            recommendation.estimate,
            stats.mean,
            stats.std,
            stats.n,
            sum(record.state is State.FAILED for record in records),
            recommendation.interval,
            recommendation.reason,
            trial.ensemble_loss,
            trial.loss_interval,
            self.checkpoints(trial.number),
            estimate_of(LOSS if trial.goal is None or self.target == ENSEMBLE_LOSS else trial.goal, self._config),
            score.mean if self._config.other_score else None,
        )

    @_locked
    def compare(self, a: int | str, b: int | str) -> "Comparison":
        """Compare two trials, each given by its number or its name; "best" is the recommended one.

        If both have confirmations, these decide, since the losses that a trial was chosen by are too good. Effects of
        the data that replicas of one index share (see `replica.data_seed`) are estimated over all trials and removed.

        Raises
        ------
        StudyError
            No such trial, or one without a loss.

        Examples
        --------
        >>> from hyppo.space import Real
        >>> study = Study(Space(x=Real(0, 1)))
        >>> for x, losses in ((0.2, [1.0, 1.2, 1.1]), (0.8, [3.1, 3.0, 2.9])):
        ...     trial = study.add({"x": x}, losses)
        >>> print(study.compare(0, 1))
        difference -1.9 (90 % interval -2.074 to -1.726), better with probability 1
        """
        from hyppo.analysis.comparison import compare_trials

        self._load()
        pair = self._named(a), self._named(b)
        for trial in pair:
            if trial.stats is None:
                raise StudyError(f"trial {trial.number} has no loss to compare by; it is {trial.state}")
        return compare_trials(*pair, self._history.trials, self._config)

    def front(self, first: str = "loss", second: str = "metrics.parameters") -> "Front":
        """The trials that no other trial beats in both of two columns, with intervals: loss and size, loss and time.

        Trials that failed more often than not, and those whose fixed number of replicas is not complete, are left out.
        Losses are estimates of a fresh training, as `study.best.estimate`. Of a trial that was trained once the
        estimate rests mostly on the trials around it, and the interval is wide: confirm it before you decide for it.

        Parameters
        ----------
        first, second : str
            "loss", or "metrics.NAME" as in `to_frame`; in both, lower is better. `parameters`, the number of trainable
            parameters, is there if a callback of an integration handed the result over; `seconds` and `memory` always.

        Returns
        -------
        Front
            A sequence of trials, those with the lowest second column first; `smallest` is the trial with the lowest
            second column within the interval of the best.

        Raises
        ------
        StudyError
            No trial has a loss, or none has such a column.

        Examples
        --------
        >>> from hyppo.space import Integer
        >>> def train(replica):
        ...     width = replica.params["width"]
        ...     replica.log("parameters", 10 * width)
        ...     return (width - 6) ** 2
        >>> study = Study(Space(width=Integer(1, 12)), train, replicas=1, isolate=False)
        >>> study.run(trials=12, progress=False)
        >>> front = study.front("loss", "metrics.parameters")
        >>> [trial.params["width"] for trial in front]
        [1, 2, 3, 4, 5, 6]
        >>> front.smallest.params["width"]
        6
        """
        from hyppo.analysis.front import front

        return front(self, first, second)

    @_locked
    def _estimates(self) -> list[tuple[Trial, float, tuple[float, float]]]:
        """The estimated loss and its interval of each trial that has the trainings it needs."""
        self._load()
        return self._policy.estimates(self._known())

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
        number = trial.number
        if trial.stats is None:
            raise StudyError(f"trial {number} has no loss and no predictions; it is {trial.state}")
        return combine([self._folders.of(number, r.index) for r in trial.replicas if r.loss is not None])

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

        trial = self._trial(number)
        folders = [self._folders.of(trial.number, r.index) for r in trial.replicas if r.loss is not None]
        return tuple(path for path in map(weights_in, folders) if path is not None)

    def to_frame(self) -> "pd.DataFrame":
        """One row a trial.

        Columns: number, name, state, mean, spread, replicas, confirmations, confirmation_mean, ensemble_loss, u, start,
        end, params.*, metrics.*. `replicas` and `confirmations` count those with a loss, and `confirmation_mean` is the
        mean loss of the confirmations, which no other column includes. `u` is the standard deviation of the criterion
        over replicas and passes; `start` and `end` are unix seconds.

        Raises
        ------
        StudyError
            pandas is not installed.
        """
        return frame_of(self.trials)

    def report(self, path: str | Path) -> Path:
        """Write one page with the recommendation and every figure, which needs no network, and return its path.

        Raises
        ------
        StudyError
            altair or vl-convert-python is not installed, or the file cannot be written or is a study file.
        """
        from hyppo.report import write

        return write(self, path)


def load(path: str | Path) -> Study:
    """The study in a file, for reading: nothing is locked or written, also while it runs.

    Raises
    ------
    LogError
        The file is missing, torn, or not a study.
    """
    path = _resolved(path)
    header, events = read_log(path)
    score = lost_score(header.config)
    if score is not None:
        warnings.warn(
            f"{path} was searched with score={score}, and a study file cannot store a function: here its trials are "
            "ranked and its recommendation is estimated by the mean; Study(space, score=..., log=...) uses it again",
            stacklevel=2,
        )
    return study_of(path, header, events)


def study_of(path: str | Path, header: Header, events: Sequence[Event]) -> Study:
    """The study that `read_log` read from `path`.

    Raises
    ------
    LogError
        Header and events make no study.
    """
    try:
        study = Study(Space.from_json(header.space), log=path)
        study._config = Config.from_json(header.seed, header.config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LogError(f"{path} is damaged: its configuration makes no study ({error!r})") from error
    study._find()
    study._history.replay(events)
    return study


def _resolved(log: str | Path) -> Path:
    """The study file that a path leads to now."""
    try:
        path = Path(os.path.realpath(os.fspath(log)))
        folder = path.is_dir()
    except (TypeError, ValueError, OSError) as error:
        raise StudyError(f"log: expected the path of a study file, got {log!r} ({error})") from None
    if folder:
        raise StudyError(f"log: {path} is a folder; name a file in it, such as {path / 'study.h5'}")
    return path


def _losses(losses: Iterable[float] | float) -> list[float]:
    given = native(losses)
    several = isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping)
    values = list(given) if several else [given]
    if not values:
        raise StudyError("losses: expected at least one, got none; study.fail(number, why) settles a failed trial")
    return [number("losses", value, unit="numbers", finite=False) for value in values]
