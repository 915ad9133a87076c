"""What a rank and its training process say to each other: length-prefixed pickles over a pair of pipes.

down   Setup, then any number of (Train, Stop?), then End
up     for each Train: Unready, or Began, Report*, Done
"""

import os
import pickle
import select
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hyppo.training.replica import Failure, Outcome, Task

LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class ByName:
    """An objective that is found by its module and qualified name."""

    module: str
    qualname: str


@dataclass(frozen=True, slots=True)
class ByValue:
    """An objective that travels as a cloudpickle: a closure, a lambda, a notebook's cell."""

    pickle: bytes


Reference = ByName | ByValue


@dataclass(frozen=True, slots=True)
class Script:
    """The user's script: the file that runs as `__main__`, and its dotted name where it was started by `python -m`."""

    path: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Setup:
    """What makes a training process look like the process that started it."""

    path: tuple[str, ...]
    argv: tuple[str, ...]
    directory: str
    pythonpath: str | None
    script: Script | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a data-parallel group a training runs, and the environment that its frameworks read."""

    rank: int = 0
    world_size: int = 1
    devices: tuple[int, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Train:
    """Train once. `objective` is left out where the training process knows what `key` stands for."""

    task: Task
    key: int
    objective: Reference | None
    place: Place


@dataclass(frozen=True, slots=True)
class Stop:
    """Raise `replica.should_stop` in the training that runs."""


@dataclass(frozen=True, slots=True)
class End:
    """Leave."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The training process is up."""


@dataclass(frozen=True, slots=True)
class Unready:
    """The objective could not be found or loaded here."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Began:
    """The user's function is called now (unix seconds)."""

    time: float


@dataclass(frozen=True, slots=True)
class Report:
    """What `replica.report` was told."""

    step: int
    loss: float


@dataclass(frozen=True, slots=True)
class Done:
    """A training ended. `saw_stop`: it saw `should_stop`, so its loss is of a cut training; `resident` in bytes."""

    outcome: Outcome
    saw_stop: bool
    resident: int


def send(fd: int, message: Any) -> None:
    """Write one message, whole.

    Raises
    ------
    BrokenPipeError
        Nobody reads any more.
    """
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    view = memoryview(LENGTH.pack(len(body)) + body)
    while view:
        view = view[os.write(fd, view) :]


def _exactly(fd: int, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = os.read(fd, min(size - len(parts), 1 << 20))
        if not part:
            raise EOFError("the other end of the pipe is closed")
        parts += part
    return bytes(parts)


def receive(fd: int) -> Any:
    """Read one message, waiting for it.

    Raises
    ------
    EOFError
        The other end is gone.
    """
    (size,) = LENGTH.unpack(_exactly(fd, LENGTH.size))
    return pickle.loads(_exactly(fd, size))


def readable(files: Iterable[int], seconds: float) -> bool:
    """Wait until something can be read from one of `files`, or its other end is closed; at most `seconds`.

    `poll` rather than `select`, which takes no descriptor above 1023.
    """
    poll = select.poll()
    for fd in files:
        poll.register(fd, select.POLLIN)
    return bool(poll.poll(1e3 * seconds))


def resident_memory(pid: int) -> int:
    """Bytes of a process in memory; 0 where the system does not say.

    >>> resident_memory(os.getpid()) >= 0
    True
    """
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class Inbox:
    """Messages out of a stream of bytes that comes in pieces.

    >>> inbox = Inbox()
    >>> body = pickle.dumps(Report(1, 0.5))
    >>> stream = LENGTH.pack(len(body)) + body
    >>> inbox.feed(stream[:9]), inbox.feed(stream[9:])
    ([], [Report(step=1, loss=0.5)])
    """

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """The messages that `data` completes."""
        self._bytes += data
        messages = []
        while len(self._bytes) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._bytes)
            stop = LENGTH.size + size
            if len(self._bytes) < stop:
                break
            messages.append(pickle.loads(bytes(self._bytes[LENGTH.size : stop])))
            del self._bytes[:stop]
        return messages
