"""The parent of a training process: starts it, talks to it, and survives its end.

Nothing here blocks and nothing runs in a thread: the owner of a `TrainingProcess` waits on its `files` and calls
`poll`.
"""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from socket import gethostname

from hyppo.errors import LaunchError
from hyppo.launch.objective import script
from hyppo.launch.output import OUTPUT, OnOutput, Output, drain, relay
from hyppo.launch.wire import (
    STOP_SIGNALS,
    Began,
    Done,
    End,
    Inbox,
    Notice,
    Place,
    Ready,
    Reference,
    Reply,
    Report,
    Setup,
    Stop,
    Train,
    Unready,
    WireError,
    family_memory,
    members,
    send,
)
from hyppo.loop import Stopped
from hyppo.training.replica import Failure, Outcome, Task

LOADING = 600.0  # s; importing TensorFlow on a busy file system takes minutes
MEMORY_EVERY = 0.25  # s between two looks at how much memory a training holds
MESSAGE_LINES = 5
GIGABYTE = 1_000_000_000
PATIENCE = 10.0  # s for the work of a training process at its exit, and for the processes that it started
CLOSING_LOOK = 0.01  # s between two looks at whether it has left
REAPED_WITHIN = 5.0  # s to wait for a killed process
# Restart a process once its memory exceeds the peak of its first SETTLED trainings by max(GROWTH * peak, SLACK).
# TensorFlow leaks 5 MB a training: a hundred grew to 1.6 times the memory after the tenth.
GROWTH = 0.4
SLACK = 1 << 27
SETTLED = 10


def _calls_of_crash(lines: Sequence[str]) -> Sequence[str]:
    """The innermost calls of the thread that crashed, which faulthandler prints first, and which matter most.

    >>> _calls_of_crash(["Current thread 0x1 (most recent call first):", '  File "a.py"'])
    ['  File "a.py"']
    >>> _calls_of_crash(["epoch 1", "epoch 2"])
    []
    """
    crashed = [number for number, line in enumerate(lines) if line.startswith("Current thread 0x")]
    calls = lines[crashed[-1] + 1 :] if crashed else []
    return list(itertools.takewhile(lambda line: line.startswith("  File "), calls))[:MESSAGE_LINES]


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that a training may take, and go without a report, and bytes it may hold; None for as many as it likes.

    Time runs from the call of the user's function; its script may take `LOADING` seconds more to load.
    """

    replica_timeout: float | None = None
    stall_timeout: float | None = None
    memory: int | None = None


class ObjectiveUnavailable(Exception):
    """The objective cannot be loaded in the training process."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


Ending = Outcome | Stopped | ObjectiveUnavailable


@dataclass(slots=True)
class _Leaving:
    """A process that was told to exit; it and the processes that it started have until `until` to finish."""

    process: subprocess.Popen[bytes]
    requests: int  # kept open: the watchdog ends the session once it is closed
    output: int
    watchdog: int
    until: float

    def poll(self) -> bool:
        """Whether it has ended; it is killed at the end of its time."""
        _, closed = drain(self.output)
        if closed:
            os.close(self.output)
            self.output = -1
        late = time.monotonic() > self.until
        gone = self.process.poll() is not None and not set(members(self.process.pid)) - {self.watchdog}
        if not late and not gone:
            return False
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        _reap(self.process)
        for fd in (self.requests, self.output):
            if fd >= 0:
                os.close(fd)
        return True


_unreaped: list[subprocess.Popen[bytes]] = []


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for a killed process, for `REAPED_WITHIN` at most: a dead file system may keep it for ever."""
    _unreaped[:] = [one for one in _unreaped if one.poll() is None]
    try:
        process.wait(REAPED_WITHIN)
    except subprocess.TimeoutExpired:
        _unreaped.append(process)


class TrainingProcess:
    """One child process that trains, one training at a time.

    Parameters
    ----------
    environ : mapping
        Its whole environment, see `hyppo.launch.surroundings`.
    limits : Limits
    output : str or None
        Name of the file in the replica's directory that takes the output of a training.
    on_line : callable, optional
        Gets each line of the output, with its training.
    on_notice : callable, optional
        Gets the notices of a training, with the training; by default they are printed.
    root : int
        The study's seed.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        limits: Limits,
        output: str | None = OUTPUT,
        on_line: OnOutput | None = None,
        on_notice: OnOutput = relay,
        root: int = 0,
    ) -> None:
        self.task: Task | None = None
        self.reports: list[tuple[int, float]] = []
        self._environ = dict(environ)
        self._limits = limits
        self._on_notice = on_notice
        self._root = root
        self._process: subprocess.Popen[bytes] | None = None
        self._requests = self._replies = self._death = -1
        self._output = Output(output, on_line)
        self._leaving: list[_Leaving] = []
        self._watchdog = 0
        self._inbox = Inbox()
        self._known: int | None = None  # key of the objective that the process has
        self._trained = self._resident = 0  # trainings, and the most memory after the first of them
        self._ready = False
        self._start = 0.0  # monotonic; the start of the limits
        self._heard = 0.0
        self._began = 0.0  # unix
        self._weighed = 0.0
        self._curve: list[tuple[int, float]] = []
        self._stopping = False

    @property
    def files(self) -> list[int]:
        """Descriptors to wait on: readable when `poll` has something to do. Empty while there is no process."""
        return [fd for fd in (self._replies, self._output.fd, self._death) if fd >= 0]

    @property
    def deadline(self) -> float | None:
        """Time (monotonic) at which the training that runs will have taken too long."""
        if self.task is None:
            return None
        ends = []
        if self._limits.replica_timeout is not None:
            ends.append(self._start + self._limits.replica_timeout)
        if self._limits.stall_timeout is not None:
            ends.append(self._heard + self._limits.stall_timeout)
        return min(ends, default=None)

    def _launch(self) -> None:
        """Start the process. The kernel ends it with the thread that runs this, so let that be the main one."""
        down_read, down_write = os.pipe()
        up_read, up_write = os.pipe()
        out_read, out_write = os.pipe()
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]
                    "-m",
                    "hyppo.launch.child",
                    str(down_read),
                    str(up_write),
                    str(os.getpid()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=out_write,
                stderr=out_write,
                env=self._environ,
                pass_fds=(down_read, up_write),
                start_new_session=True,
            )
        except OSError as error:
            for fd in (down_write, up_read, out_read):
                os.close(fd)
            raise LaunchError(f"no training process could be started with {sys.executable}: {error}") from error
        finally:
            for fd in (down_read, up_write, out_write):
                os.close(fd)
        self._requests, self._replies = down_write, up_read
        self._output.attach(out_read)
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):  # a kernel without it: then the end is seen at the next look
                self._death = os.pidfd_open(self._process.pid)
        for fd in (up_read, out_read):
            os.set_blocking(fd, False)
        self._inbox = Inbox()
        self._known = None
        self._trained = self._resident = 0
        self._ready = False
        with contextlib.suppress(OSError):  # it died at once: the next poll finds out
            send(
                self._requests,
                Setup(
                    tuple(sys.path), tuple(sys.argv), os.getcwd(), os.environ.get("PYTHONPATH"), script(), self._root
                ),
            )

    def train(self, task: Task, key: int, objective: Reference, place: Place | None = None) -> None:
        """Start one training. `key` names the objective for as long as the process lives.

        Raises
        ------
        LaunchError
            No process can be started.
        """
        assert self.task is None, "one training at a time"
        if self._process is not None and self._process.poll() is not None:
            self.kill()  # it ended while it was idle
        if self._process is None:
            self._launch()
        self.task = task
        self._start = self._heard = time.monotonic() + LOADING
        self._began = time.time()
        self._curve = []
        self._stopping = False
        self._output.tail.clear()
        known = key == self._known
        self._known = key
        with contextlib.suppress(OSError):  # it has died: the next poll finds out
            send(self._requests, Train(task, key, None if known else objective, place or Place()))

    def request_stop(self) -> None:
        """Raise `should_stop` in the training that runs."""
        if self.task is not None and not self._stopping:
            self._stopping = True
            with contextlib.suppress(OSError):
                send(self._requests, Stop())

    def poll(self) -> Ending | None:
        """Read messages, check limits and whether the process lives; return how the training ended, if it did.

        Raises
        ------
        LaunchError
            The process died before it could take any training.
        """
        self._leaving = [one for one in self._leaving if not one.poll()]
        if self._process is None:
            return None
        ending: Ending | None = None
        replaced = False
        # Whether it is dead is asked before its pipes are read: its last messages are then in them.
        dead = self._process.poll() is not None
        data, closed = drain(self._replies)
        replies: list[Reply] = []
        garbled: WireError | None = None
        try:
            replies = self._inbox.feed(data)
        except WireError as error:
            garbled = error
        for message in replies:
            match message:
                case Ready(watchdog):
                    self._ready = True
                    self._watchdog = watchdog
                case Began(began):
                    self._start = self._heard = time.monotonic()
                    self._began = began
                case Report(step, loss):
                    self._heard = time.monotonic()
                    self.reports.append((step, loss))
                    self._curve.append((step, loss))
                case Notice(text):
                    if self.task is not None:
                        self._on_notice(self.task, text)
                case Done(outcome, saw_stop, resident, usable):
                    ending = Stopped(outcome) if saw_stop and not outcome.whole else outcome
                    self._trained += 1
                    if self._trained <= SETTLED:
                        self._resident = max(self._resident, resident)
                    outgrown = resident > self._resident + max(GROWTH * self._resident, SLACK)
                    # A training that raised has left things half done: an open run of a tracker, a group, a lock.
                    raised = outcome.failure is not None and not outcome.diverged
                    replaced = outgrown or raised or not usable
                case Unready(failure):
                    ending = ObjectiveUnavailable(failure)
        lost = dead or closed or garbled is not None
        self._output.read(self.task, whole=lost or ending is not None)
        if ending is None and self.task is not None:
            if lost:
                failure = self._exit_failure() if garbled is None else self._garbled_failure(garbled)
                code = self._process.poll()
                if not self._ready:
                    self.kill()
                    raise LaunchError(f"a training process cannot be started with {sys.executable}: {failure.message}")
                ending = self._lost(failure, stopped=code is not None and -code in STOP_SIGNALS)
            elif self.deadline is not None and time.monotonic() > self.deadline:
                ending = self._lost(self._timeout_failure())
            elif self._too_large():
                ending = self._lost(self._memory_failure())
        elif lost:
            self.kill()
        if ending is not None:
            self._finish()
        if replaced:
            self.leave()
        return ending

    def _lost(self, failure: Failure, stopped: bool = False) -> Outcome | Stopped:
        """The training ended with its process. If it was asked to stop, by a signal even, it must be repeated."""
        self.kill()
        outcome = Outcome(None, failure, self._began, time.time(), tuple(self._curve), gethostname())
        return Stopped(outcome) if self._stopping or stopped else outcome

    def _exit_failure(self) -> Failure:
        assert self._process is not None
        try:
            code = self._process.wait(1.0)  # its pipes may close a moment before it is gone
        except subprocess.TimeoutExpired:
            return self._with_tail("Killed", "the training process closed its pipe to this one and was killed")
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = f"signal {-code}"
            cause = " (out of memory, or killed from outside)" if -code == signal.SIGKILL else ""
            kind, message = "Killed", f"the training process was killed by {name}{cause}"
        else:
            kind, message = "Exited", f"the training process left with exit code {code} in the middle of a training"
        return self._with_tail(kind, message)

    def _garbled_failure(self, error: WireError) -> Failure:
        return self._with_tail("Killed", f"the training wrote to the pipe of its process, which was killed ({error})")

    def _too_large(self) -> bool:
        if self._limits.memory is None or self._process is None or time.monotonic() < self._weighed + MEMORY_EVERY:
            return False
        self._weighed = time.monotonic()
        return family_memory(self._process.pid, self._limits.memory) > self._limits.memory

    def _memory_failure(self) -> Failure:
        assert self._limits.memory is not None
        limit = self._limits.memory / GIGABYTE
        return self._with_tail(
            "OutOfMemory", f"the training and its processes held more than memory_limit={limit:g} GB and were killed"
        )

    def _timeout_failure(self) -> Failure:
        timeout, stall = self._limits.replica_timeout, self._limits.stall_timeout
        if timeout is not None and time.monotonic() > self._start + timeout:
            message = f"the training took longer than replica_timeout={timeout:g} s and was killed"
            return self._with_tail("TimedOut", message)
        return self._with_tail("Stalled", f"no report for stall_timeout={stall:g} s; the training was killed")

    def _with_tail(self, kind: str, message: str) -> Failure:
        if self.task is not None:
            self._output.flush(self.task)
        lines = [line for line in self._output.tail if line.strip()]
        if calls := _calls_of_crash(lines):
            message += "; innermost calls first:\n" + "\n".join(calls)
        elif lines:
            message += "; last lines of its output:\n" + "\n".join(lines[-MESSAGE_LINES:])
        return Failure(kind, message, "\n".join(self._output.tail))

    def _finish(self) -> None:
        """The training has ended."""
        if self.task is not None:
            self._output.finish(self.task)
            self.task = None

    def kill(self) -> None:
        """End the process and whatever it started in its session, now. The next training gets a new process."""
        if self._process is None:
            return
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        _reap(self._process)
        self._output.read(self.task, whole=True)
        self._forget()

    def leave(self) -> None:
        """Let the process leave: at once if it trains, else with `PATIENCE` for its work at exit; does not wait."""
        if self._process is None:
            return
        if self.task is not None:
            self.kill()
            self._finish()
            return
        with contextlib.suppress(OSError):
            send(self._requests, End())
        until = time.monotonic() + PATIENCE
        self._leaving.append(_Leaving(self._process, self._requests, self._output.detach(), self._watchdog, until))
        self._requests = -1
        self._forget()

    def close(self) -> None:
        """End the process; one that trains is killed, another has `PATIENCE` for its work at exit."""
        self.leave()
        while self._leaving:
            self._leaving = [one for one in self._leaving if not one.poll()]
            if self._leaving:
                time.sleep(CLOSING_LOOK)

    def _forget(self) -> None:
        for fd in (self._requests, self._replies, self._output.detach(), self._death):
            if fd >= 0:
                os.close(fd)
        self._requests = self._replies = self._death = -1
        self._process = None
