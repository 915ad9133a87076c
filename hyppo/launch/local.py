"""The workers of one machine: this process, or its children. See `hyppo.loop.Workers`."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from hyppo.errors import LaunchError, StudyError
from hyppo.launch.objective import ObjectiveTransport
from hyppo.launch.output import OUTPUT, OnOutput, ShowOnce
from hyppo.launch.process import Ending, Limits, ObjectiveUnavailable, TrainingProcess
from hyppo.launch.surroundings import environment, usable_cpus, visible_gpus
from hyppo.launch.wire import Place, readable
from hyppo.loop import Progressed, Stopped
from hyppo.training.call import train
from hyppo.training.replica import Outcome, Replica, Task

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
        self._asked_to_stop: set[tuple[int, int]] = set()
        self._callback: Callable[[], None] = lambda: None
        self._pid = os.getpid()

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
            saw_stop = False

            def stop_asked(task: Task = task) -> bool:
                nonlocal saw_stop
                self._call_back()
                asked = self._stopping or (task.trial, task.index) in self._asked_to_stop
                saw_stop = saw_stop or asked
                return asked

            def report(step: int, loss: float, task: Task = task) -> None:
                self._reports.append(Progressed(task.trial, task.index, step, loss))
                self._call_back()

            outcome = train(self._objective, Replica(task, on_report=report, stop_asked=stop_asked))
            self._asked_to_stop.discard((task.trial, task.index))
            settle_future(future, Stopped(outcome) if saw_stop and not outcome.whole else outcome)
        self._waiting.clear()

    def reports(self) -> list[Progressed]:
        reports, self._reports = self._reports, []
        return reports

    def request_stop(self, task: Task | None = None) -> None:
        if task is None:
            self._stopping = True
        elif any(task == its for its, _ in self._waiting):
            self._asked_to_stop.add((task.trial, task.index))

    def on_report(self, callback: Callable[[], None]) -> None:
        self._callback = callback

    def _call_back(self) -> None:
        if os.getpid() == self._pid:  # not in a process that the training forked
            self._callback()

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
    output, on_line, root
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
        output: str | None = OUTPUT,
        on_line: OnOutput | None = None,
        say: Say = print,
        root: int = 0,
    ) -> None:
        if count < 1:
            raise LaunchError(f"workers={count}: at least one training process is needed")
        share = max(1, usable_cpus() // count)
        gpus = visible_gpus()
        self._place = Place(devices=(0,) if gpus else ())  # device numbers count the visible devices only
        self.groups: Sequence[int] = (0,) * count
        self._transport = ObjectiveTransport(objective)
        self._here = InProcess(objective)
        self._limits = limits or Limits()
        self._say = ShowOnce(say)
        self._slots = []
        for slot in range(count):
            environ = environment(threads, share, {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else None)
            process = TrainingProcess(environ, self._limits, output, on_line, self._notice, root)
            self._slots.append(_Slot(process))
        self._reports: list[Progressed] = []

    def submit(self, task: Task, slot: int) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        self._start(self._slots[slot], task, future)
        return future

    def _start(self, slot: _Slot, task: Task, future: Future[Outcome]) -> None:
        if self._transport.reference is None:
            if self._limits != Limits():
                future.set_exception(
                    StudyError(
                        "replica_timeout, stall_timeout and memory_limit: a training in this process cannot be killed, "
                        f"and {self._transport.why_not}; or leave the limits out"
                    )
                )
                return
            self._say(
                "trains in this process, one training at a time and without protection from crashes: "
                f"{self._transport.why_not}"
            )
            self._here.adopt(task, future)
        else:
            slot.process.train(task, self._transport.key, self._transport.reference, self._place)
            slot.future, slot.key = future, self._transport.key

    def _notice(self, task: Task, text: str) -> None:
        self._say(text)

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
            ending = slot.process.poll()
            if task is not None:
                self._reports += [Progressed(task.trial, task.index, *report) for report in slot.process.reports]
            slot.process.reports.clear()
            if ending is None or task is None or future is None:
                continue
            slot.future = None
            if isinstance(ending, ObjectiveUnavailable):
                self._transport.fall_back(slot.key, ending.failure)
                self._start(slot, task, future)
            else:
                settle_future(future, ending)

    def reports(self) -> list[Progressed]:
        reports, self._reports = self._reports + self._here.reports(), []
        return reports

    def request_stop(self, task: Task | None = None) -> None:
        for slot in self._slots:
            if task is None or slot.process.task == task:
                slot.process.request_stop()
        self._here.request_stop(task)

    def on_report(self, callback: Callable[[], None]) -> None:
        self._here.on_report(callback)

    def close(self) -> None:
        for slot in self._slots:
            slot.process.leave()
            slot.future = None
        for slot in self._slots:  # all of them leave at once
            slot.process.close()
        self._here.close()
