"""Messages between a training process and the process that started it, over a pair of pipes.

down   length-prefixed pickles: Setup, then any number of (Train, Stop?), then End
up     frames of JSON: Ready; for each Train: Unready, or Began, (Report | Notice)*, Done

The way up is never unpickled: the training runs other people's code, and may write to any descriptor.
"""

import base64
import contextlib
import json
import os
import pickle
import select
import signal
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from hyppo.stats import LossStats
from hyppo.training.replica import Failure, Goal, Outcome, Task

LENGTH = struct.Struct("<Q")
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)  # of batch systems and terminals
MAGIC = b"\x1ehyp"
HEAD = struct.Struct("<4sII")
LONGEST = 1 << 30  # bytes of a reply; a curve of a million reports has 30 MB


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
    """The user's script: the file that runs as `__main__`, and its dotted name if it was started by `python -m`.

    `directory` is the one that it was started in, which it may have left.
    """

    path: str
    name: str | None = None
    directory: str | None = None


@dataclass(frozen=True, slots=True)
class Setup:
    """The state that a training process copies from the process that started it.

    `root` is the study's seed: the script of the user runs with random generators seeded from it.
    """

    path: tuple[str, ...]
    argv: tuple[str, ...]
    directory: str
    pythonpath: str | None
    script: Script | None
    root: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Place of a training in a data-parallel group, and the environment that its frameworks read."""

    rank: int = 0
    world_size: int = 1
    devices: tuple[int, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Train:
    """Train once. `objective` is left out if the training process knows `key` already."""

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
    """The training process is up. `watchdog`: the process that ends the processes of a training; 0 if there is none."""

    watchdog: int = 0


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
    """A call of `replica.report`."""

    step: int
    loss: float


@dataclass(frozen=True, slots=True)
class Done:
    """A training ended. `saw_stop`: it was cut short and must be repeated; `resident` in bytes.

    `usable`: whether this process can train again.
    """

    outcome: Outcome
    saw_stop: bool
    resident: int
    usable: bool


@dataclass(frozen=True, slots=True)
class Notice:
    """A line for the person who runs the study."""

    text: str


Reply = Ready | Unready | Began | Report | Notice | Done


def send(fd: int, message: Any) -> None:
    """Write one message to a training process, whole.

    Raises
    ------
    BrokenPipeError
        Nobody reads any more.
    """
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    _write(fd, LENGTH.pack(len(body)) + body)


def reply(fd: int, message: Reply) -> None:
    """Write one message of a training process, whole: as JSON, since its reader trusts no byte of it.

    Raises
    ------
    BrokenPipeError
        Nobody reads any more.
    """
    _write(fd, frame(message))


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def frame(message: Reply) -> bytes:
    """The bytes of a reply: `MAGIC`, the length and the CRC of the body, and the body, which is JSON."""
    body = json.dumps([type(message).__name__, asdict(message)], default=_as_text).encode("ascii")
    return HEAD.pack(MAGIC, len(body), zlib.crc32(body)) + body


def _as_text(value: Any) -> str:
    if not isinstance(value, bytes):
        raise TypeError(f"a reply holds a {type(value).__name__}")
    return base64.b64encode(value).decode("ascii")


def _parsed(body: bytes) -> Reply:
    kind, fields = json.loads(body)
    match kind:
        case "Ready":
            return Ready(**fields)
        case "Began":
            return Began(**fields)
        case "Report":
            return Report(int(fields["step"]), float(fields["loss"]))
        case "Unready":
            return Unready(Failure(**fields["failure"]))
        case "Notice":
            return Notice(str(fields["text"]))
        case "Done":
            return Done(
                _outcome(fields["outcome"]), bool(fields["saw_stop"]), int(fields["resident"]), bool(fields["usable"])
            )
    raise ValueError(f"no reply is a {kind}")


def _outcome(fields: dict[str, Any]) -> Outcome:
    failure, losses, criterion = fields["failure"], fields["losses"], fields["criterion"]
    return Outcome(
        **fields
        | {
            "failure": None if failure is None else Failure(**failure),
            "curve": tuple((int(step), float(loss)) for step, loss in fields["curve"]),
            "losses": None if losses is None else LossStats(**losses),
            "criterion": None if criterion is None else base64.b64decode(criterion),
            "goal": None if fields["goal"] is None else Goal(**fields["goal"]),
        }
    )


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


def members(session: int) -> list[int]:
    """The processes of a session that run; none if the system does not say."""
    found = []
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
                state, _, _, its = file.read().rpartition(b")")[2].split()[:4]
                if int(its) == session and state != b"Z":
                    found.append(int(name))
    return found


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/children", encoding="ascii") as file:
                    waiting += [int(child) for child in file.read().split()]
    return found


def family_memory(pid: int, limit: int) -> int:
    """Bytes of a process and its descendants in memory; pages that several of them share count once.

    The kernel takes long to tell shares apart, so that is asked only if the plain sum is above `limit`.
    """
    family = _family(pid)
    total = sum(map(resident_memory, family))
    if total <= limit or len(family) == 1:
        return total
    shares = [_proportional_memory(one) for one in family]
    return total if None in shares else sum(share for share in shares if share is not None)


def _proportional_memory(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("Pss:"))
    except FileNotFoundError:
        return 0  # it has ended, or a kernel thread of it is left
    except (OSError, StopIteration, ValueError):
        return None


def resident_memory(pid: int) -> int:
    """Bytes of a process in memory; 0 if the system does not tell.

    >>> resident_memory(os.getpid()) >= 0
    True
    """
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class WireError(Exception):
    """Bytes on the pipe of a training process that are no reply: the training wrote to it."""


class Inbox:
    """Assembles replies from a stream of bytes that arrives in pieces.

    >>> inbox = Inbox()
    >>> stream = frame(Report(1, 0.5))
    >>> inbox.feed(stream[:9]), inbox.feed(stream[9:])
    ([], [Report(step=1, loss=0.5)])
    """

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that `data` completes.

        Raises
        ------
        WireError
            The bytes are no reply; nothing that follows can be trusted.
        """
        self._bytes += data
        replies = []
        while self._bytes:
            if not MAGIC.startswith(self._bytes[: len(MAGIC)]):
                raise WireError(f"a reply begins with {MAGIC!r}, not with {bytes(self._bytes[:16])!r}")
            if len(self._bytes) < HEAD.size:
                break
            _, size, checksum = HEAD.unpack_from(self._bytes)
            if size > LONGEST:
                raise WireError(f"a reply has at most {LONGEST} bytes, not {size}")
            stop = HEAD.size + size
            if len(self._bytes) < stop:
                break
            body = bytes(self._bytes[HEAD.size : stop])
            if zlib.crc32(body) != checksum:
                raise WireError("a reply is damaged")
            try:
                replies.append(_parsed(body))
            except (ValueError, TypeError, KeyError) as error:
                raise WireError(f"a reply cannot be read: {error}") from error
            del self._bytes[:stop]
        return replies
