"""The workers of one machine: this process, its children, or an executor of the user's. See `hyppo.loop.Workers`."""

import concurrent.futures
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from hyppo.errors import LaunchError, StudyError
from hyppo.launch.objective import Shipment, find
from hyppo.launch.process import OUTPUT, Ending, Limits, NotShipped, OnOutput, TrainingProcess
from hyppo.launch.surroundings import environment, usable_cpus, visible_gpus
from hyppo.launch.wire import Place, Reference, Unready, readable
from hyppo.loop import Progressed, Stopped
from hyppo.replica import Failure, Outcome, Replica, Task
from hyppo.training import train

Objective = Callable[[Replica], Any]
Say = Callable[[str], None]


def settle_future(future: Future[Outcome], ending: Ending) -> None:
    """Pass on how a training ended: an outcome as a result, anything else as an exception."""
    if isinstance(ending, Outcome):
        future.set_result(ending)
    else:
        future.set_exception(ending)


class InProcess:
    """Trains in this very process, one training at a time: no protection from crashes, no cost of a process."""

    def __init__(self, objective: Objective) -> None:
        self.groups: Sequence[int] = (0,)
        self._objective = objective
        self._waiting: list[tuple[Task, Future[Outcome]]] = []
        self._reports: list[Progressed] = []
        self._stopping = False
        self._halted: set[tuple[int, int]] = set()
        self._heard: Callable[[], None] = lambda: None

    @property
    def busy(self) -> bool:
        return bool(self._waiting)

    def submit(self, task: Task, slot: int) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        self.adopt(task, future)
        return future

    def adopt(self, task: Task, future: Future[Outcome]) -> None:
        """Train `task` at the next `wait`, and settle `future` with it."""
        self._waiting.append((task, future))

    def wait(self, timeout: float) -> None:
        if not self._waiting:
            time.sleep(timeout)
        for task, future in self._waiting:
            heeded = False

            def stop_asked(task: Task = task) -> bool:
                nonlocal heeded
                asked = self._stopping or (task.trial, task.index) in self._halted
                heeded = heeded or asked
                return asked

            def report(step: int, loss: float, task: Task = task) -> None:
                self._reports.append(Progressed(task.trial, task.index, step, loss))
                self._heard()

            outcome = train(self._objective, Replica(task, on_report=report, stop_asked=stop_asked))
            self._halted.discard((task.trial, task.index))
            settle_future(future, Stopped(outcome) if heeded else outcome)
        self._waiting.clear()

    def reports(self) -> list[Progressed]:
        reports, self._reports = self._reports, []
        return reports

    def stop(self) -> None:
        self._stopping = True

    def halt(self, task: Task) -> None:
        if any(task == its for its, _ in self._waiting):
            self._halted.add((task.trial, task.index))

    def listen(self, heard: Callable[[], None]) -> None:
        self._heard = heard

    def close(self) -> None:
        self._waiting.clear()


@dataclass(slots=True)
class _Slot:
    process: TrainingProcess
    future: Future[Outcome] | None = None
    key: int = 0


class LocalProcesses:
    """Trains in child processes of this one, `count` at a time; each is started at its first training, and kept.

    An objective that no process can have is trained here instead, one training at a time. GPUs are handed out in turn,
    one to a process.

    Parameters
    ----------
    objective : callable
    count : int
    limits : Limits, optional
    threads : int, optional
        Compute threads of each; by default OMP_NUM_THREADS, or else the CPUs divided among them.
    output : str or callable
        See `TrainingProcess`.
    say : callable
        Gets notices, one line each.
    """

    def __init__(
        self,
        objective: Objective,
        count: int = 1,
        limits: Limits | None = None,
        threads: int | None = None,
        output: str | OnOutput = OUTPUT,
        say: Say = print,
    ) -> None:
        if count < 1:
            raise LaunchError(f"workers={count}: at least one training process is needed")
        share = max(1, usable_cpus() // count)
        gpus = visible_gpus()
        self._place = Place(devices=(0,) if gpus else ())  # the one that it sees, under its own number
        self.groups: Sequence[int] = (0,) * count
        self._shipment = Shipment(objective)
        self._here = InProcess(objective)
        self._say = say
        self._said = False
        self._slots = []
        for slot in range(count):
            environ = environment(threads, share, {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else None)
            self._slots.append(_Slot(TrainingProcess(environ, limits or Limits(), output)))
        self._reports: list[Progressed] = []

    def submit(self, task: Task, slot: int) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        self._start(self._slots[slot], task, future)
        return future

    def _start(self, slot: _Slot, task: Task, future: Future[Outcome]) -> None:
        if self._shipment.reference is None:
            if not self._said:
                self._say(f"trains in this process, without protection from crashes: {self._shipment.why_not}")
                self._said = True
            self._here.adopt(task, future)
        else:
            slot.process.train(task, self._shipment.key, self._shipment.reference, self._place)
            slot.future, slot.key = future, self._shipment.key

    def wait(self, timeout: float) -> None:
        if self._here.busy:
            self._here.wait(0.0)
            timeout = 0.0
        for slot in self._slots:
            if (deadline := slot.process.deadline) is not None:
                timeout = min(timeout, max(0.0, deadline - time.monotonic()) + 0.001)
        # Idle processes are watched too: one that prints must not fill its pipe.
        readable((fd for slot in self._slots for fd in slot.process.files), timeout)
        for slot in self._slots:
            task, future = slot.process.task, slot.future
            ending = slot.process.pump()
            if task is not None:
                self._reports += [Progressed(task.trial, task.index, *report) for report in slot.process.reports]
            slot.process.reports.clear()
            if ending is None or task is None or future is None:
                continue
            slot.future = None
            if isinstance(ending, NotShipped):
                self._shipment.refused(slot.key, ending.failure)
                self._start(slot, task, future)
            else:
                settle_future(future, ending)

    def reports(self) -> list[Progressed]:
        reports, self._reports = self._reports + self._here.reports(), []
        return reports

    def stop(self) -> None:
        for slot in self._slots:
            slot.process.stop()
        self._here.stop()

    def halt(self, task: Task) -> None:
        for slot in self._slots:
            if slot.process.task == task:
                slot.process.stop()
        self._here.halt(task)

    def listen(self, heard: Callable[[], None]) -> None:
        self._here.listen(heard)

    def close(self) -> None:
        for slot in self._slots:
            slot.process.close()
            slot.future = None
        self._here.close()


def _train_elsewhere(reference: Reference, task: Task) -> Outcome | Unready:
    """One training on an executor's worker."""
    try:
        objective = find(reference)
    except Exception as error:  # whatever importing the user's modules, or loading what he pickled, raises
        return Unready(Failure.of(error))
    return train(objective, Replica(task))


class OnExecutor:
    """Trains on any `concurrent.futures.Executor`: a pool of processes or threads, dask's, mpi4py's.

    It can neither report while it trains, nor be asked to stop, nor outlive a killed worker of a process pool. The
    objective goes by name, and by value where a worker does not find that name: dask's workers do not know the script.

    Parameters
    ----------
    objective : callable
    executor : concurrent.futures.Executor
    count : int, optional
        Trainings at a time; by default what the executor says of itself.
    """

    def __init__(self, objective: Objective, executor: concurrent.futures.Executor, count: int | None = None) -> None:
        if count is None:
            count = getattr(executor, "_max_workers", None) or getattr(executor, "num_workers", None)
        if not isinstance(count, int) or count < 1:
            raise StudyError(
                f"{type(executor).__name__} does not say how many workers it has: give run(executor=..., workers=n)"
            )
        self.groups: Sequence[int] = (0,) * count
        self._executor = executor
        self._shipment = Shipment(objective)
        self._running: dict[Future[Outcome | Unready], tuple[Task, int, Future[Outcome]]] = {}
        if self._shipment.reference is None:
            raise LaunchError(self._shipment.why_not)

    def submit(self, task: Task, slot: int) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        self._start(task, future)
        return future

    def _start(self, task: Task, future: Future[Outcome]) -> None:
        if self._shipment.reference is None:
            future.set_exception(LaunchError(self._shipment.why_not))
            return
        remote = self._executor.submit(_train_elsewhere, self._shipment.reference, task)
        self._running[remote] = task, self._shipment.key, future

    def wait(self, timeout: float) -> None:
        if not self._running:
            time.sleep(timeout)
            return
        done, _ = concurrent.futures.wait(self._running, timeout, concurrent.futures.FIRST_COMPLETED)
        for remote in done:
            task, key, future = self._running.pop(remote)
            if remote.cancelled():
                future.set_exception(Stopped())
            elif (error := remote.exception()) is not None:
                lost = LaunchError(f"the executor lost a training: {type(error).__name__}: {error}")
                lost.__cause__ = error
                future.set_exception(lost)
            elif isinstance(ending := remote.result(), Unready):
                self._shipment.refused(key, ending.failure)
                self._start(task, future)
            else:
                future.set_result(ending)

    def reports(self) -> list[Progressed]:
        return []

    def stop(self) -> None:
        for remote in self._running:
            remote.cancel()

    def halt(self, task: Task) -> None:
        pass

    def listen(self, heard: Callable[[], None]) -> None:
        pass

    def close(self) -> None:
        self.stop()
        self._running.clear()
