"""Trainings on the ranks of an MPI job: rank 0 asks, the others serve until its script ends.

Rank 0 may train too (`manager=shared`): it then sends itself the same messages as to others, and serves its training
process whenever it waits. While it searches for a point it does not, and at worst the pipes of that process fill.

Each rank trains in a child process, because any rank that dies takes the whole job with it. Nothing here blocks inside
MPI, see `hyppo.launch.mpi.messenger`, and there is no collective call but the start and the end of MPI itself.
`mpi4py.futures` has no way to report from a training, to stop one, or to place one by its group. It is available
as `run(executor=...)`.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hyppo.errors import LaunchError
from hyppo.launch.mpi.job import Job, current_job
from hyppo.launch.mpi.messages import Begin, Ended, Hello, Kill, Noticed, Reported, RequestStop, Settings
from hyppo.launch.mpi.messenger import FAR, LONGEST, SHORTEST
from hyppo.launch.mpi.partition import Plan, devices, notice_of_folders, notice_of_workers, partition
from hyppo.launch.mpi.rank import introduction
from hyppo.launch.objective import ObjectiveTransport
from hyppo.launch.output import OUTPUT, ShowOnce
from hyppo.launch.process import Limits, ObjectiveUnavailable
from hyppo.launch.wire import Place
from hyppo.log.journal import journal_of
from hyppo.loop import Options, Progressed
from hyppo.training.frameworks import FRAMEWORKS
from hyppo.training.replica import Outcome, Task


def workers(
    objective: Callable[..., Any],
    options: Options,
    limits: Limits,
    replicas: int,
    say: Callable[[str], None],
    root: int = 0,
    log: Path | None = None,
) -> "tuple[MpiWorkers, str]":
    """The ranks of this job as workers, and the sentence of their plan.

    `log` is the study file. Without one, the folders of the replicas are in a temporary folder of each node.
    """
    job = current_job()
    present, size = job.wait_for_ranks(say), job.size
    hellos = [introduction(), *(present[rank] for rank in range(1, size))]
    nodes = [hello.node for hello in hellos]
    plan = partition(
        size,
        nodes,
        gpus_of(hellos),
        options.trial_groups,
        options.replica_groups,
        options.data_parallel,
        replicas,
        options.manager,
    )
    say(plan.sentence)
    if notice := notice_of_workers(plan, options.workers):
        say(notice)
    if log is None and (notice := notice_of_folders(plan, nodes)):
        say(notice)
    return MpiWorkers(
        job, objective, plan, nodes, [hello.gpus for hello in hellos], options, limits, say, root, log
    ), plan.sentence


def gpus_of(hellos: Sequence[Hello]) -> dict[str, int]:
    """Number of GPUs that the ranks of each node see; nodes without GPUs are left out.

    If a batch system shows each rank only its own GPU, all of them call it 0: then its count is right.

    >>> gpus_of([Hello("a", ("0", "1")), Hello("a", ("0", "1")), Hello("b", ())])
    {'a': 2}
    >>> gpus_of([Hello("a", ("0",), 4), Hello("a", ("0",), 4)])
    {'a': 4}
    """
    seen: dict[str, set[str]] = {}
    for hello in hellos:
        seen.setdefault(hello.node, set()).update(hello.gpus)
    told = {hello.node: hello.gpus_of_node for hello in hellos}
    return {node: max(len(gpus), told[node]) for node, gpus in seen.items() if gpus}


_serials = itertools.count(1)  # numbers the trainings of this job, across runs and studies


@dataclass(frozen=True, slots=True)
class _Submitted:
    slot: int
    task: Task
    key: int
    future: Future[Outcome]


class MpiWorkers:
    """The replica groups of an MPI job, as rank 0 sees them. See `hyppo.loop.Workers`."""

    def __init__(
        self,
        job: Job,
        objective: Callable[..., Any],
        plan: Plan,
        nodes: Sequence[str],
        visible: Sequence[Sequence[str]],
        options: Options,
        limits: Limits,
        say: Callable[[str], None],
        root: int,
        log: Path | None,
    ) -> None:
        self._say = ShowOnce(say)
        self._units = [unit for group in plan.groups for unit in group]
        self.groups: Sequence[int] = [number for number, group in enumerate(plan.groups) for _ in group]
        self._nodes = nodes
        self._gpus = devices([rank for unit in self._units for rank in unit], nodes, visible)
        journal = None if log is None else str(journal_of(log))
        self._settings = Settings(
            options.threads, limits, None if options.output == "relay" else OUTPUT, root=root, journal=journal
        )
        self._transport = ObjectiveTransport(objective)
        self._submitted: dict[int, _Submitted] = {}
        self._known: set[tuple[int, int]] = set()
        self._reports: list[Progressed] = []
        self._messenger = job.messenger
        self._launcher = job.launcher
        self._own = job.train_here() if plan.shared else job.own_rank
        leaders = {unit[0] for unit in self._units} - {0}
        self._longest = LONGEST if all(self._messenger.can_wake(rank) for rank in leaders) else FAR

    def submit(self, task: Task, slot: int) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        self._start(task, slot, future)
        return future

    def _start(self, task: Task, slot: int, future: Future[Outcome]) -> None:
        if self._transport.reference is None:
            future.set_exception(LaunchError(self._transport.why_not))
            return
        unit = self._units[slot]
        serial = next(_serials)
        leader, *others = [(rank, *self._arranged(unit, rank)) for rank in unit]
        known = (leader[0], self._transport.key) in self._known
        self._known.add((leader[0], self._transport.key))
        reference = None if known else self._transport.reference
        self._messenger.send(
            leader[0], Begin(serial, task, self._transport.key, reference, leader[1], leader[2], tuple(others))
        )
        self._submitted[serial] = _Submitted(slot, task, self._transport.key, future)

    def _arranged(self, unit: Sequence[int], rank: int) -> tuple[Settings, Place]:
        """Settings and place of one rank of a replica group; a torchrun worker's environment if it has several."""
        near = [other for other in unit if self._nodes[other] == self._nodes[rank]]
        local = near.index(rank)
        gpus = [self._gpus[other] for other in near if other in self._gpus]
        settings = replace(self._settings, gpus=",".join(dict.fromkeys(gpus)) if gpus else None)
        if settings.output is not None and rank != unit[0]:
            settings = replace(settings, output=f"output-{unit.index(rank)}.txt")
        index = (local if len(set(gpus)) == len(near) else 0,) if gpus else ()
        if len(unit) == 1:
            return settings, Place(devices=index)
        there = list(dict.fromkeys(self._nodes[other] for other in unit))
        environ = {
            "RANK": str(unit.index(rank)),
            "WORLD_SIZE": str(len(unit)),
            "LOCAL_RANK": str(local),
            "LOCAL_WORLD_SIZE": str(len(near)),
            "GROUP_RANK": str(there.index(self._nodes[rank])),
        }
        for framework in FRAMEWORKS.values():
            environ |= framework.group_environ(len(near), len(there))
        return settings, Place(unit.index(rank), len(unit), index, environ)

    def wait(self, timeout: float) -> None:
        end = time.monotonic() + timeout
        pause = SHORTEST
        ended_or_reported = False
        while True:
            came = self._messenger.receive()
            if came is not None:
                if self._own is None or not self._own.take(*came):
                    ended_or_reported = self._take(*came) or ended_or_reported
                continue
            if ended_or_reported:
                return
            if self._launcher.is_gone():
                raise LaunchError(
                    "the launcher of this MPI job was killed, so the job ends; the same command goes on with the study"
                )
            left = end - time.monotonic()
            if left <= 0:
                return
            if self._own is None:
                pause = self._messenger.sleep(min(pause, left), longest=self._longest)
            else:
                pause = self._own.rest(min(pause, left))

    def _take(self, sender: int, message: Any) -> bool:
        """Take one message in; whether it is about a training of this run, and from the rank that leads it."""
        if not isinstance(message, Reported | Noticed | Ended) or message.serial not in self._submitted:
            return False
        its = self._submitted[message.serial]
        if sender != self._units[its.slot][0]:
            return False
        if isinstance(message, Noticed):
            self._say(message.text)
            return False
        if isinstance(message, Reported):
            self._reports.append(Progressed(its.task.trial, its.task.index, message.step, message.loss))
            return True
        del self._submitted[message.serial]
        if isinstance(message.ending, ObjectiveUnavailable):
            self._transport.fall_back(its.key, message.ending.failure)
            self._start(its.task, its.slot, its.future)
        elif isinstance(message.ending, Outcome):
            its.future.set_result(message.ending)
        else:
            its.future.set_exception(message.ending)
        return True

    def reports(self) -> list[Progressed]:
        reports, self._reports = self._reports, []
        return reports

    def request_stop(self, task: Task | None = None) -> None:
        for serial, its in self._submitted.items():
            if task is None or its.task == task:
                self._messenger.send(self._units[its.slot][0], RequestStop(serial))

    def on_report(self, callback: Callable[[], None]) -> None:
        pass  # the trainings of other processes never keep `wait` from returning

    def close(self) -> None:
        for serial, its in self._submitted.items():
            self._messenger.send(self._units[its.slot][0], Kill(serial))
        self._submitted.clear()
        if self._own is not None:  # its messages are no longer read
            self._own.abandon()
