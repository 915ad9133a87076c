"""Messages between the ranks of an MPI job, and a socket that wakes a sleeping rank.

Nothing here blocks inside MPI: a blocking receive or barrier burns a core under every MPI measured. A rank that waits
for a message sleeps between two looks, up to `LONGEST`; a look costs 0.02 to 0.2 ms. MPI has no descriptor to wait on,
so each message to a rank on the same host is followed by a datagram to a socket that the rank sleeps on. The datagram
only says "look now": a rank that misses it, or is on another host, looks a little later.
"""

import contextlib
import socket
import time
from dataclasses import dataclass
from typing import Any

from hyppo.launch.wire import readable

TAG = 29401  # keeps these messages apart from those of a script that uses MPI itself
SHORTEST, LONGEST = 1e-4, 5e-3  # s between two looks
WOKEN = 20e-3  # s between two looks of a rank on the host of rank 0, whose messages wake it
FAR = 1e-3  # s between two looks of rank 0 where it waits for other hosts: 2 % of a core, and 4 ms less a training
SLOWER = 1.25  # each sleep to the last one: a message waits a quarter of the time that it took to come, at most
FAREWELL = 10.0  # s that the end of the job may wait for messages under way
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class WakeupAddress:
    """Where a sleeping rank is woken: its host, and a UDP port on that host's loopback."""

    host: str
    port: int


class WakeupSocket:
    """A socket that a rank sleeps on; a datagram to its `address` wakes it.

    Raises
    ------
    OSError
        There is no loopback.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((LOOPBACK, 0))
        self.address = WakeupAddress(socket.gethostname(), self._socket.getsockname()[1])

    def fileno(self) -> int:
        return self._socket.fileno()

    def wake(self, address: WakeupAddress) -> None:
        """Wake the rank at `address`, on this host."""
        with contextlib.suppress(OSError):  # its queue is full, so it is awake already, or the rank has gone
            self._socket.sendto(b"", (LOOPBACK, address.port))

    def drain(self) -> None:
        """Forget the datagrams that have come."""
        with contextlib.suppress(OSError):  # BlockingIOError: none is left
            while True:
                self._socket.recv(1)


class Messenger:
    """Messages between ranks: sent without waiting, looked for without waiting."""

    def __init__(self, communicator: Any) -> None:
        self.communicator = communicator
        self._under_way: list[Any] = []
        self._addresses: dict[int, WakeupAddress] = {}  # of the ranks that have written
        self._wakeup: WakeupSocket | None = None
        with contextlib.suppress(OSError):  # then messages are only looked for
            self._wakeup = WakeupSocket()

    @property
    def rank(self) -> int:
        return int(self.communicator.rank)

    @property
    def files(self) -> list[int]:
        """Descriptors to wait on: readable when there may be a message."""
        return [] if self._wakeup is None else [self._wakeup.fileno()]

    def can_wake(self, rank: int) -> bool:
        """Whether this rank and that one wake each other: they are on one host."""
        address = self._addresses.get(rank)
        return address is not None and self._wakeup is not None and address.host == self._wakeup.address.host

    def send(self, rank: int, message: Any) -> None:
        own = None if self._wakeup is None else self._wakeup.address
        self._under_way = [request for request in self._under_way if not request.Test()]
        self._under_way.append(self.communicator.isend((own, message), dest=rank, tag=TAG))
        if self._wakeup is not None and self.can_wake(rank):
            self._wakeup.wake(self._addresses[rank])

    def receive(self) -> tuple[int, Any] | None:
        """(sender, message), or None if there is none."""
        from mpi4py import MPI

        status = MPI.Status()
        # MPICH takes a message in at one look, and has it at the next.
        for _ in range(2):
            matched = self.communicator.improbe(source=MPI.ANY_SOURCE, tag=TAG, status=status)
            if matched is not None:
                break
        else:
            return None
        address, message = matched.recv()
        sender = int(status.source)
        if address is not None:
            self._addresses[sender] = address
        return sender, message

    def sleep(self, pause: float, *files: int, longest: float = LONGEST) -> float:
        """Sleep until woken or one of `files` is readable, at most `pause` seconds; how long to sleep next."""
        if not readable([*self.files, *files], pause):
            return min(SLOWER * pause, longest)
        if self._wakeup is not None:
            self._wakeup.drain()
        return SHORTEST

    def flush(self, seconds: float) -> None:
        """Wait until all messages have left, at most `seconds`."""
        end = time.monotonic() + seconds
        while self._under_way and time.monotonic() < end:
            self._under_way = [request for request in self._under_way if not request.Test()]
            time.sleep(SHORTEST)
