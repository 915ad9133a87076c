"""A rank of an MPI job that trains, in a child process: any rank that dies would take the whole job with it.

The first rank of a replica group leads it: it receives the training from rank 0, passes it on to the other ranks of the
group, and tells rank 0 how it ended.
"""

import atexit
import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
import traceback
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from hyppo.errors import LaunchError
from hyppo.launch.mpi.messages import Begin, Bye, Ended, Hello, Kill, Noticed, Release, Reported, RequestStop, Settings
from hyppo.launch.mpi.messenger import FAREWELL, LONGEST, SHORTEST, WOKEN, Messenger
from hyppo.launch.mpi.world import Launcher
from hyppo.launch.output import relay
from hyppo.launch.process import Ending, TrainingProcess
from hyppo.launch.surroundings import environment, visible_gpus
from hyppo.launch.wire import Reference
from hyppo.loop import PROCESS_FAILURES
from hyppo.training.replica import Outcome, Task

ECHO = 0.5  # s between the failure of one rank of a group and the failures that it causes
PORTS = range(10_000, 32_000)  # below the range from which the kernel takes ports for outgoing connections
PORTS_A_RANK = 32


def node_name() -> str:
    """Name of this rank's node; virtual nodes of one host, as Slurm can have, count as several."""
    host, slurm = socket.gethostname(), os.environ.get("SLURMD_NODENAME", "")
    return f"{host}/{slurm}" if slurm and not host.startswith(slurm) else host


def notice_of_unseen_file(node: str, journal: str) -> str:
    """The notice of a rank that does not see the study's folder."""
    return (
        f"a rank on node {node} does not see {journal}: that folder is another one there, so rank 0 does not see the "
        "networks, predictions and states to resume from that trainings leave in it. Give the study a log= in a folder "
        "that all nodes share"
    )


def introduction() -> Hello:
    """The introduction of this rank."""
    gpus = os.environ.get("SLURM_GPUS_ON_NODE", "")
    return Hello(node_name(), visible_gpus(), int(gpus) if gpus.isdigit() else 0)


@dataclass(slots=True)
class _Training:
    """The training that runs on a rank, and the endings that it waits for from its group.

    `leads`: this is the first rank of the group. Its reports stand for the group's.
    """

    serial: int
    asker: int
    leads: bool
    others: dict[int, Ending | None]
    own: Ending | None = None
    failed_at: float | None = None


class Rank:
    """A rank that serves: one training process, and the lead of a group if it is the first in one."""

    def __init__(self, messenger: Messenger) -> None:
        self._messenger = messenger
        self._process: TrainingProcess | None = None
        self._settings: Settings | None = None
        self._key: int | None = None  # of the latest objective, the only one that is kept
        self._reference: Reference | None = None
        self._known_to: set[int] = set()  # ranks of the group that have it
        self._training: _Training | None = None
        self._ports = 0

    def serve(self, launcher: Launcher) -> NoReturn:
        """Train as rank 0 says until it releases this rank, or the launcher of the job is gone."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
            signal.signal(number, lambda *_: None)  # rank 0 gets them too, and decides
        self._messenger.send(0, introduction())
        pause = SHORTEST
        while True:
            came = self._messenger.receive()
            if came is not None:
                if isinstance(came[1], Release):
                    self.close()
                    self._leave()
                self.take(*came)
                pause = SHORTEST
            else:
                pause = self.rest(pause)
                if launcher.is_gone():
                    self.close()
                    os._exit(1)  # MPI's end would wait for ranks that are gone

    def rest(self, pause: float) -> float:
        """Wait for the training process, `pause` seconds at most, and look at it; how long to wait next time."""
        files = self._process.files if self._process is not None else ()
        pause = self._messenger.sleep(pause, *files, longest=WOKEN if self._messenger.can_wake(0) else LONGEST)
        self._look()
        return pause

    def take(self, sender: int, message: Any) -> bool:
        """Act on a message to a rank that trains; False if it is for the rank that asks."""
        match message:
            case Begin():
                self._begin(sender, message)
            case RequestStop(serial):
                if self._training is not None and self._training.serial == serial:
                    if self._process is not None:
                        self._process.request_stop()
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
            self._key, self._reference = begin.key, begin.objective
            self._known_to.clear()
        assert begin.key == self._key
        assert self._reference is not None
        place = begin.place
        if begin.others:
            shared = self._rendezvous(begin)
            place = replace(place, environ={**place.environ, **shared})
            for rank, settings, its in begin.others:
                its = replace(its, environ={**its.environ, **shared})
                reference = None if rank in self._known_to else self._reference
                self._known_to.add(rank)
                self._messenger.send(rank, Begin(begin.serial, begin.task, begin.key, reference, settings, its))
        new = begin.settings != self._settings
        if self._process is None or new:
            if self._process is not None:
                self._process.close()
            self._settings = begin.settings
            gpus = {} if begin.settings.gpus is None else {"CUDA_VISIBLE_DEVICES": begin.settings.gpus}
            self._process = TrainingProcess(
                environment(begin.settings.threads, int(os.environ.get("SLURM_CPUS_PER_TASK", "1")), gpus),
                begin.settings.limits,
                begin.settings.output,
                None if begin.settings.output else relay,
                self._notice,
                begin.settings.root,
            )
        self._training = _Training(begin.serial, asker, place.rank == 0, {rank: None for rank, _, _ in begin.others})
        self._process.train(begin.task, begin.key, self._reference, place)
        journal = begin.settings.journal
        if new and journal is not None and not os.path.exists(journal):
            self._notice(begin.task, notice_of_unseen_file(node_name(), journal))

    def _notice(self, task: Task, text: str) -> None:
        if self._training is not None and self._training.leads:
            self._messenger.send(self._training.asker, Noticed(self._training.serial, text))

    def _rendezvous(self, begin: Begin) -> dict[str, str]:
        """Meeting point of the ranks of a group: a port that no other group of this job uses, and a token to prove it.

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
        """A free port from this rank's share of the ports."""
        first = self._messenger.rank * PORTS_A_RANK
        for _ in range(PORTS_A_RANK):
            self._ports += 1
            port = PORTS[(first + self._ports % PORTS_A_RANK) % len(PORTS)]
            with socket.socket() as candidate, contextlib.suppress(OSError):
                candidate.bind(("", port))
                return port
        raise LaunchError(
            f"rank {self._messenger.rank} finds no free port among its {PORTS_A_RANK} for a group to meet at"
        )

    def _look(self) -> None:
        """Read the training process: pass on its reports, note its end."""
        if self._process is None:
            return
        ending = self._process.poll()
        reports, self._process.reports = self._process.reports, []
        training = self._training
        if training is None:
            return
        if training.leads:
            for step, loss in reports:
                self._messenger.send(0, Reported(training.serial, step, loss))
        if ending is not None:
            training.own = ending
        self._conclude()

    def _conclude(self) -> None:
        """Tell how the training ended, once it has ended on every rank of the group, or failed on one.

        After a failure the others get a moment: if a rank was killed, the ranks connected to it fail as well, and their
        failures may arrive first.
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
        self.abandon()
        self._messenger.send(training.asker, Ended(training.serial, _decisive(settled)))

    def _tell_others(self, message: Any) -> None:
        if self._training is not None:
            for rank, ending in self._training.others.items():
                if ending is None:
                    self._messenger.send(rank, message)

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
            self._messenger.send(0, Bye())
            self._messenger.flush(FAREWELL)
            atexit._run_exitfuncs()
            MPI.Finalize()
        except Exception:
            traceback.print_exc()
            status = 1
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        # Not os._exit: MPICH tells its launcher in an exit handler of C that this rank has finalised. Without that the
        # rank counts as crashed, and the launcher kills the others (seen in every second job of a busy machine).
        ctypes.CDLL(None).exit(status)
        raise AssertionError("exit does not return")


def _decisive(endings: Sequence[Ending]) -> Ending:
    """The ending of a group, from the endings of its ranks, the leader's first.

    A process that died explains the exceptions of the others, and the first exception those that follow when the
    connections of its rank close. A stop or a failure of any rank is one of all.
    """
    failed = sorted((e for e in endings if isinstance(e, Outcome) and e.failure is not None), key=lambda e: e.end)
    died = [e for e in failed if e.failure is not None and e.failure.type in PROCESS_FAILURES]
    cut = [e for e in endings if not isinstance(e, Outcome)]
    return [*died, *cut, *failed, *endings][0]
