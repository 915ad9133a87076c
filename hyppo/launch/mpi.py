"""Trainings on the ranks of an MPI job: rank 0 asks, the others serve until its script ends.

    0 -> any         Release
    0 -> leader      Begin, Halt, Kill                a leader is the first rank of a replica group
    any    -> 0      Hello, Bye
    leader -> 0      Reported, Ended
    leader -> rank   Begin, Halt, Kill                to the other data-parallel ranks of its group
    rank -> leader   Ended

Rank 0 may train too (`manager=shared`): it then sends itself what it sends to others, and looks after its training
process whenever it waits. While it searches for a point that process is left alone, and fills its pipes at worst.

Each rank trains in a child process, because any rank that dies takes the whole job with it. Nothing here blocks inside
MPI, see `hyppo.launch.post`, and there is no collective call but the start and the end of MPI itself. `mpi4py.futures`
has no way to report from a training, to stop one, or to place one by its group; it can still be had as
`run(executor=...)`.
"""

import atexit
import contextlib
import ctypes
import itertools
import os
import signal
import socket
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NoReturn

from hyppo.errors import LaunchError
from hyppo.launch.objective import Shipment
from hyppo.launch.partition import Plan, devices, partition
from hyppo.launch.post import FAR, LONGEST, SHORTEST, post
from hyppo.launch.process import (
    OUTPUT,
    Ending,
    Limits,
    NotShipped,
    TrainingProcess,
    environment,
    relay,
    visible_gpus,
)
from hyppo.launch.wire import Place, Reference
from hyppo.launch.world import communicator
from hyppo.replica import Outcome, Task
from hyppo.run import PROCESS_FAILURES, Options, Progressed

MISSED_AFTER = 30.0  # s until it is said which ranks have not come
GIVE_UP_AFTER = 900.0  # s until that is an error; importing TensorFlow on a busy file system takes minutes
FAREWELL = 10.0  # s that the end of the job may wait for messages under way
ECHO = 0.5  # s between the failure of one rank of a group and those that follow from it
PORTS = range(10_000, 32_000)  # below the range from which the kernel takes ports for outgoing connections
PORTS_A_RANK = 32


@dataclass(frozen=True, slots=True)
class Hello:
    """A rank serves from now on: where it is, which GPUs it sees, and how many the batch system gave to its node."""

    node: str
    gpus: tuple[str, ...]
    gpus_of_node: int = 0


@dataclass(frozen=True, slots=True)
class Bye:
    """A rank has nothing more to send."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a rank's training process is made with: another value is another process.

    `threads` None leaves them to the rank; `output` names the file that takes what it prints, None relays it; `gpus` is
    its CUDA_VISIBLE_DEVICES.
    """

    threads: int | None
    limits: Limits
    output: str | None
    gpus: str | None = None


@dataclass(frozen=True, slots=True)
class Begin:
    """Train. To a leader `others` names the rest of its group, with the settings and nodes of each."""

    serial: int
    task: Task
    key: int
    objective: Reference | None
    settings: Settings
    place: Place
    others: tuple[tuple[int, Settings, Place], ...] = ()


@dataclass(frozen=True, slots=True)
class Halt:
    """Raise `should_stop` in the training that runs."""

    serial: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End the training that runs, at once."""

    serial: int


@dataclass(frozen=True, slots=True)
class Release:
    """Finalise MPI and leave."""


@dataclass(frozen=True, slots=True)
class Reported:
    """A training has reported."""

    serial: int
    step: int
    loss: float


@dataclass(frozen=True, slots=True)
class Ended:
    """A training has ended."""

    serial: int
    ending: Ending


def _release() -> None:
    """Let the other ranks go, and take in what they still send: MPI's finalisation would wait for it."""
    if own := _own_rank():
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


# -- rank 0 -----------------------------------------------------------------------------------------------------------


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
    """The replica groups of an MPI job, as rank 0 sees them. See `hyppo.run.Workers`."""

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
        self._own = _own_rank(make=plan.shared)
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


# -- the other ranks --------------------------------------------------------------------------------------------------


def node_name() -> str:
    """What tells this rank's node from others; virtual nodes of one host, as Slurm can have, count as several."""
    host, slurm = socket.gethostname(), os.environ.get("SLURMD_NODENAME", "")
    return f"{host}/{slurm}" if slurm and not host.startswith(slurm) else host


def introduction() -> Hello:
    """What this rank has to say of itself."""
    gpus = os.environ.get("SLURM_GPUS_ON_NODE", "")
    return Hello(node_name(), visible_gpus(), int(gpus) if gpus.isdigit() else 0)


def attend() -> None:
    """Serve, and never return, on every rank but the first; there, see to it that the others are released."""
    if communicator().rank > 0:
        Rank().serve()
    _release_at_exit()


@lru_cache(maxsize=1)
def _release_at_exit() -> None:
    atexit.register(_release)


@dataclass(slots=True)
class _Training:
    """The training that a rank is in, and what it awaits of its group."""

    serial: int
    asker: int
    others: dict[int, Ending | None]
    own: Ending | None = None
    failed_at: float | None = None


class Rank:
    """A rank that serves: one training process, and the lead of a group where it is the first in one."""

    def __init__(self) -> None:
        self._process: TrainingProcess | None = None
        self._settings: Settings | None = None
        self._references: dict[int, Reference] = {}
        self._training: _Training | None = None
        self._ports = 0

    def serve(self) -> NoReturn:
        """Train what rank 0 says until it releases this rank."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, lambda *_: None)  # rank 0 gets them too, and decides what they mean
        post().send(0, introduction())
        pause = SHORTEST
        while True:
            came = post().receive()
            if came is not None:
                if isinstance(came[1], Release):
                    self.close()
                    self._leave()
                self.take(*came)
                pause = SHORTEST
            else:
                pause = self.rest(pause)

    def rest(self, pause: float) -> float:
        """Wait for the training process, `pause` seconds at most, and look at it; how long to wait next time."""
        pause = post().sleep(pause, *(self._process.files if self._process is not None else ()))
        self._look()
        return pause

    def take(self, sender: int, message: Any) -> bool:
        """Do what a message asks of a rank that trains; False where it is for the one that asks."""
        match message:
            case Begin():
                self._begin(sender, message)
            case Halt(serial):
                if self._training is not None and self._training.serial == serial:
                    if self._process is not None:
                        self._process.stop()
                    self._tell_others(message)
            case Kill(serial):
                if self._training is not None and self._training.serial == serial:
                    self.abandon()
            case Ended(serial, ending):
                if self._training is None or self._training.serial != serial or sender not in self._training.others:
                    return False
                self._training.others[sender] = ending
            case _:
                return False
        return True

    def _begin(self, asker: int, begin: Begin) -> None:
        self.abandon()
        if begin.objective is not None:
            self._references[begin.key] = begin.objective
        reference = self._references[begin.key]
        place = begin.place
        if begin.others:
            shared = self._rendezvous(begin)
            place = replace(place, environ={**place.environ, **shared})
            for rank, settings, its in begin.others:
                its = replace(its, environ={**its.environ, **shared})
                post().send(rank, Begin(begin.serial, begin.task, begin.key, reference, settings, its))
        if self._process is None or begin.settings != self._settings:
            if self._process is not None:
                self._process.close()
            self._settings = begin.settings
            gpus = {} if begin.settings.gpus is None else {"CUDA_VISIBLE_DEVICES": begin.settings.gpus}
            self._process = TrainingProcess(
                environment(begin.settings.threads, int(os.environ.get("SLURM_CPUS_PER_TASK", "1")), gpus),
                begin.settings.limits,
                begin.settings.output or relay,
            )
        self._training = _Training(begin.serial, asker, {rank: None for rank, _, _ in begin.others})
        self._process.train(begin.task, begin.key, reference, place)

    def _rendezvous(self, begin: Begin) -> dict[str, str]:
        """Where the ranks of a group meet: a port that no other group of this job uses, and a token to prove it.

        Two groups on one port would train each other's weights without a word.
        """
        alone = begin.place.environ["LOCAL_WORLD_SIZE"] == begin.place.environ["WORLD_SIZE"]
        shared = {
            "MASTER_ADDR": "127.0.0.1" if alone else socket.getfqdn(),
            "MASTER_PORT": str(self._free_port()),
            "TORCHELASTIC_RUN_ID": uuid.uuid4().hex,
            "TORCHELASTIC_RESTART_COUNT": "0",
            "TORCHELASTIC_MAX_RESTARTS": "0",
        }
        if alone and sys.platform == "linux":
            shared["GLOO_SOCKET_IFNAME"] = "lo"  # a host's name need not resolve to an address of its own
        return shared

    def _free_port(self) -> int:
        """A port from this rank's own share that nobody listens on now."""
        first = int(communicator().rank) * PORTS_A_RANK
        for _ in range(PORTS_A_RANK):
            self._ports += 1
            port = PORTS[(first + self._ports % PORTS_A_RANK) % len(PORTS)]
            with socket.socket() as candidate, contextlib.suppress(OSError):
                candidate.bind(("", port))
                return port
        raise LaunchError(
            f"rank {communicator().rank} finds no free port among its {PORTS_A_RANK} for a group to meet at"
        )

    def _look(self) -> None:
        """See what the training process has to say."""
        if self._process is None:
            return
        ending = self._process.pump()
        reports, self._process.reports = self._process.reports, []
        training = self._training
        if training is None:
            return
        if training.asker == 0:
            for step, loss in reports:
                post().send(0, Reported(training.serial, step, loss))
        if ending is not None:
            training.own = ending
        self._conclude()

    def _conclude(self) -> None:
        """Tell how the training ended, once it has on every rank of the group, or failed on one.

        After a failure the others get a moment: where a rank was killed, those that were connected to it fail as well,
        and theirs may come first.
        """
        training = self._training
        if training is None:
            return
        endings = [training.own, *training.others.values()]
        settled = [ending for ending in endings if ending is not None]
        if len(settled) < len(endings):
            if all(isinstance(ending, Outcome) and ending.failure is None for ending in settled):
                return
            training.failed_at = training.failed_at or time.monotonic()
            if time.monotonic() - training.failed_at < ECHO:
                return
        self._tell_others(Kill(training.serial))
        if training.own is None and self._process is not None:
            self._process.close()
        self._training = None
        post().send(training.asker, Ended(training.serial, _decisive(settled)))

    def _tell_others(self, message: Any) -> None:
        if self._training is not None:
            for rank, ending in self._training.others.items():
                if ending is None:
                    post().send(rank, message)

    def abandon(self) -> None:
        """End the training that runs, here and in the group that this rank leads."""
        training = self._training
        if training is None:
            return
        self._tell_others(Kill(training.serial))
        if training.own is None and self._process is not None:
            self._process.close()
        self._training = None

    def close(self) -> None:
        """End the training that runs, and the process that trains."""
        self.abandon()
        if self._process is not None:
            self._process.close()

    def _leave(self) -> NoReturn:
        """End this rank together with the others, without going through the rest of the script.

        MPI is left by C's own exit: MPICH takes leave of its launcher there, and without that kills the job at random.
        """
        from mpi4py import MPI

        status = 0
        try:
            post().send(0, Bye())
            post().flush(FAREWELL)
            atexit._run_exitfuncs()
            MPI.Finalize()
        except Exception:
            traceback.print_exc()
            status = 1
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        # Not os._exit: MPICH tells its launcher in an exit handler of C that this rank has finalised. One that leaves
        # without counts as crashed, and the launcher kills what still runs (seen: every second job of a busy machine).
        ctypes.CDLL(None).exit(status)
        raise AssertionError("exit does not return")


_own: list[Rank] = []


def _own_rank(make: bool = False) -> Rank | None:
    """Rank 0 as one that trains: kept from one run to the next, as the others are."""
    if make and not _own:
        _own.append(Rank())
    return _own[0] if _own else None


def _decisive(endings: Sequence[Ending]) -> Ending:
    """Of the endings of a group's ranks, the leader's first: what stands for all.

    A process that died explains the exceptions of the others; a stop or a failure of any is one of all.
    """
    failed = [e for e in endings if isinstance(e, Outcome) and e.failure is not None]
    died = [e for e in failed if e.failure is not None and e.failure.type in PROCESS_FAILURES]
    cut = [e for e in endings if not isinstance(e, Outcome)]
    return [*died, *cut, *failed, *endings][0]
