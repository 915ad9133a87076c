"""Workers on an executor of the user's: dask, mpi4py.futures, Ray, a process pool. See `hyppo.loop.Workers`."""

import concurrent.futures
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from hyppo.arguments import quoted
from hyppo.config import named
from hyppo.errors import LaunchError, StudyError
from hyppo.launch.objective import ObjectiveTransport, find, script
from hyppo.launch.wire import ByName, Reference, Unready
from hyppo.loop import Progressed, Stopped
from hyppo.text import error_line
from hyppo.training.call import train
from hyppo.training.replica import Failure, Outcome, Replica, Task

Objective = Callable[[Replica], Any]

EXPECTED = "executor: expected a concurrent.futures.Executor (ProcessPoolExecutor(4), client.get_executor() of dask)"


def _train_elsewhere(reference: Reference, main: str | None, task: Task) -> Outcome | Unready:
    """One training on an executor's worker; `main` is the path of the script that runs the study.

    Workers such as dask's run a program of their own as `__main__`, which may have a function of the same name.
    """
    try:
        if isinstance(reference, ByName) and reference.module == "__main__" and _path_of_main() != main:
            raise ImportError(f"__main__ of a worker is not {main}")
        objective = find(reference)
    except Exception as error:  # the user's modules cannot be imported, or the pickle cannot be loaded
        return Unready(Failure.of(error))
    return train(objective, Replica(task))


def _path_of_main() -> str | None:
    main = script()
    return None if main is None else main.path


def _lost(what: str, error: BaseException) -> LaunchError:
    lost = LaunchError(f"the executor {what}: {error_line(error)}")
    lost.__cause__ = error
    return lost


class OnExecutor:
    """Trains on any `concurrent.futures.Executor` whose workers are processes: a process pool, dask's, mpi4py's.

    It can neither report while it trains, nor be asked to stop, nor outlive a killed worker of a process pool. The
    objective goes by name, and by value where a worker does not find that name: dask's workers do not know the script.

    Parameters
    ----------
    objective : callable
    executor : concurrent.futures.Executor
    count : int, optional
        Trainings at a time; by default the executor's number of workers.
    """

    def __init__(self, objective: Objective, executor: concurrent.futures.Executor, count: int | None = None) -> None:
        if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
            raise StudyError(f"{EXPECTED}, got {quoted(executor)}")
        if count is None:
            count = getattr(executor, "_max_workers", None) or getattr(executor, "num_workers", None)
        if not isinstance(count, int) or count < 1:
            raise StudyError(
                f"{type(executor).__name__} does not say how many workers it has: give run(executor=..., workers=n)"
            )
        self.groups: Sequence[int] = (0,) * count
        self._executor = executor
        self._transport = ObjectiveTransport(objective)
        self._main = _path_of_main()
        self._running: dict[Future[Outcome | Unready], tuple[Task, int, Future[Outcome]]] = {}
        if self._transport.reference is None:
            raise LaunchError(self._transport.why_not)

    def submit(self, task: Task, slot: int) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        self._start(task, future)
        return future

    def _start(self, task: Task, future: Future[Outcome]) -> None:
        if self._transport.reference is None:
            future.set_exception(LaunchError(self._transport.why_not))
            return
        try:
            remote = self._executor.submit(_train_elsewhere, self._transport.reference, self._main, task)
        except Exception as error:  # it was shut down, has lost its workers, or has no place
            future.set_exception(_lost(f"refused {named(task.trial, task.index)}", error))
            return
        if not isinstance(remote, Future):
            what = f"{type(remote).__module__}.{type(remote).__qualname__}"
            future.set_exception(StudyError(f"{EXPECTED}, got {quoted(self._executor)}, whose submit returns a {what}"))
            return
        self._running[remote] = task, self._transport.key, future

    def wait(self, timeout: float) -> None:
        if not self._running:
            time.sleep(timeout)
            return
        done, _ = concurrent.futures.wait(self._running, timeout, concurrent.futures.FIRST_COMPLETED)
        for remote in done:
            task, key, future = self._running.pop(remote)
            training = named(task.trial, task.index)
            if remote.cancelled():
                future.set_exception(LaunchError(f"the executor cancelled {training}"))
            elif (error := remote.exception()) is not None:
                future.set_exception(error if isinstance(error, LaunchError) else _lost(f"lost {training}", error))
            elif isinstance(ending := remote.result(), Unready):
                self._transport.fall_back(key, ending.failure)
                self._start(task, future)
            elif isinstance(ending, Outcome):
                future.set_result(ending)
            else:
                future.set_exception(
                    LaunchError(f"the executor must return the function's result, not {quoted(ending)}")
                )

    def reports(self) -> list[Progressed]:
        return []

    def request_stop(self, task: Task | None = None) -> None:
        """Cancel waiting trainings; a training that runs on an executor cannot be reached.

        The futures of dask and Ray never say that they run: then each may run, and none is cancelled.
        """
        if task is None and any(remote.running() for remote in self._running):
            for remote, (_, _, future) in tuple(self._running.items()):
                if remote.cancel():
                    del self._running[remote]
                    future.set_exception(Stopped())

    def on_report(self, callback: Callable[[], None]) -> None:
        pass

    def close(self) -> None:
        for remote in self._running:
            remote.cancel()
        self._running.clear()
