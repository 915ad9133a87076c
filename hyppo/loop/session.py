"""The part of a study that the loop uses: the next trainings, and the results of those that ended."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from hyppo.config import Config
from hyppo.loop.options import Options
from hyppo.loop.queue import Queue
from hyppo.provenance import is_edited
from hyppo.search.budget import UNKNOWN, Left
from hyppo.seeds import data_seed_for
from hyppo.study import Study
from hyppo.training.criterion import pack
from hyppo.training.replica import RESUME, Outcome, Task
from hyppo.trial import Asked, Planned, ReplicaRecord, Settled, State, Trial


class Session:
    """One run of a study, between the study and the loop.

    This class may use the private attributes of `Study`: a study has no public method that only a run needs.

    Attributes
    ----------
    study : Study
    config : Config
    packed_criterion : bytes or None
        The pickled criterion for other processes: the study's, or the one found by a training.

    Examples
    --------
    >>> from hyppo.space import Real, Space
    >>> session = Session(Study(Space(x=Real(0, 1)), replicas=2))
    >>> (trial,) = session.ask(1)
    >>> [(task.trial, task.index) for task in session.tasks(trial)]
    [(0, 0), (0, 1)]
    """

    evaluates = True  # whether the criterion is evaluated for the mean prediction of a trial's replicas
    confirms = False  # whether the trainings are confirmations

    def __init__(self, study: Study) -> None:
        self.study = study
        self.config: Config = study.config
        self.packed_criterion = None if study.criterion is None else pack(study.criterion)

    @property
    def known(self) -> Sequence[Trial]:
        """The trials of the study, not to be changed; no copy is made, since the loop looks at them at every report."""
        self.study._load()
        return self.study._history.trials

    @property
    def trials(self) -> Sequence[Trial]:
        """The trials that the loop trains: those of the study."""
        return self.known

    @property
    def exhausted(self) -> bool:
        """Whether every point of a finite space was tried."""
        with self.study._lock:
            return self.study._policy.exhausted(self.study._known())

    @property
    def undecided(self) -> bool:
        """Whether the order of the contenders is open, and one of them may have a further replica."""
        with self.study._lock:
            self.study._load()
            return bool(self.study._policy.next(self.study._known(), 1, Left(trials=0)))

    def ask(self, count: int, left: Left = UNKNOWN) -> Sequence[Trial]:
        """Up to `count` trials to train, given what is left of the budget; see `Study.ask_batch`.

        If no trials are left, the list is empty once the order of the contenders is clear.
        """
        with self.study._lock:
            return self.study._ask(count, left)

    def queue(self) -> Queue:
        """An empty queue, which sets the order of the trainings."""
        return Queue()

    def tasks(self, trial: Trial) -> list[Task]:
        """One task for each pending replica of a trial, which the study takes as in training from here on."""
        with self.study._lock:
            self.study._in_training.update((trial.number, r.index) for r in trial.pending)
        return [
            Task(
                trial.number,
                r.index,
                r.seed,
                dict(trial.params),
                str(self.directory(trial.number, r.index)),
                r.attempts,
                self.config.target,
                self.packed_criterion,
                data_seed_for(self.config.seed, r.index),
                self.config.fold_of(r.index),
            )
            for r in trial.pending
        ]

    def directory(self, number: int, index: int) -> Path:
        """Folder of one replica."""
        return self.study._folders.of(number, index)

    def retry_failed(self) -> int:
        """Make all failed replicas in the space pending again, under their numbers and seeds; how many there were."""
        with self.study._lock:
            now = time.time()
            failed = [
                (trial, tuple((r.index, r.seed) for r in trial.replicas if r.state is State.FAILED))
                for trial in self.trials
                if trial.params in self.study.space
            ]
            asked = [Asked(t.number, t.params, again, {"by": "retry"}, now) for t, again in failed if again]
            if asked:
                self.study._record(*asked)
        return sum(len(again) for _, again in failed)

    def note(self, text: str) -> None:
        """Leave a line for the reader of the study file."""
        self.study.note(text)

    def is_edited(self) -> bool:
        """Whether the training function differs from that of the last run; False from this run's `plan` on."""
        history = self.study._history
        now = history.sessions[-1].provenance if history.sessions else {}
        return is_edited([began.provenance for began in history.runs], now)

    def plan(self, options: Options) -> None:
        """Log the budget of a run that begins."""
        self._log_budget({"trials": options.trials, "trainings": options.trainings, "time_limit": options.time_limit})

    def _log_budget(self, budget: Mapping[str, float | None]) -> None:
        known = {name: value for name, value in budget.items() if value is not None and math.isfinite(value)}
        with self.study._lock:
            self.study._record(Planned(known, time.time()))

    def merge(self) -> None:
        """Move events from the journal of a killed run to the study file."""
        with self.study._lock:
            self.study._history.merge()

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
                self.packed_criterion = outcome.criterion
        last = {number: at for at, (number, r) in enumerate(records) if r.loss is not None and r.losses is not None}
        for number, at in last.items():
            records[at] = (number, replace(records[at][1], ensemble_loss=ensemble_losses.get(number)))
        with self.study._lock:
            self.study._record(
                *(
                    # A rule stops a whole trial.
                    Settled(number, (record,), closed=record.state is State.PRUNED, time=now)
                    for number, record in records
                )
            )
            self.study._in_training.difference_update((task.trial, task.index) for task, _ in outcomes)
        # A training that ended does not go on, nor do the dropped replicas of a stopped trial.
        for task, outcome in outcomes:
            folder = Path(task.directory)
            for path in folder.parent.glob(f"*/{RESUME}") if outcome.pruned else folder.glob(RESUME):
                path.unlink(missing_ok=True)
