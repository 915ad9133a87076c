"""This process's part in an MPI job: everything of it that outlives a run, in one object."""

import atexit
import sys
import time
from collections.abc import Callable
from functools import cached_property, lru_cache
from types import TracebackType
from typing import Any

from hyppo.errors import LaunchError
from hyppo.launch.mpi.messages import Bye, Hello, Release
from hyppo.launch.mpi.messenger import FAREWELL, SHORTEST, Messenger
from hyppo.launch.mpi.rank import Rank
from hyppo.launch.mpi.world import (
    FORWARDED,
    Launcher,
    abort_without_mpi,
    before_finalize,
    join_world,
    watch_for_waiting_calls,
)

MISSED_AFTER = 30.0  # s until a notice names the ranks that are missing
GIVE_UP_AFTER = 900.0  # s until that is an error; importing TensorFlow on a busy file system takes minutes


class Job:
    """The MPI job, as one of its ranks sees it. Get it from `current_job`.

    Attributes
    ----------
    workers_present : dict
        The `Hello` of each serving rank, by rank; filled by `wait_for_ranks`, on rank 0.
    own_rank : Rank or None
        Rank 0 as a training rank; kept between runs, like the other ranks.
    """

    def __init__(self) -> None:
        self.workers_present: dict[int, Hello] = {}
        self.own_rank: Rank | None = None
        self.launcher = Launcher()
        self._guarded = self._releases = self._released = False

    @cached_property
    def communicator(self) -> Any:
        """`COMM_WORLD`; the first use initialises MPI.

        Raises
        ------
        LaunchError
            mpi4py is missing, or the ranks do not form one world.
        """
        return join_world()

    @cached_property
    def messenger(self) -> Messenger:
        """The messages of this rank; the first use initialises MPI."""
        return Messenger(self.communicator)

    @property
    def rank(self) -> int:
        """Rank in the world; 0 alone."""
        return int(self.communicator.rank)

    @property
    def size(self) -> int:
        """Ranks in the world; 1 alone."""
        return int(self.communicator.size)

    def guard(self) -> None:
        """Abort the job when an exception leaves the script of this rank.

        The other ranks would wait for this one in the start or the end of MPI, for ever and at full speed.
        """
        if self._guarded:
            return
        self._guarded = True
        before = sys.excepthook

        def abort(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            before(kind, error, trace)
            try:
                world = self.communicator  # starts MPI if need be: the others wait for this rank to do so
            except LaunchError:
                abort_without_mpi()
                return
            from mpi4py import MPI

            if world.size > 1 and not MPI.Is_finalized():
                print(f"hyppo: rank {world.rank} failed outside a training; the job is aborted", file=sys.stderr)
                sys.stdout.flush()
                sys.stderr.flush()
                time.sleep(FORWARDED)
                world.Abort(1)

        sys.excepthook = abort

    def serve_if_worker(self) -> None:
        """Serve, and never return, on every rank but the first; there, release the others when the script ends."""
        if self.rank > 0:
            Rank(self.messenger).serve(self.launcher)
        if not self._releases:
            self._releases = True
            atexit.register(self._release)
            before_finalize(self._release)
            if self.size > 1:
                watch_for_waiting_calls(lambda text: print(f"hyppo: {text}", file=sys.stderr, flush=True))

    def train_here(self) -> Rank:
        """Rank 0 as one that trains."""
        if self.own_rank is None:
            self.own_rank = Rank(self.messenger)
        return self.own_rank

    def wait_for_ranks(self, say: Callable[[str], None]) -> dict[int, Hello]:
        """Wait until every rank serves.

        Raises
        ------
        LaunchError
            Some rank's script does not come to `study.run`.
        """
        start, said, pause = time.monotonic(), False, SHORTEST
        while len(self.workers_present) < self.size - 1:
            came = self.messenger.receive()
            if came is not None:
                sender, message = came
                if isinstance(message, Hello):
                    self.workers_present[sender] = message
                continue
            waited = time.monotonic() - start
            missing = ", ".join(str(rank) for rank in range(1, self.size) if rank not in self.workers_present)
            if waited > MISSED_AFTER and not said:
                said = True
                say(f"rank {missing} of {self.size} has not reached study.run yet; every rank must run the same script")
            if waited > GIVE_UP_AFTER:
                raise LaunchError(
                    f"rank {missing} of {self.size} did not reach study.run within {GIVE_UP_AFTER:g} s: every rank "
                    "must run the same script up to there; do not call it on rank 0 only"
                )
            pause = self.messenger.sleep(pause)
        return self.workers_present

    def _release(self) -> None:
        """Release the other ranks, and receive their last messages: MPI's finalisation would wait for these.

        It runs once: before the script's own `MPI.Finalize`, or at its exit.
        """
        if self._released:
            return
        self._released = True
        if self.own_rank is not None:
            self.own_rank.close()
        for rank in range(1, self.size):
            self.messenger.send(rank, Release())
        left, end, pause = set(self.workers_present), time.monotonic() + FAREWELL, SHORTEST
        while left and time.monotonic() < end:
            came = self.messenger.receive()
            if came is None:
                pause = self.messenger.sleep(pause)
            elif isinstance(came[1], Bye):
                left.discard(came[0])
        self.messenger.flush(FAREWELL)


@lru_cache(maxsize=1)
def current_job() -> Job:
    """The job of this process; MPI itself starts at the first use of its communicator."""
    return Job()
