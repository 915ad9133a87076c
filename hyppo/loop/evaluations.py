"""Trainings that have ended and wait for the criterion of their trial's mean prediction."""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future

from hyppo.loop.protocols import Evaluator
from hyppo.loop.session import Session
from hyppo.training.replica import Outcome, Task

Ended = list[tuple[Task, Outcome]]


class Evaluations:
    """A queue of trials whose mean prediction has changed, evaluated one at a time.

    A criterion that raises, or predictions that do not fit together, cost no loss: the ensemble loss is then unknown,
    and the first notice says why.

    Attributes
    ----------
    taken, released : int
        Number of trainings that were added, and that were released, so far.
    """

    def __init__(self, session: Session, evaluator: Evaluator | None, say: Callable[[str], None]) -> None:
        self.taken = self.released = 0
        self._session = session
        self._evaluator = evaluator
        self._say = say
        self._said = False
        self._waiting: OrderedDict[int, Ended] = OrderedDict()  # by trial
        self._current: tuple[int, Ended, Future[float]] | None = None

    def __bool__(self) -> bool:
        return self.released < self.taken

    def add(self, task: Task, outcome: Outcome) -> bool:
        """Take a training that changes its trial's mean prediction; False if it does not."""
        known = self._session.packed_criterion is not None or outcome.criterion is not None
        if self._evaluator is None or not known or outcome.loss is None or outcome.losses is None:
            return False
        self._waiting.setdefault(task.trial, []).append((task, outcome))
        self.taken += 1
        return True

    def of(self, trial: int) -> Ended:
        """The trainings of a trial that wait."""
        current = self._current[1] if self._current is not None and self._current[0] == trial else []
        return current + self._waiting.get(trial, [])

    def poll(self) -> Iterator[tuple[Ended, dict[int, float | None]]]:
        """The trainings whose evaluation has ended, with the ensemble loss by trial; start the next evaluation.

        Settle each before taking the next, which may be of the same trial.
        """
        while self._evaluator is not None and self:
            if self._current is None:
                self._current = self._start()
            self._evaluator.poll()
            trial, ended, future = self._current
            if not future.done():
                return
            self._current = None
            self.released += len(ended)
            yield ended, {trial: self._loss(trial, future)}

    def give_up(self) -> Ended:
        """All trainings that wait: their ensemble losses stay unknown."""
        ended = [] if self._current is None else list(self._current[1])
        ended += [one for waiting in self._waiting.values() for one in waiting]
        self._current = None
        self._waiting.clear()
        self.released = self.taken
        return ended

    def _start(self) -> tuple[int, Ended, Future[float]]:
        assert self._evaluator is not None
        trial, ended = self._waiting.popitem(last=False)
        criterion = self._session.packed_criterion or next(o.criterion for _, o in ended if o.criterion is not None)
        indices = {r.index for r in self._session.trials[trial].replicas if r.loss is not None}
        indices |= {task.index for task, _ in ended}
        directories = [str(self._session.directory(trial, index)) for index in sorted(indices)]
        return trial, ended, self._evaluator.submit(trial, directories, criterion)

    def _loss(self, trial: int, future: Future[float]) -> float | None:
        error = future.exception()
        if error is None and math.isfinite(loss := future.result()):
            return loss
        if not self._said:
            self._said = True
            why = f"the criterion is {future.result()}" if error is None else str(error)
            self._say(
                f"trial {trial}: the loss of the replicas' mean prediction is unknown ({why}); the losses of the "
                "trainings are kept. Further such trials are not announced"
            )
        return None
