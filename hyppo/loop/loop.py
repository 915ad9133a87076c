"""One run of a study on workers: asks when a slot is free, submits, settles trainings that end."""

import math
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from hyppo.config import named
from hyppo.errors import ObjectiveError, StudyError
from hyppo.loop.checks import ReplicaChecks
from hyppo.loop.evaluations import Evaluations
from hyppo.loop.interrupt import Interrupt
from hyppo.loop.options import Options
from hyppo.loop.protocols import PROCESS_FAILURES, Evaluator, Running, Status, Stopped, View, Workers
from hyppo.loop.session import Session
from hyppo.loop.unasked import Unasked
from hyppo.search.budget import Left
from hyppo.stopping import Curves
from hyppo.training.replica import Failure, Outcome, Task
from hyppo.trial import State

BUSY = 0.1  # ask ahead if searches for all slots take more than this share of the time of a training
AHEAD = 4  # at most this many points ahead, and at most slots // 2; with many slots, slots // 16
LOOK = 0.2  # s between two looks for a signal, and between two updates of the view
CUT_AT_MOST = 2  # times that a training is repeated after a signal from outside
EVALUATION_LOOK = 0.005  # s between two looks while a criterion is evaluated
NONE: Mapping[int, float | None] = MappingProxyType({})


def as_pruned(outcome: Outcome) -> Outcome:
    """The outcome of a training whose trial the stopping rule pruned: neither a loss nor a failure."""
    return replace(outcome, loss=None, failure=None, losses=None, pruned=True)


def _kind(failure: Failure) -> tuple[str, str]:
    """The type and the first line of the message: failures with equal ones count as the same error.

    >>> _kind(Failure("Killed", "the process was killed; last lines of its output:\\nepoch 1"))
    ('Killed', 'the process was killed')
    """
    return failure.type, re.sub(r"; [^;]*:$", "", failure.message.strip().partition("\n")[0])


class Loop:
    """One run of a study on workers; `clock` returns seconds from any origin."""

    def __init__(
        self,
        session: Session,
        workers: Workers,
        options: Options,
        view: View,
        interrupt: Interrupt,
        clock: Callable[[], float] = time.monotonic,
        evaluator: Evaluator | None = None,
    ) -> None:
        self.session = session
        self.workers = workers
        self.options = options
        self.view = view
        self.checks = ReplicaChecks(session.config.folds)
        self.interrupt = interrupt
        self.clock = clock
        self.began = clock()
        trials = session.trials
        self.evaluations = Evaluations(session, evaluator, view.say)
        self.unasked = Unasked(session.directory(0, 0).parents[1], self._loss_of, view.say)
        self.may_ask_after: dict[int, int] = {}  # free slot -> number of evaluated trainings that it waits for
        self.queue = session.queue()
        for trial in trials:
            for task in session.tasks(trial):
                self.queue.add(task)
        self.running: dict[Future[Outcome], tuple[Task, int]] = {}
        self.interrupted: set[int] = set()  # trials with a training that was interrupted when the run stopped
        self.ended: deque[Future[Outcome]] = deque()  # ended and not yet settled; filled by any thread
        self.free = list(range(len(workers.groups)))
        self.shown: dict[tuple[int, int], Running] = {}
        self.settled = sum(r.state is not State.PENDING for t in trials for r in t.replicas)
        self.failures = sum(r.state is State.FAILED for t in trials for r in t.replicas)
        self.succeeded = any(r.loss is not None for t in trials for r in t.replicas)
        self.alike: Counter[tuple[str, str]] = Counter()  # failures by kind, while no training has succeeded
        if not self.succeeded:
            self.alike.update(_kind(r.failure) for t in trials for r in t.replicas if r.failure is not None)
        self.cut: Counter[tuple[int, int]] = Counter()  # (trial, index) -> how often a signal has interrupted it
        self.finished = False  # nothing is left to ask
        self.deciding = False  # the budget's trials were all asked; only contenders are trained again
        self.asked_in_vain: tuple[int, int] | None = None  # known results when an ask last returned nothing
        self.curves = Curves(trials if session.config.stopping is not None else ())
        self.stopping: set[tuple[int, int]] = set()  # replicas that the stopping rule pruned and that still run
        self.stop_requested = False  # of all trainings, by a signal
        workers.on_report(self._while_training)
        self.search_seconds = 0.0  # moving average of one search
        self.training_seconds: float | None = None  # moving average of one training
        self._next_look = 0.0  # monotonic time of the next update of the view

    def go(self) -> None:
        """Run until the budget is spent, the space is exhausted, or a stop is asked.

        Raises
        ------
        ObjectiveError
            The objective returns no loss, or the first trainings have failed with the same error.
        LaunchError
            Training is impossible.
        """
        try:
            while self.interrupt.asked is None:
                self._fill()
                if not self.running and not self.evaluations:
                    return
                self._ask_ahead()
                self.workers.wait(EVALUATION_LOOK if self.evaluations else LOOK)
                self._collect()
                if (now := time.monotonic()) >= self._next_look:  # a status visits every running training
                    self.view.show(self.status())
                    self._next_look = now + LOOK
            self._wind_down()
        finally:
            self._settle(self.evaluations.give_up())

    def _wind_down(self) -> None:
        """Ask the running trainings to stop, and wait for them for the grace period."""
        assert self.interrupt.asked is not None
        end = self.clock() + self.options.grace
        self._request_stop(
            f"waiting up to {self.options.grace:g} s for {len(self.running)} that run (Ctrl-C again ends them now)"
        )
        while (self.running or self.evaluations) and self.clock() < end:
            self.workers.wait(min(LOOK, max(0.0, end - self.clock())))
            self._collect()

    def _request_stop(self, patience: str) -> None:
        """Ask all trainings to end soon, once; `patience` says how long they may take."""
        assert self.interrupt.asked is not None
        if self.running and not self.stop_requested:
            self.view.say(f"{self.interrupt.asked.name}: no new trainings; {patience}")
        self.stop_requested = True
        self.workers.request_stop()

    # -- the next training ---------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Give every free slot a training, as long as there is one."""
        for slot in tuple(self.free):
            task = self._next(slot)
            if task is not None:
                self._submit(task, slot)
            elif self._is_ready(slot):
                return  # there is none for another slot either

    def _start_queued(self) -> None:
        """Start queued trainings on free slots now, before the new losses are written to disk."""
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

    def _is_ready(self, slot: int) -> bool:
        """Whether the trainings that ended before the slot became free are settled, so that an ask knows them."""
        return self.evaluations.released >= self.may_ask_after.get(slot, 0)

    def _next(self, slot: int) -> Task | None:
        """The next replica for a slot: of its group's trial, of no group's, of a new trial, of another group's."""
        group = self.workers.groups[slot]
        while not self._out_of_time and self._another_training:
            task = self.queue.take(group)
            if task is None:
                if not self._is_ready(slot):
                    return None
                if self._may_ask:
                    self._ask(self._wanted())
                task = self.queue.take(group) or self.queue.take_any(group)
            if task is None or self._awaited(task):
                return task
        return None

    def _awaited(self, task: Task) -> bool:
        """Whether the study still waits for it: another caller may have told the loss in the meantime."""
        return any(r.index == task.index for r in self.session.trials[task.trial].pending)

    def _wanted(self) -> int:
        """How many new trials the free slots need, at least one."""
        free = Counter(self.workers.groups[slot] for slot in self.free if self._is_ready(slot))
        return max(1, sum(self._trials_for(slots - self.queue.of(group)) for group, slots in free.items()))

    def _trials_for(self, replicas: int) -> int:
        """How many trials have that many replicas."""
        return math.ceil(max(0, replicas) / self.session.config.replicas[0])

    def _ask(self, count: int) -> None:
        """Ask for up to `count` trials, and queue their replicas."""
        if not self._may_ask:
            return
        left = self._left()
        if left.trials is not None:
            count = min(count, left.trials) or count
        if self.options.trainings is not None:
            count = min(count, max(1, self._trials_for(self._trainings_left)))
        began = self.clock()
        try:
            asked = self.session.ask(count, left)
        except StudyError:
            if not self.session.exhausted:
                raise
            if not self.running:  # otherwise a running trial may be worth a further replica later
                self._finish()
            return
        self.search_seconds += 0.3 * (self.clock() - began - self.search_seconds)
        if not asked:
            self.asked_in_vain = self._known_results
            if not self.running and not self.evaluations:
                self._finish()
        elif left.trials == 0 and not self.deciding:
            self.deciding = True
            self.view.say(
                f"all {len(self.session.trials)} trials were asked; their contenders are trained again, up to "
                f"{self.session.config.replicas[1]} times each, until their order is clear"
            )
        for trial in asked:
            for task in self.session.tasks(trial):
                if not self._is_taken(task):
                    self.queue.add(task)

    def _is_taken(self, task: Task) -> bool:
        """Whether a pending replica is queued, runs, or has ended and waits to be settled."""
        waits = any(ended.index == task.index for ended, _ in self.evaluations.of(task.trial))
        return waits or (task.trial, task.index) in self.shown or self.queue.holds(task.trial, task.index)

    def _left(self) -> Left:
        """The rest of the budget. An exhausted space has no further trial for a budget of trials."""
        trials: int | None = None
        if self.options.trials is not None:
            trials = 0 if self.session.exhausted else max(0, self.options.trials - len(self.session.trials))
        trainings: float | None = None
        if self.options.trainings is not None:
            trainings = self._trainings_left
        if self.options.time_limit is not None and self.training_seconds:
            seconds = self.options.time_limit - (self.clock() - self.began)
            possible = seconds * len(self.workers.groups) / self.training_seconds - len(self.queue)
            trainings = min(max(possible, 0.0), math.inf if trainings is None else trainings)
        return Left(trials, trainings)

    def _ask_ahead(self) -> None:
        """Ask for trials before slots become free, if the slots would wait long for a search."""
        if self.free or self._out_of_time or self.training_seconds is None:
            return
        slots = len(self.workers.groups)
        busy = self.search_seconds * slots / max(self.training_seconds * self.session.config.replicas[0], 1e-9)
        if busy < BUSY:
            return
        depth = max(min(AHEAD, slots // 2), slots // 16)
        ready = self.queue.of(None)
        if 2 * ready <= depth and depth > ready and self._more_trainings_than_queued:
            self._ask(self._trials_for(depth - ready))

    def _finish(self) -> None:
        self.finished = True
        if self.session.exhausted:
            self.view.say(f"the space is exhausted: each of its {len(self.session.trials)} points was tried")

    @property
    def _out_of_time(self) -> bool:
        limit = self.options.time_limit
        return limit is not None and self.clock() - self.began >= limit

    @property
    def _may_ask(self) -> bool:
        """Whether an ask can return a new trial, or with adaptive replicas a further replica of a contender."""
        if self.finished or self.asked_in_vain == self._known_results:
            return False
        fewest, most = self.session.config.replicas
        another = self.options.trials is None or len(self.session.trials) < self.options.trials
        return another or fewest < most

    @property
    def _known_results(self) -> tuple[int, int]:
        """Number of settled trainings, and of those whose mean prediction was evaluated."""
        return self.settled, self.evaluations.released

    @property
    def _trainings_left(self) -> int:
        """Trainings of the budget that are neither started nor queued."""
        assert self.options.trainings is not None
        return self.options.trainings - self.settled - len(self.running) - len(self.queue)

    @property
    def _another_training(self) -> bool:
        return self.options.trainings is None or self.settled + len(self.running) < self.options.trainings

    @property
    def _more_trainings_than_queued(self) -> bool:
        return self.options.trainings is None or self._trainings_left > 0

    # -- endings and reports -------------------------------------------------------------------------------------------

    def _while_training(self) -> None:
        """Act on reports and signals while a training in this thread keeps `wait` from returning."""
        self._take_reports()
        if self.interrupt.asked is not None and not self.stop_requested:
            self._request_stop("waiting for the one that runs (Ctrl-C again ends it now)")

    def _take_reports(self) -> None:
        """Record the reports, and ask the study's rule about them."""
        for report in self.workers.reports():
            key = report.trial, report.index
            if key not in self.shown:
                continue
            self.shown[key] = running = replace(self.shown[key], step=report.step, loss=report.loss)
            if self.session.config.stopping is not None:
                self.curves.add(*key, report.step, report.loss)
                spared = key in self.stopping or self.session.trials[report.trial].is_enqueued
                if not spared and self.curves.stopped_by(self.session.config.stopping, *key, report.step):
                    self._stop(running.task)

    def _loss_of(self, trial: int) -> float:
        mean = self.session.trials[trial].mean
        return math.inf if mean is None else mean

    def _stop(self, task: Task) -> None:
        self.stopping.add((task.trial, task.index))
        self.workers.request_stop(task)

    def _collect(self) -> None:
        """Settle all ended trainings together; then raise the error that makes training impossible, if there is one."""
        self._take_reports()
        ended: list[tuple[Task, Outcome]] = []
        stopped: list[tuple[Task, Outcome]] = []
        impossible: BaseException | None = None
        freed: list[int] = []
        while self.ended:
            future = self.ended.popleft()
            task, slot = self.running.pop(future)
            self.free.append(slot)
            freed.append(slot)
            began = self.shown.pop((task.trial, task.index)).since
            stop_asked = (task.trial, task.index) in self.stopping
            self.stopping.discard((task.trial, task.index))
            error = future.exception()
            if isinstance(error, Stopped):
                if error.outcome is not None and stop_asked and self.interrupt.asked is None:
                    stopped.append((task, error.outcome))
                elif (outcome := self._after_interruption(task, error.outcome)) is not None:
                    ended.append((task, outcome))
            elif error is not None and self.interrupt.asked is not None:
                self.interrupted.add(task.trial)  # the signal has reached the workers of an executor too
            elif error is not None:
                impossible = impossible or error
            elif (outcome := self._after_end(task, future.result(), self.clock() - began)) is not None:
                ended.append((task, outcome))
        finished_trials = {task.trial for task, outcome in ended if outcome.loss is not None}
        for task, outcome in stopped:
            has_loss = self.session.trials[task.trial].mean is not None or self.evaluations.of(task.trial)
            if task.trial in finished_trials or has_loss:
                self.queue.add(task, first=True)  # another replica ended before it saw the stop: the trial goes on
            else:
                ended.append((task, as_pruned(outcome)))
        self.free.sort()
        self.settled += len(ended)
        at_once = []
        for task, outcome in ended:
            if self.evaluations.add(task, outcome):
                self.curves.finish(task.trial)
            else:
                at_once.append((task, outcome))
        self.may_ask_after |= dict.fromkeys(freed, self.evaluations.taken)
        if ended and impossible is None and not any(outcome.pruned for _, outcome in ended):
            self._start_queued()
        self._settle(at_once)
        for batch, losses in self.evaluations.poll():
            self._settle(batch, losses)
        if impossible is not None:
            raise impossible

    def _after_interruption(self, task: Task, outcome: Outcome | None) -> Outcome | None:
        """The outcome of a training that was interrupted; None if it stays pending or is repeated."""
        if outcome is None or self.interrupt.asked is not None:
            self.interrupted.add(task.trial)
            return None
        key = task.trial, task.index
        if self.cut[key] < CUT_AT_MOST or outcome.failure is None:
            self.cut[key] += 1
            self.queue.add(task, first=True)  # interrupted by a signal, although the run was not asked to stop
            return None
        return outcome

    def _after_end(self, task: Task, outcome: Outcome, seconds: float) -> Outcome | None:
        """The outcome of a training that ended; None if it stays pending or is tried again."""
        before = seconds if self.training_seconds is None else self.training_seconds
        self.training_seconds = before + 0.1 * (seconds - before)
        if self.session.trials[task.trial].state is State.PRUNED:  # a report of another replica pruned it
            return as_pruned(outcome)
        if self.interrupt.asked is not None and outcome.failure is not None and not outcome.diverged:
            return None  # a framework turned the stop into an exception
        if outcome.failure is not None and self._worth_a_retry(task, outcome.failure):
            again = replace(task, attempt=task.attempt + 1)
            self.view.say(f"{named(task.trial, task.index)}: {outcome.failure.line}; attempt {again.attempt}")
            self.queue.add(again, first=True)
            return None
        return outcome

    def _worth_a_retry(self, task: Task, failure: Failure) -> bool:
        """Whether the process died or hung. An exception of the objective or a NaN would occur again."""
        return (
            failure.type in PROCESS_FAILURES and task.attempt <= self.options.retries and self.interrupt.asked is None
        )

    def _settle(self, ended: list[tuple[Task, Outcome]], ensemble_losses: Mapping[int, float | None] = NONE) -> None:
        if not ended:
            return
        trials = self.session.trials
        ended = [
            (task, as_pruned(outcome) if trials[task.trial].state is State.PRUNED else outcome)
            for task, outcome in ended
        ]
        self.session.settle(ended, ensemble_losses)
        for task, outcome in ended:
            if outcome.loss is not None:
                self.unasked.settle(task.trial, Path(task.directory))
        for text in self.checks.notices(self.session.trials, ended, self.session.known):
            self.view.say(text)
            self.session.note(text)
        for task, outcome in ended:
            if outcome.pruned:
                self.curves.prune(task.trial)
                for sibling, _ in tuple(self.running.values()):
                    if sibling.trial == task.trial and (sibling.trial, sibling.index) not in self.stopping:
                        self._stop(sibling)
            elif outcome.failure is None:
                self.succeeded = True
                self.curves.finish(task.trial)
            else:
                self.failures += 1
                self.view.failed(task, outcome)
        for _, outcome in ended:
            if outcome.failure is not None and not self.succeeded:
                self._give_up_on(outcome.failure)

    def _give_up_on(self, failure: Failure) -> None:
        """End the run if no training can be expected to succeed.

        Raises
        ------
        ObjectiveError
            The objective returns no loss, or the first trainings have failed with the same error.
        """
        if failure.type == ObjectiveError.__name__:
            raise ObjectiveError(failure.message)
        kind = _kind(failure)
        self.alike[kind] += 1
        count = self.alike[kind]
        if 0 < self.options.same_failures <= count:
            raise ObjectiveError(
                f"{count} trainings have failed with the same error, and none has succeeded: {': '.join(kind)}. "
                "Mend the cause and run again with retry_failed=True (hyppo run --retry-failed), which trains them "
                "again under their numbers; same_failures=0 goes on regardless"
            )

    def status(self) -> Status:
        trials = self.session.trials
        open_trials = {t.trial for t, _ in self.running.values()} | set(self.queue.trials) | self.interrupted
        return Status(
            trials=len(trials),
            trials_settled=len(trials) - len(open_trials),
            trainings=self.settled,
            failed=self.failures,
            running=tuple(self.shown.values()),
            elapsed=self.clock() - self.began,
        )
