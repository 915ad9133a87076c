"""Printed output of a training process: read from its pipe, passed on by line, and written to the replica's folder."""

import contextlib
import os
import re
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from hyppo.config import named
from hyppo.launch.rows import Rows
from hyppo.training.replica import Task

OUTPUT = "output.txt"
OUTPUT_LIMIT = 64 << 20  # bytes of one replica's output.txt
CHUNK = 1 << 20
PIECES = 64  # chunks read at most at the end of a training, since the process may go on printing
TAIL_LINES = 50
REMEMBERED_LINES = 10_000
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")  # of an object
NUMBER = re.compile(r"\d+")

OnOutput = Callable[[Task, str], None]


def relay(task: Task, line: str) -> None:
    """Print one line of a training's output, prefixed with its trial and replica."""
    print(f"[{named(task.trial, task.index)}] {line}", flush=True)


class RelayOnce:
    """Prints the output of trainings, except lines that another training of this run has already printed.

    Frameworks print dozens of equal lines at the start of each training. A line of numbers differs, and is printed;
    the addresses of objects do not count.
    """

    def __init__(self, show: OnOutput = relay) -> None:
        self._show = show
        self._first: dict[str, tuple[int, int]] = {}  # line -> the training that printed it first

    def __call__(self, task: Task, line: str) -> None:
        own = task.trial, task.index
        key = ADDRESS.sub("", line)
        if len(self._first) < REMEMBERED_LINES:
            self._first.setdefault(key, own)
        if self._first.get(key, own) == own:
            self._show(task, line)


class ShowOnce:
    """Shows notices, except those that differ from an earlier one only in numbers, as shapes and folders of trials."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._shown: set[str] = set()

    def __call__(self, text: str) -> None:
        key = NUMBER.sub("", text)
        if key not in self._shown:
            self._shown.add(key)
            self._show(text)


class Output:
    """Reads the output of one training process, one training after another.

    Parameters
    ----------
    name : str or None
        Name of the file in the replica's directory that takes the output of a training.
    on_line : callable, optional
        Gets each line of the output, with its training.

    Attributes
    ----------
    fd : int
        The end of the pipe to read; -1 if there is none.
    tail : collections.deque of str
        The last `TAIL_LINES` lines of the current training.
    """

    def __init__(self, name: str | None, on_line: OnOutput | None) -> None:
        self.fd = -1
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._name = name
        self._on_line = on_line
        self._rows = Rows()
        self._file: IO[str] | None = None
        self._written = 0

    def attach(self, fd: int) -> None:
        """Read from the pipe `fd` of a new process."""
        self.fd = fd
        self._rows = Rows()
        self.tail.clear()

    def detach(self) -> int:
        """Stop reading; return the end of the pipe, which the caller closes."""
        fd, self.fd = self.fd, -1
        return fd

    def read(self, task: Task | None, whole: bool = False) -> None:
        """Read the output of `task`: one piece, or all of it (at most `PIECES`)."""
        for _ in range(PIECES if whole else 1):
            data, closed = drain(self.fd)
            if data:
                self._put(task, self._rows.feed(data))
            if closed and self.fd >= 0:
                os.close(self.detach())
            if len(data) < CHUNK:
                return

    def flush(self, task: Task) -> None:
        """Take the unfinished last lines as they are."""
        self._put(task, self._rows.rest())

    def finish(self, task: Task) -> None:
        """Write the unfinished last lines, and close the file: the training has ended."""
        self.flush(task)
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _put(self, task: Task | None, lines: Iterable[bytes]) -> None:
        for line in lines:
            self._put_line(task, line)

    def _put_line(self, task: Task | None, line: bytes) -> None:
        text = line.decode(errors="replace")
        self.tail.append(text)
        if task is None:
            return
        if self._on_line is not None:
            self._on_line(task, text)
        if self._name is None:
            return
        if self._file is None:
            folder = Path(task.directory)
            with contextlib.suppress(OSError):  # a full or missing disk must not end the study
                folder.mkdir(parents=True, exist_ok=True)
                self._file = open(folder / self._name, "a", encoding="utf-8", errors="replace")  # noqa: SIM115
                self._written = 0
        if self._file is not None and self._written < OUTPUT_LIMIT:
            with contextlib.suppress(OSError):
                self._written += self._file.write(text + "\n")


def drain(fd: int) -> tuple[bytes, bool]:
    """The bytes that can be read without waiting, at most about `CHUNK`, and whether the other end is closed."""
    data = b""
    while fd >= 0 and len(data) < CHUNK:
        try:
            piece = os.read(fd, CHUNK)
        except BlockingIOError:
            break
        if not piece:
            return data, True
        data += piece
    return data, False
