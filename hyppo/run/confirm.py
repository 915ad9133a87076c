"""`study.confirm`: train the recommendation, and the trial to compare with, with seeds that no trial has used."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, overload

from hyppo import launch
from hyppo.analysis.confirmation import Confirmation, confirmation_of, is_clear
from hyppo.arguments import quoted, whole
from hyppo.config import CONFIRMATION, ENSEMBLE_LOSS
from hyppo.errors import StudyError
from hyppo.loop import Options, Session
from hyppo.loop.queue import Queue
from hyppo.run.work import options_of, work
from hyppo.search.budget import UNKNOWN, Left
from hyppo.seeds import seed_for
from hyppo.study import Study
from hyppo.training.replica import Task
from hyppo.trial import Asked, State, Trial

GROWTH = 1.5  # factor for the number of confirmations between two checks of the result


class _Confirmed(Sequence[Trial]):
    """Trials of which only the first confirmations count, as their replicas; other trials have none."""

    def __init__(self, trials: Sequence[Trial], numbers: Sequence[int], count: int) -> None:
        self._trials, self._numbers, self._end = trials, numbers, CONFIRMATION + count

    def __len__(self) -> int:
        return len(self._trials)

    @overload
    def __getitem__(self, at: int) -> Trial: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Trial]: ...
    def __getitem__(self, at: int | slice) -> Trial | Sequence[Trial]:
        if isinstance(at, slice):
            return [self[number] for number in range(len(self))[at]]
        trial = self._trials[at]
        own = trial.confirmations if trial.number in self._numbers else ()
        return replace(trial, replicas=tuple(r for r in own if r.index < self._end), confirmations=())

    def __iter__(self) -> Iterator[Trial]:
        return (self[number] for number in range(len(self)))


class _InTurn(Queue):
    """Confirmations of two trials, alternating: a change of the machine's load affects both equally."""

    def take(self, group: int) -> Task | None:
        if not self._tasks:
            return None
        return self._pop(min(self._tasks, key=lambda trial: self._tasks[trial][0].index), group)


class ConfirmSession(Session):
    """One run of confirmations: the loop gets these in place of replicas, and no other trainings.

    Attributes
    ----------
    numbers : tuple of int
        Trials to confirm.
    count : int
        Total number of confirmations of each.
    """

    confirms = True

    def __init__(self, study: Study, numbers: Sequence[int], count: int) -> None:
        super().__init__(study)
        self.evaluates = study.target == ENSEMBLE_LOSS
        self.config = replace(study.config, stopping=None, replicas=(1, 1))
        self.numbers = tuple(numbers)
        self.count = count
        self._ask_all()

    def _ask_all(self) -> None:
        """Log the confirmations that are not in the log yet."""
        now = time.time()
        asked: list[Asked] = []
        for number in self.numbers:
            trial = self.study.trials[number]
            known = {r.index for r in trial.confirmations}
            wanted = [index for index in range(CONFIRMATION, CONFIRMATION + self.count) if index not in known]
            seeds = tuple((index, seed_for(self.config.seed, number, index)) for index in wanted)
            if seeds:
                asked.append(Asked(number, trial.params, seeds, {"by": "confirm"}, now))
        if asked:
            with self.study._lock:
                self.study._record(*asked)

    @property
    def trials(self) -> Sequence[Trial]:
        return _Confirmed(self.known, self.numbers, self.count)

    @property
    def exhausted(self) -> bool:
        return False

    @property
    def undecided(self) -> bool:
        return False

    def ask(self, count: int, left: Left = UNKNOWN) -> Sequence[Trial]:
        return ()

    def queue(self) -> Queue:
        return _InTurn()

    def plan(self, options: Options) -> None:
        self._log_budget({"confirmations": options.trainings})

    @property
    def is_complete(self) -> bool:
        """Whether every confirmation has ended."""
        return all(r.state is not State.PENDING for number in self.numbers for r in self.trials[number].replicas)


def confirm(
    study: Study,
    replicas: int | tuple[int, int] = 10,
    against: int | str | None = None,
    **options: Any,
) -> Confirmation:
    """Train the recommendation again; see `Study.confirm`."""
    launch.serve_if_worker()
    launch.refuse_ranks_of_torchrun()
    if study.objective is None:
        raise StudyError("this study has no objective to train: Study(space, train, ...)")
    fewest, most = _range_of(replicas)
    chosen = replace(options_of("confirm", **options), trials=None, trainings=None, time_limit=None)
    retry_failed, chosen = chosen.retry_failed, replace(chosen, retry_failed=False)
    best = study.best
    numbers = [best.number]
    if against is not None:
        other = study._named(against)
        if against == "best":
            raise StudyError(f"against: trial {other.number} is the recommended one; compare it with another trial")
        if other.number != best.number:  # or the search found nothing better than the baseline
            numbers.append(other.number)
    if retry_failed:
        ConfirmSession(study, numbers, fewest).retry_failed()
    count = fewest
    while True:
        session = ConfirmSession(study, numbers, count)
        if not session.is_complete:
            work(session, replace(chosen, trainings=len(numbers) * count))
        trials = [study.trials[number] for number in numbers]
        if not session.is_complete:
            raise StudyError("the confirmation was interrupted; the same call continues it")
        if count >= most or is_clear(trials, count, best.interval, study.config):
            study.close()
            return confirmation_of(study, trials, count, best.interval)
        count = min(most, math.ceil(GROWTH * count))


def _range_of(replicas: Any) -> tuple[int, int]:
    """The fewest and the most confirmations."""
    pair = replicas if isinstance(replicas, tuple | list) else (replicas, replicas)
    if len(pair) == 2:
        fewest, most = (whole("replicas", r, least=2) for r in pair)
        if fewest <= most:
            return fewest, most
    raise StudyError(f"replicas: expected a number of at least 2, or (fewest, most), got {quoted(replicas)}")
