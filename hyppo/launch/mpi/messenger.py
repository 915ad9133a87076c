"""Messages between the ranks of an MPI job, with a bell for who sleeps.

Nothing here blocks inside MPI: a blocking receive or barrier burns a core under every MPI measured. Who waits for a
message sleeps between two looks, up to `LONGEST`, and a look costs 0.02 ms. MPI has no descriptor to wait on; so each
message to a rank on the same host is followed by a datagram to a socket that the rank sleeps on. It says no more than
"look now": who does not hear it, or is on another host, looks a little later.
"""

import contextlib
import socket
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hyppo.launch.mpi.world import communicator
from hyppo.launch.wire import readable

TAG = 29401  # keeps these messages apart from those of a script that uses MPI itself
SHORTEST, LONGEST = 1e-4, 5e-3  # s between two looks
FAR = 1e-3  # s between two looks of rank 0 where it waits for other hosts: 2 % of a core, and 4 ms less a training
SLOWER = 1.25  # each sleep to the last one: a message waits a quarter of the time that it took to come, at most
FAREWELL = 10.0  # s that the end of the job may wait for messages under way
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Bell:
    """Where a rank is rung for: its host, and a UDP port on that host's loopback."""

    host: str
    port: int


class Post:
    """Messages between ranks: sent without waiting, looked for without waiting."""

    def __init__(self) -> None:
        self.comm = communicator()
        self._under_way: list[Any] = []
        self._bells: dict[int, Bell] = {}  # of the ranks that have written
        self._socket: socket.socket | None = None
        self._own: Bell | None = None
        with contextlib.suppress(OSError):  # without a loopback there is no bell
            bell = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            bell.setblocking(False)
            bell.bind((LOOPBACK, 0))
            self._socket, self._own = bell, Bell(socket.gethostname(), bell.getsockname()[1])

    @property
    def files(self) -> list[int]:
        """Descriptors to wait on: readable when there may be a message."""
        return [] if self._own is None or self._socket is None else [self._socket.fileno()]

    def hears(self, rank: int) -> bool:
        """Whether a message of that rank rings here."""
        its = self._bells.get(rank)
        return its is not None and self._own is not None and its.host == self._own.host

    def send(self, rank: int, message: Any) -> None:
        self._under_way = [request for request in self._under_way if not request.Test()]
        self._under_way.append(self.comm.isend((self._own, message), dest=rank, tag=TAG))
        if self._socket is not None and self.hears(rank):
            with contextlib.suppress(OSError):  # its queue is full, so it has been rung for, or the rank has gone
                self._socket.sendto(b"", (LOOPBACK, self._bells[rank].port))

    def receive(self) -> tuple[int, Any] | None:
        """(sender, message), or None where none is there."""
        from mpi4py import MPI

        status = MPI.Status()
        # MPICH takes a message in at one look, and has it at the next.
        for _ in range(2):
            matched = self.comm.improbe(source=MPI.ANY_SOURCE, tag=TAG, status=status)
            if matched is not None:
                break
        else:
            return None
        bell, message = matched.recv()
        sender = int(status.source)
        if bell is not None:
            self._bells[sender] = bell
        return sender, message

    def sleep(self, pause: float, *files: int, longest: float = LONGEST) -> float:
        """Sleep until the bell rings or one of `files` is readable, at most `pause` seconds; how long to sleep next."""
        if not readable([*self.files, *files], pause):
            return min(SLOWER * pause, longest)
        with contextlib.suppress(OSError):  # BlockingIOError: all is heard
            while self._socket is not None:
                self._socket.recv(1)
        return SHORTEST

    def flush(self, seconds: float) -> None:
        """Wait until what was sent has gone, at most `seconds`."""
        end = time.monotonic() + seconds
        while self._under_way and time.monotonic() < end:
            self._under_way = [request for request in self._under_way if not request.Test()]
            time.sleep(SHORTEST)


@lru_cache(maxsize=1)
def post() -> Post:
    """The post of this rank; the first call initialises MPI."""
    return Post()
