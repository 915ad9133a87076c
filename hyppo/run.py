"""The one loop: asks when a slot is free, submits, settles what ends. It speaks to a study and to workers by protocol.

    queue      replicas that are pending and not submitted; those that the log had come first
    running    future -> (task, slot)
    busy       share of its time that the loop would search, were each point searched when its slot is free

A point is asked only when a slot is free for it, so that every ask knows all losses there are: as many points in one
search as slots are free. Only where the loop would be busy, since trainings are short or slots are many, points are
asked ahead, several in a search, and slots do not wait for it. Each is then older than its training by as many losses
as there are points ahead of it, and those that come in meanwhile. Losses that wait together are settled in one append
to the log.
"""

import math
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from types import FrameType
from typing import Any, Protocol

from hyppo.errors import ObjectiveError, StudyError
from hyppo.replica import Outcome, Replica, Task
from hyppo.stopping import Curves, Rule
from hyppo.trial import State, Trial

BUSY = 0.1  # above this points are asked ahead
AHEAD = 4  # points ahead, or half as many as there are slots; on many slots a sixteenth of them
LOOK = 0.2  # s; how long a signal may wait for an answer, and a view to be told
# The process died or hung, and not by an exception of the user's function: only these are worth a retry.
PROCESS_FAILURES = frozenset({"Killed", "Exited", "TimedOut", "Stalled"})
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@dataclass(frozen=True, slots=True)
class Progressed:
    """A replica that trains has reported."""

    trial: int
    index: int
    step: int
    loss: float


class Workers(Protocol):
    """What trains. Slots are numbered from 0; one slot trains one replica at a time.

    `groups` holds the trial group of each slot. A future ends with an `Outcome`, with `Stopped` where a training was
    cut short and is to be had again, or with the error that keeps any training from being had.
    """

    groups: Sequence[int]

    def submit(self, task: Task, slot: int) -> Future[Outcome]:
        """Start one training on a free slot; does not wait."""

    def wait(self, timeout: float) -> None:
        """Return when a training ended or reported, or after `timeout` seconds."""

    def reports(self) -> list[Progressed]:
        """What was reported since the last call."""

    def stop(self) -> None:
        """Ask the trainings that run to end soon."""

    def halt(self, task: Task) -> None:
        """Ask one training to end soon, if it runs."""

    def listen(self, heard: Callable[[], None]) -> None:
        """Call `heard` at each report of a training that keeps `wait` from returning."""

    def close(self) -> None:
        """End every training that still runs, and the processes that are of this run alone."""


class Stopped(Exception):
    """A training that ended early because it was asked to.

    It stays pending, and is trained again, whole; unless the study's rule gave it up.
    """

    def __init__(self, outcome: Outcome | None = None) -> None:
        super().__init__(outcome)  # what pickle makes it from again
        self.outcome = outcome


class StudyLike(Protocol):
    """What the loop needs of a study."""

    objective: Callable[[Replica], Any] | None
    isolate: bool
    replicas: tuple[int, int]
    stopping: Rule | None

    @property
    def trials(self) -> tuple[Trial, ...]: ...
    @property
    def exhausted(self) -> bool: ...
    @property
    def best(self) -> Any: ...
    def ask(self) -> Trial: ...
    def ask_batch(self, count: int) -> Sequence[Trial]: ...
    def tasks(self, trial: Trial) -> list[Task]: ...
    def settle(self, outcomes: Sequence[tuple[Task, Outcome]]) -> None: ...
    def note(self, text: str) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Options:
    """Arguments of `study.run`.

    Parameters
    ----------
    trials, trainings : int, optional
        Trials, or replicas, in all: those in the log, failed and added ones count, retries do not.
    time_limit : float, optional
        Seconds of this call after which nothing new is started; what runs is finished.
    trial_groups, replica_groups, data_parallel : int, optional
        How MPI ranks are divided; what is left out is chosen.
    manager : {"dedicated", "shared"}, optional
        Whether the first rank only asks, or trains as well; by default it does where a GPU would idle otherwise.
    replica_timeout, stall_timeout : float, optional
        Seconds that a training may take, and that it may go without a report, before it is killed and has failed.
    memory_limit : float, optional
        GB that a training process may hold before it is killed and has failed (Linux).
    retries : int
        Further tries of a replica whose process died or was killed for taking too long, with the same seed.
    grace : float
        Seconds that trainings get to end by themselves once a stop is asked.
    threads : int, optional
        Compute threads of each training process; by default one under MPI, and alone what the CPUs allow.
    workers : int, optional
        Training processes without MPI (default 1), or trainings at a time on an executor.
    executor : concurrent.futures.Executor, optional
        Where to train instead.
    progress : bool
        Show how it goes, on stderr.
    output : {"relay", "file"}, optional
        Where what trainings print goes: to stdout with a prefix (default alone), or to `output.txt` in the replica's
        directory (default under MPI).
    """

    trials: int | None = None
    trainings: int | None = None
    time_limit: float | None = None
    trial_groups: int | None = None
    replica_groups: int | None = None
    data_parallel: int | None = None
    manager: str | None = None
    replica_timeout: float | None = None
    stall_timeout: float | None = None
    memory_limit: float | None = None
    retries: int = 0
    grace: float = 30.0
    threads: int | None = None
    workers: int | None = None
    executor: Executor | None = None
    progress: bool = True
    output: str | None = None

    def __post_init__(self) -> None:
        for name in ("trials", "trainings", "trial_groups", "replica_groups", "data_parallel", "threads", "workers"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise StudyError(f"{name}: expected an integer of at least 1, got {value!r}")
        for name in ("time_limit", "replica_timeout", "stall_timeout", "memory_limit"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
                unit = "GB" if name == "memory_limit" else "seconds"
                raise StudyError(f"{name}: expected {unit}, more than 0, got {value!r}")
        if isinstance(self.retries, bool) or not isinstance(self.retries, int) or self.retries < 0:
            raise StudyError(f"retries: expected an integer of at least 0, got {self.retries!r}")
        if isinstance(self.grace, bool) or not isinstance(self.grace, int | float) or not self.grace >= 0:
            raise StudyError(f"grace: expected seconds, at least 0, got {self.grace!r}")
        if self.manager not in (None, "dedicated", "shared"):
            raise StudyError(f"manager: expected 'dedicated' or 'shared', got {self.manager!r}")
        if self.output not in (None, "relay", "file"):
            raise StudyError(f"output: expected 'relay' or 'file', got {self.output!r}")

    def overridden(self, environ: Mapping[str, str]) -> "Options":
        """The same with what `HYPPO_TRIALS`, `HYPPO_TIME_LIMIT`, ... say instead.

        >>> Options(trials=60).overridden({"HYPPO_TRIALS": "5", "HYPPO_GRACE": "1.5"}).trials
        5
        """
        changes: dict[str, Any] = {}
        for name, kind in OVERRIDES.items():
            text = environ.get(f"HYPPO_{name.upper()}")
            if text is None or text == "":
                continue
            try:
                changes[name] = kind(text)
            except ValueError:
                raise StudyError(f"HYPPO_{name.upper()}: expected {kind.__name__}, got {text!r}") from None
        return replace(self, **changes)


def switch(text: str) -> bool:
    """A yes or no from the environment."""
    if text.lower() not in ("0", "1", "true", "false", "yes", "no", "on", "off"):
        raise ValueError(text)
    return text.lower() in ("1", "true", "yes", "on")


OVERRIDES: dict[str, Callable[[str], Any]] = {
    "trials": int,
    "trainings": int,
    "time_limit": float,
    "trial_groups": int,
    "replica_groups": int,
    "data_parallel": int,
    "manager": str,
    "replica_timeout": float,
    "stall_timeout": float,
    "memory_limit": float,
    "retries": int,
    "grace": float,
    "threads": int,
    "workers": int,
    "progress": switch,
    "output": str,
}


def given_up(outcome: Outcome) -> Outcome:
    """How a training ended whose trial the rule gave up: with neither a loss nor a failure."""
    return replace(outcome, loss=None, failure=None, losses=None, pruned=True)


class Interrupt:
    """While entered, SIGINT, SIGTERM and SIGUSR1 ask for a stop instead of ending this process.

    `asked` holds the signal that came. A second Ctrl-C raises `KeyboardInterrupt` at once.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python takes no handlers
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            # None: it was not set from Python, and only the default can be set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = self.asked or signal.Signals(number)


@dataclass(frozen=True, slots=True)
class Running:
    """One training under way: since when (monotonic seconds), and what it reported last."""

    task: Task
    since: float
    step: int | None = None
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """What there is to show of a run."""

    trials: int
    trials_settled: int
    trainings: int
    failed: int
    running: tuple[Running, ...]
    elapsed: float


class View(Protocol):
    """What shows how a run goes."""

    def say(self, text: str) -> None:
        """Show one notice."""

    def failed(self, task: Task, outcome: Outcome) -> None:
        """A training has failed."""

    def show(self, status: Status, force: bool = False) -> None:
        """Show where the run is, if it is time to."""


class Queue:
    """Replicas that wait for a slot, by the trial group that works on their trial: its home."""

    def __init__(self) -> None:
        self._tasks: OrderedDict[int, deque[Task]] = OrderedDict()  # by trial
        self._home: dict[int, int] = {}  # trial -> group
        self._trials: dict[int | None, OrderedDict[int, None]] = {}  # home -> its trials in the queue

    def __len__(self) -> int:
        return sum(len(tasks) for tasks in self._tasks.values())

    @property
    def trials(self) -> Sequence[int]:
        return tuple(self._tasks)

    def add(self, task: Task, first: bool = False) -> None:
        trials = self._trials.setdefault(self._home.get(task.trial), OrderedDict())
        tasks = self._tasks.setdefault(task.trial, deque())
        trials[task.trial] = None
        if first:
            tasks.appendleft(task)
            trials.move_to_end(task.trial, last=False)
            self._tasks.move_to_end(task.trial, last=False)
        else:
            tasks.append(task)

    def of(self, home: int | None) -> int:
        """Replicas of the trials of a group, or of none."""
        return sum(len(self._tasks[trial]) for trial in self._trials.get(home, ()))

    def holds(self, trial: int, index: int) -> bool:
        return any(task.index == index for task in self._tasks.get(trial, ()))

    def take(self, group: int) -> Task | None:
        """The next replica of the group's own trials, or else of a trial of none, which becomes its own."""
        for home in (group, None):
            for trial in self._trials.get(home, ()):
                return self._pop(trial, group)
        return None

    def take_any(self, group: int) -> Task | None:
        """The next replica of any trial."""
        return next((self._pop(trial, group) for trial in self._tasks), None)

    def _pop(self, trial: int, group: int) -> Task:
        home = self._home.get(trial)
        task = self._tasks[trial].popleft()
        if home is None:
            self._home[trial] = group
        if not self._tasks[trial]:
            del self._tasks[trial], self._trials[home][trial]
        elif home is None:
            del self._trials[None][trial]
            self._trials.setdefault(group, OrderedDict())[trial] = None
        return task


class Loop:
    """One run of a study on workers; `clock` tells its seconds, from any origin."""

    def __init__(
        self,
        study: StudyLike,
        workers: Workers,
        options: Options,
        view: View,
        interrupt: Interrupt,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.study = study
        self.workers = workers
        self.options = options
        self.view = view
        self.interrupt = interrupt
        self.clock = clock
        self.began = clock()
        trials = study.trials
        self.queue = Queue()
        for trial in trials:
            for task in study.tasks(trial):
                self.queue.add(task)
        self.running: dict[Future[Outcome], tuple[Task, int]] = {}
        self.ended: deque[Future[Outcome]] = deque()  # of those that ran, not yet settled; filled by any thread
        self.free = list(range(len(workers.groups)))
        self.shown: dict[tuple[int, int], Running] = {}
        self.settled = sum(r.state is not State.PENDING for t in trials for r in t.replicas)
        self.failures = sum(r.state is State.FAILED for t in trials for r in t.replicas)
        self.succeeded = any(r.loss is not None for t in trials for r in t.replicas)
        self.finished = False  # nothing is left to ask
        self.curves = Curves(trials if study.stopping is not None else ())
        self.halted: set[tuple[int, int]] = set()  # replicas that the rule gave up, and that run yet
        workers.listen(self._hear)
        self.search_seconds = 0.0  # of a search, lately
        self.training_seconds: float | None = None  # of a training, lately
        self._next_look = 0.0  # monotonic; when there is something to show again

    def go(self) -> None:
        """Run until the budget is spent, the space is exhausted, or a stop is asked.

        Raises
        ------
        ObjectiveError
            The objective returns no loss, and never did.
        LaunchError
            No training can be had.
        """
        while self.interrupt.asked is None:
            self._fill()
            if not self.running:
                return
            self._ask_ahead()
            self.workers.wait(LOOK)
            self._collect()
            if (now := time.monotonic()) >= self._next_look:  # a status goes through all that runs
                self.view.show(self.status())
                self._next_look = now + LOOK
        self._wind_down()

    def _wind_down(self) -> None:
        """Ask what runs to end, and wait for it for as long as the grace lasts."""
        assert self.interrupt.asked is not None
        end = self.clock() + self.options.grace
        if self.running:
            self.view.say(
                f"{self.interrupt.asked.name}: no new trainings; waiting up to {self.options.grace:g} s for "
                f"{len(self.running)} that run (Ctrl-C again ends them now)"
            )
        self.workers.stop()
        while self.running and self.clock() < end:
            self.workers.wait(min(LOOK, max(0.0, end - self.clock())))
            self._collect()

    # -- what to train next ---------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Give every free slot something to train, as long as there is something."""
        for slot in tuple(self.free):
            task = self._next(self.workers.groups[slot])
            if task is None:
                return  # nor is there anything for another slot
            self._submit(task, slot)

    def _hand_out(self) -> None:
        """Give free slots what is queued for them already: that need not wait for the disk to take in the losses."""
        for slot in tuple(self.free):
            if self.interrupt.asked is not None or self._out_of_time or not self._another_training:
                return
            task = self.queue.take(self.workers.groups[slot])
            if task is not None and self._awaited(task):
                self._submit(task, slot)

    def _submit(self, task: Task, slot: int) -> None:
        future = self.workers.submit(task, slot)
        self.free.remove(slot)
        self.running[future] = (task, slot)
        self.shown[task.trial, task.index] = Running(task, self.clock())
        future.add_done_callback(self.ended.append)
        self.curves.begin(task.trial, task.index)

    def _next(self, group: int) -> Task | None:
        """The next replica for a slot of `group`: of the group's own trial, of no group's, of a new trial, of any."""
        while not self._out_of_time and self._another_training:
            task = self.queue.take(group)
            if task is None:
                if self._may_ask:
                    self._ask(self._wanted())
                task = self.queue.take(group) or self.queue.take_any(group)
            if task is None or self._awaited(task):
                return task
        return None

    def _awaited(self, task: Task) -> bool:
        """Whether the study still waits for it: losses may have been told from elsewhere meanwhile."""
        return any(r.index == task.index for r in self.study.trials[task.trial].pending)

    def _wanted(self) -> int:
        """New trials that the free slots can do with, at least one."""
        free = Counter(self.workers.groups[slot] for slot in self.free)
        return max(1, sum(self._trials_for(slots - self.queue.of(group)) for group, slots in free.items()))

    def _trials_for(self, replicas: int) -> int:
        """Trials that bring as many replicas."""
        return math.ceil(max(0, replicas) / self.study.replicas[0])

    def _ask(self, count: int) -> None:
        """Queue the replicas of up to `count` trials that become pending now."""
        if not self._may_ask:
            return
        if self.options.trials is not None:
            count = min(count, self.options.trials - len(self.study.trials))
            if self.study.exhausted:
                # Asks would go on with further replicas of known points: welcome for a budget of trainings or of time
                # alone, but they bring the number of trials no nearer.
                self._finish()
                return
        if self.options.trainings is not None:
            left = self.options.trainings - self.settled - len(self.running) - len(self.queue)
            count = min(count, max(1, self._trials_for(left)))
        began = self.clock()
        try:
            asked = [self.study.ask()] if count == 1 else self.study.ask_batch(count)
        except StudyError:
            if not self.study.exhausted:
                raise
            if not self.running:  # otherwise what runs now may be worth a further replica later
                self._finish()
            return
        self.search_seconds += 0.3 * (self.clock() - began - self.search_seconds)
        for trial in asked:
            for task in self.study.tasks(trial):
                if (task.trial, task.index) not in self.shown and not self.queue.holds(task.trial, task.index):
                    self.queue.add(task)

    def _ask_ahead(self) -> None:
        """Ask now what slots that become free will want, where a search would keep them waiting."""
        if self.free or self._out_of_time or self.training_seconds is None:
            return
        slots = len(self.workers.groups)
        busy = self.search_seconds * slots / max(self.training_seconds * self.study.replicas[0], 1e-9)
        if busy < BUSY:
            return
        depth = max(min(AHEAD, slots // 2), slots // 16)
        ready = self.queue.of(None)
        if 2 * ready <= depth and depth > ready and self._more_trainings_than_queued:
            self._ask(self._trials_for(depth - ready))

    def _finish(self) -> None:
        self.finished = True
        self.view.say(f"the space is exhausted: each of its {len(self.study.trials)} points was tried")

    @property
    def _out_of_time(self) -> bool:
        limit = self.options.time_limit
        return limit is not None and self.clock() - self.began >= limit

    @property
    def _may_ask(self) -> bool:
        another = self.options.trials is None or len(self.study.trials) < self.options.trials
        return another and not self.finished

    @property
    def _another_training(self) -> bool:
        return self.options.trainings is None or self.settled + len(self.running) < self.options.trainings

    @property
    def _more_trainings_than_queued(self) -> bool:
        begun = self.settled + len(self.running) + len(self.queue)
        return self.options.trainings is None or begun < self.options.trainings

    # -- what came back -------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        """Take in what was reported, and ask the study's rule about it."""
        for report in self.workers.reports():
            key = report.trial, report.index
            if key not in self.shown:
                continue
            self.shown[key] = running = replace(self.shown[key], step=report.step, loss=report.loss)
            if self.study.stopping is not None:
                self.curves.add(*key, report.step, report.loss)
                if key not in self.halted and self._given_up(report):
                    self._halt(running.task)

    def _given_up(self, report: Progressed) -> bool:
        """Whether the rule stops the trial that reports; one that has a loss is not stopped any more."""
        assert self.study.stopping is not None
        trials = self.study.trials
        levels = self.curves.at(report.step)
        pruned = sum(t.state is State.PRUNED and t.number not in levels for t in trials)
        reports = self.curves.reports(report.trial, report.index)
        return trials[report.trial].mean is None and self.study.stopping.stops(report.trial, reports, levels, pruned)

    def _halt(self, task: Task) -> None:
        self.halted.add((task.trial, task.index))
        self.workers.halt(task)

    def _collect(self) -> None:
        """Settle what has ended, together."""
        self._hear()
        ended: list[tuple[Task, Outcome]] = []
        stopped: list[tuple[Task, Outcome]] = []
        while self.ended:
            future = self.ended.popleft()
            task, slot = self.running.pop(future)
            self.free.append(slot)
            began = self.shown.pop((task.trial, task.index)).since
            halted = (task.trial, task.index) in self.halted
            self.halted.discard((task.trial, task.index))
            error = future.exception()
            if isinstance(error, Stopped):
                if halted and error.outcome is not None:
                    stopped.append((task, error.outcome))
                continue
            if error is not None:
                self._settle(ended)
                raise error
            outcome = future.result()
            seconds = self.clock() - began
            before = seconds if self.training_seconds is None else self.training_seconds
            self.training_seconds = before + 0.1 * (seconds - before)
            if self.study.trials[task.trial].state is State.PRUNED:  # by a mate; this one came to its end meanwhile
                ended.append((task, given_up(outcome)))
            elif self._worth_a_retry(task, outcome):
                again = replace(task, attempt=task.attempt + 1)
                self.view.say(f"trial {task.trial} replica {task.index}: {outcome.failure}; attempt {again.attempt}")
                self.queue.add(again, first=True)
            else:
                ended.append((task, outcome))
        lucky = {task.trial for task, outcome in ended if outcome.loss is not None}
        for task, outcome in stopped:
            if task.trial in lucky or self.study.trials[task.trial].mean is not None:
                self.queue.add(task, first=True)  # a mate came to its end before the stop was heard: the trial goes on
            else:
                ended.append((task, given_up(outcome)))
        self.free.sort()
        self.settled += len(ended)
        if ended and not any(outcome.pruned for _, outcome in ended):
            self._hand_out()
        self._settle(ended)

    def _worth_a_retry(self, task: Task, outcome: Outcome) -> bool:
        """Only where the process died or hung: an exception of the objective's own, or a NaN, would come again."""
        return (
            outcome.failure is not None
            and outcome.failure.type in PROCESS_FAILURES
            and task.attempt <= self.options.retries
            and self.interrupt.asked is None
        )

    def _settle(self, ended: list[tuple[Task, Outcome]]) -> None:
        if not ended:
            return
        self.study.settle(ended)
        for task, outcome in ended:
            if outcome.pruned:
                for mate, _ in tuple(self.running.values()):
                    if mate.trial == task.trial and (mate.trial, mate.index) not in self.halted:
                        self._halt(mate)
            elif outcome.failure is None:
                self.succeeded = True
            else:
                self.failures += 1
                self.view.failed(task, outcome)
        for _, outcome in ended:
            if outcome.failure is not None and outcome.failure.type == ObjectiveError.__name__ and not self.succeeded:
                raise ObjectiveError(outcome.failure.message)

    def status(self) -> Status:
        trials = self.study.trials
        open_trials = {t.trial for t, _ in self.running.values()} | set(self.queue.trials)
        return Status(
            trials=len(trials),
            trials_settled=len(trials) - len(open_trials),
            trainings=self.settled,
            failed=self.failures,
            running=tuple(self.shown.values()),
            elapsed=self.clock() - self.began,
        )


def run(
    study: StudyLike,
    trials: int | None = None,
    trainings: int | None = None,
    time_limit: float | None = None,
    **options: Any,
) -> None:
    """Train until a budget is spent; see `Options` for the arguments.

    In a training process, and on every MPI rank but the first, this serves trainings instead and does not return. A
    stop that is asked by SIGTERM or SIGUSR1 ends the script here with exit code 0 and by Ctrl-C with 130, after the
    trainings that run were asked to end; at a prompt or in a notebook it returns. What did not finish stays pending,
    and the same call goes on with it.

    Raises
    ------
    StudyError
        No objective, no budget, or an argument that cannot be used.
    ObjectiveError
        The objective returns no loss.
    LaunchError
        Processes that cannot be started or arranged as asked.

    Examples
    --------
    >>> import hyppo
    >>> study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), lambda replica: replica.params["x"] ** 2, replicas=1,
    ...                     isolate=False)
    >>> study.run(trials=4, progress=False)
    >>> len(study.trials)
    4
    """
    from hyppo import launch

    launch.attend()
    unknown = sorted(set(options) - {f.name for f in fields(Options)})
    if unknown:
        known = ", ".join(f.name for f in fields(Options))
        raise StudyError(f"run() does not know {', '.join(unknown)}; it takes {known}")
    chosen = Options(trials, trainings, time_limit, **options).overridden(os.environ)
    if study.objective is None:
        raise StudyError("this study has no objective to train: Study(space, train, ...), or use ask and tell")
    if chosen.trials is None and chosen.trainings is None and chosen.time_limit is None:
        raise StudyError("run() needs a budget: trials=, trainings= or time_limit= (seconds)")

    from hyppo.launch.choose import workers_for
    from hyppo.report.progress import Progress

    with ExitStack() as stack:
        stack.callback(study.close)  # whatever comes next, the study file is whole and free for others
        interrupt = stack.enter_context(Interrupt())
        view = stack.enter_context(Progress(study, chosen))
        if _nothing_to_do(study, chosen):
            view.say(f"nothing left to do: {_spent(study, chosen)}")
            return
        if chosen.executor is not None and study.stopping is not None:
            raise StudyError("stopping: trainings on an executor cannot report; leave out executor= or stopping=")
        workers, plan = workers_for(study.objective, study.isolate, study.replicas[0], chosen, view.say)
        stack.callback(workers.close)
        study.note(f"{socket.gethostname()}: {plan}")
        loop = Loop(study, workers, chosen, view, interrupt)
        try:
            loop.go()
        except KeyboardInterrupt:
            if interrupt.asked is None:
                raise
        view.show(loop.status(), force=True)
        asked = interrupt.asked
        if asked is not None:
            pending = sum(len(t.pending) for t in study.trials)
            view.say(
                f"stopped by {asked.name}; {pending} trainings stay pending, and the same command goes on with them "
                "under the same numbers and seeds"
            )
    if asked is not None and not hasattr(sys, "ps1"):
        # A batch system's warning was heeded, so that is no failure; a Ctrl-C must also stop a shell's `&&` chain.
        raise SystemExit(130 if asked is signal.SIGINT else 0)


def _nothing_to_do(study: StudyLike, options: Options) -> bool:
    trials = study.trials
    settled = sum(r.state is not State.PENDING for t in trials for r in t.replicas)
    if options.trainings is not None and settled >= options.trainings:
        return True
    if any(t.pending for t in trials):
        return False
    return options.trials is not None and len(trials) >= options.trials


def _spent(study: StudyLike, options: Options) -> str:
    trials = study.trials
    settled = sum(r.state is not State.PENDING for t in trials for r in t.replicas)
    goal = f"trials={options.trials}" if options.trials is not None else f"trainings={options.trainings}"
    return f"{len(trials)} trials with {settled} trainings are in the log, {goal} was asked for"
