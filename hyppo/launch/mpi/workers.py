"""Trainings on the ranks of an MPI job: rank 0 asks, the others serve until its script ends.

Rank 0 may train too (`manager=shared`): it then sends itself what it sends to others, and looks after its training
process whenever it waits. While it searches for a point that process is left alone, and fills its pipes at worst.

Each rank trains in a child process, because any rank that dies takes the whole job with it. Nothing here blocks inside
MPI, see `hyppo.launch.mpi.messenger`, and there is no collective call but the start and the end of MPI itself.
`mpi4py.futures` has no way to report from a training, to stop one, or to place one by its group; it can still be had as
`run(executor=...)`.
"""

import atexit
import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from hyppo.errors import LaunchError
from hyppo.launch.mpi.messages import Begin, Bye, Ended, Halt, Hello, Kill, Release, Reported, Settings
from hyppo.launch.mpi.messenger import FAR, FAREWELL, LONGEST, SHORTEST, post
from hyppo.launch.mpi.partition import Plan, devices, partition
from hyppo.launch.mpi.rank import Rank, introduction, own_rank
from hyppo.launch.mpi.world import communicator
from hyppo.launch.objective import Shipment
from hyppo.launch.process import OUTPUT, Limits, NotShipped
from hyppo.launch.wire import Place
from hyppo.loop import Options, Progressed
from hyppo.training.replica import Outcome, Task

MISSED_AFTER = 30.0  # s until it is said which ranks have not come
GIVE_UP_AFTER = 900.0  # s until that is an error; importing TensorFlow on a busy file system takes minutes


def attend() -> None:
    """Serve, and never return, on every rank but the first; there, see to it that the others are released."""
    if communicator().rank > 0:
        Rank().serve()
    _release_at_exit()


@lru_cache(maxsize=1)
def _release_at_exit() -> None:
    atexit.register(_release)


def _release() -> None:
    """Let the other ranks go, and take in what they still send: MPI's finalisation would wait for it."""
    if own := own_rank():
        own.close()
    for rank in range(1, communicator().size):
        post().send(rank, Release())
    fleet, end, pause = set(_fleet()), time.monotonic() + FAREWELL, SHORTEST
    while fleet and time.monotonic() < end:
        came = post().receive()
        if came is None:
            pause = post().sleep(pause)
        elif isinstance(came[1], Bye):
            fleet.discard(came[0])
    post().flush(FAREWELL)


@lru_cache(maxsize=1)
def _fleet() -> dict[int, Hello]:
    """The ranks that serve, filled by `muster`."""
    return {}


def muster(say: Callable[[str], None]) -> dict[int, Hello]:
    """Wait until every rank serves.

    Raises
    ------
    LaunchError
        Some rank's script does not come to `study.run`.
    """
    fleet, start, said, pause = _fleet(), time.monotonic(), False, SHORTEST
    size = communicator().size
    while len(fleet) < size - 1:
        came = post().receive()
        if came is not None:
            sender, message = came
            if isinstance(message, Hello):
                fleet[sender] = message
            continue
        waited = time.monotonic() - start
        missing = ", ".join(str(rank) for rank in range(1, size) if rank not in fleet)
        if waited > MISSED_AFTER and not said:
            said = True
            say(f"rank {missing} of {size} has not come to study.run yet; every rank must run the same script")
        if waited > GIVE_UP_AFTER:
            raise LaunchError(
                f"rank {missing} of {size} did not come to study.run within {GIVE_UP_AFTER:g} s: every rank must run "
                "the same script up to there; do not call it on rank 0 only"
            )
        pause = post().sleep(pause)
    return fleet


def workers(
    objective: Callable[..., Any], options: Options, limits: Limits, replicas: int, say: Callable[[str], None]
) -> "tuple[MpiWorkers, str]":
    """The ranks of this job as workers, and the sentence of their plan."""
    fleet = muster(say)
    size = communicator().size
    hellos = [introduction(), *(fleet[rank] for rank in range(1, size))]
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
    return MpiWorkers(objective, plan, nodes, [hello.gpus for hello in hellos], options, limits), plan.sentence


def gpus_of(hellos: Sequence[Hello]) -> dict[str, int]:
    """GPUs of each node that has any: those that its ranks see.

    Where a batch system shows each rank its own GPU alone, all of them call it 0: then its count is right.

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
        objective: Callable[..., Any],
        plan: Plan,
        nodes: Sequence[str],
        visible: Sequence[Sequence[str]],
        options: Options,
        limits: Limits,
    ) -> None:
        self._units = [unit for group in plan.groups for unit in group]
        self.groups: Sequence[int] = [number for number, group in enumerate(plan.groups) for _ in group]
        self._nodes = nodes
        self._gpus = devices([rank for unit in self._units for rank in unit], nodes, visible)
        self._settings = Settings(options.threads, limits, None if options.output == "relay" else OUTPUT)
        self._shipment = Shipment(objective)
        self._submitted: dict[int, _Submitted] = {}
        self._known: set[tuple[int, int]] = set()
        self._reports: list[Progressed] = []
        self._own = own_rank(make=plan.shared)
        leaders = {unit[0] for unit in self._units} - {0}
        self._longest = LONGEST if all(post().hears(rank) for rank in leaders) else FAR

    def submit(self, task: Task, slot: int) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        self._start(task, slot, future)
        return future

    def _start(self, task: Task, slot: int, future: Future[Outcome]) -> None:
        if self._shipment.reference is None:
            future.set_exception(LaunchError(self._shipment.why_not))
            return
        unit = self._units[slot]
        serial = next(_serials)
        leader, *others = [(rank, *self._arranged(unit, rank)) for rank in unit]
        known = (leader[0], self._shipment.key) in self._known
        self._known.add((leader[0], self._shipment.key))
        reference = None if known else self._shipment.reference
        post().send(leader[0], Begin(serial, task, self._shipment.key, reference, leader[1], leader[2], tuple(others)))
        self._submitted[serial] = _Submitted(slot, task, self._shipment.key, future)

    def _arranged(self, unit: Sequence[int], rank: int) -> tuple[Settings, Place]:
        """Settings and place of one rank of a replica group; a torchrun worker's environment where it has several."""
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
            # Lightning takes these for the defaults of its Trainer.
            "PL_TRAINER_STRATEGY": "ddp",
            "PL_TRAINER_DEVICES": str(len(near)),
            "PL_TRAINER_NUM_NODES": str(len(there)),
        }
        return settings, Place(unit.index(rank), len(unit), index, environ)

    def wait(self, timeout: float) -> None:
        end = time.monotonic() + timeout
        pause = SHORTEST
        heard = False
        while True:
            came = post().receive()
            if came is not None:
                if self._own is None or not self._own.take(*came):
                    heard = self._hear(came[1]) or heard
                continue
            if heard:
                return
            left = end - time.monotonic()
            if left <= 0:
                return
            if self._own is None:
                pause = post().sleep(min(pause, left), longest=self._longest)
            else:
                pause = self._own.rest(min(pause, left))

    def _hear(self, message: Any) -> bool:
        """Take one message in; whether it is of a training of this run."""
        if not isinstance(message, Reported | Ended) or message.serial not in self._submitted:
            return False
        its = self._submitted[message.serial]
        if isinstance(message, Reported):
            self._reports.append(Progressed(its.task.trial, its.task.index, message.step, message.loss))
            return True
        del self._submitted[message.serial]
        if isinstance(message.ending, NotShipped):
            self._shipment.refused(its.key, message.ending.failure)
            self._start(its.task, its.slot, its.future)
        elif isinstance(message.ending, Outcome):
            its.future.set_result(message.ending)
        else:
            its.future.set_exception(message.ending)
        return True

    def reports(self) -> list[Progressed]:
        reports, self._reports = self._reports, []
        return reports

    def stop(self) -> None:
        for serial, its in self._submitted.items():
            post().send(self._units[its.slot][0], Halt(serial))

    def halt(self, task: Task) -> None:
        for serial, its in self._submitted.items():
            if its.task == task:
                post().send(self._units[its.slot][0], Halt(serial))

    def listen(self, heard: Callable[[], None]) -> None:
        pass  # the trainings of other processes never keep `wait`

    def close(self) -> None:
        for serial, its in self._submitted.items():
            post().send(self._units[its.slot][0], Kill(serial))
        self._submitted.clear()
        if self._own is not None:  # nobody looks at what it sends itself from here on
            self._own.abandon()
