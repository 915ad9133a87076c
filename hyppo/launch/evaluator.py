"""Where the criterion of a trial's mean prediction is evaluated. See `hyppo.loop.Evaluator`."""

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from hyppo.errors import LaunchError, ObjectiveError
from hyppo.launch.process import Limits, TrainingProcess
from hyppo.launch.surroundings import environment
from hyppo.launch.wire import ByName
from hyppo.training.ensemble_loss import CRITERION, DIRECTORIES, ensemble_loss, evaluate
from hyppo.training.replica import Outcome, Task

FOLDER = "ensemble"  # beside the replicas' folders, for what a criterion prints
LONGEST = 600.0  # s; a criterion over whole predictions, with the imports that it needs


class InThisProcess:
    """Evaluates in this process, for a run whose trainings are here too."""

    def submit(self, trial: int, directories: Sequence[str], criterion: bytes) -> Future[float]:
        future: Future[float] = Future()
        try:
            future.set_result(ensemble_loss(directories, criterion))
        except Exception as error:  # whatever a criterion raises
            future.set_exception(error)
        return future

    def poll(self) -> None:
        pass

    def close(self) -> None:
        pass


class InOwnProcess:
    """Evaluates in one child process, started at the first evaluation; it sees no GPU."""

    def __init__(self) -> None:
        environ = environment(None, 1, {"CUDA_VISIBLE_DEVICES": ""})
        self._process = TrainingProcess(environ, Limits(replica_timeout=LONGEST))
        self._future: Future[float] | None = None

    def submit(self, trial: int, directories: Sequence[str], criterion: bytes) -> Future[float]:
        future: Future[float] = Future()
        params = {DIRECTORIES: list(directories), CRITERION: criterion}
        task = Task(trial, 0, 0, params, str(Path(directories[0]).parent / FOLDER))
        try:
            self._process.train(task, 0, ByName(evaluate.__module__, evaluate.__qualname__))
        except LaunchError as error:
            future.set_exception(error)
        else:
            self._future = future
        return future

    def poll(self) -> None:
        try:
            ending = self._process.poll()
        except LaunchError as error:
            self._end(error)
            return
        if isinstance(ending, Outcome) and ending.loss is not None:
            self._end(ending.loss)
        elif isinstance(ending, Outcome):
            self._end(ObjectiveError(str(ending.failure)))
        elif ending is not None:
            self._end(ending)

    def _end(self, how: float | BaseException) -> None:
        future, self._future = self._future, None
        if future is None:
            return
        if isinstance(how, BaseException):
            future.set_exception(how)
        else:
            future.set_result(how)

    def close(self) -> None:
        self._process.close()
        self._future = None
