"""The study file: `study.h5`, and beside it while a study runs `study.h5.journal`.

    append      one frame to the journal, one sync: acknowledged events survive a kill and a power cut
    checkpoint  copy study.h5, append to the copy, fsync, rename over the original, then cut the journal
    close       a last checkpoint; the journal is deleted, one file is left

`study.h5` is never opened for writing in place, so a plain `h5py.File("study.h5")` works at any moment, in any program.
Every prefix of the recorded writes of a run leaves a file that opens and holds all that was acknowledged
(tests/test_log_crash.py replays them).

Importing this module loads no HDF5; opening a file does.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from hyppo.errors import LogError
from hyppo.log.header import Header
from hyppo.trial import Event

if TYPE_CHECKING:
    from hyppo.log.reader import LogReader

__all__ = [
    "Durability",
    "Header",
    "MemoryLog",
    "StudyLog",
    "check_log",
    "is_study_or_journal",
    "open_log",
    "open_reader",
    "read_log",
]

Durability = Literal["power", "process"]


class StudyLog(Protocol):
    """Destination of a study's events. It has one writer; a second thread waits for the first."""

    def append(self, events: Sequence[Event]) -> None:
        """Make the events durable, all or none; they are when this returns.

        Raises
        ------
        LogError
            They could not be written; the log is as it was before the call.
        """
        ...

    def checkpoint(self) -> None:
        """Bring `study.h5` up to date now; `append` does so by itself every now and then."""
        ...

    def close(self) -> None:
        """Checkpoint, delete the journal, release the lock. A second call does nothing."""
        ...


class MemoryLog:
    """The log of a study without a file: it keeps nothing.

    >>> MemoryLog().append([])
    """

    def append(self, events: Sequence[Event]) -> None:
        pass

    def checkpoint(self) -> None:
        pass

    def close(self) -> None:
        pass


def open_log(
    path: str | Path,
    header: Header,
    *,
    steal: bool = False,
    durability: Durability = "power",
    extend: bool = False,
) -> tuple[StudyLog, Header, tuple[Event, ...]]:
    """Create a study file or open the existing one, as its only writer.

    Parameters
    ----------
    path : path
        The study file; its folder must exist. Symbolic links are followed.
    header : Header
        The study to write. If the file exists, its space and seed must be these; its uuid and creation time stay,
        and a configuration that differs replaces the file's and leaves a `Note`.
    steal : bool
        Take over from a writer on another host that cannot be proven dead (network file systems). A lock that a
        living process holds is never taken.
    durability : {"power", "process"}
        "power": an append returns after the disk has it (some 2-4 ms). "process": after the kernel has it (0.02 ms),
        which survives the death of the process but not of the machine.
    extend : bool
        Accept a space whose parameters have other ranges or values: it replaces the file's and leaves a `Note`.

    Returns
    -------
    log : StudyLog
    header : Header
        As it now stands in the file.
    events : tuple of Event
        All events so far, in order.

    Raises
    ------
    LogError
        Another process writes the file; it is not a study file, or of another schema; another space or seed; the
        folder cannot be written; the journal does not continue the file.

    Examples
    --------
    >>> import tempfile
    >>> from hyppo.space import Real, Space
    >>> from hyppo.trial import Asked
    >>> path = tempfile.mkdtemp() + "/study.h5"
    >>> log, header, events = open_log(path, Header.new(Space(lr=Real(0, 1)), seed=0))
    >>> log.append([Asked(0, {"lr": 0.5}, ((0, 17),))])
    >>> log.close()
    >>> read_log(path)[1][0].params
    {'lr': 0.5}
    """
    from hyppo.log.file import FileLog

    return FileLog.open(path, header, steal=steal, durability=durability, extend=extend)


def read_log(path: str | Path) -> tuple[Header, tuple[Event, ...]]:
    """Header and all events of a study file, also while it is being written; takes no lock, creates nothing.

    Raises
    ------
    LogError
        No such file, not a study file, or its journal does not continue it.
    """
    reader = open_reader(path)
    header, events = reader.read()
    if reader.incomplete:
        warnings.warn(
            f"{path} was not closed, and {reader.path.name}.journal is not beside it: its last events may be missing. "
            "Copy a study with its journal, or after its run has ended",
            stacklevel=2,
        )
    return header, events


def open_reader(path: str | Path) -> "LogReader":
    """An incremental reader, for looking repeatedly at a running study."""
    from hyppo.log.reader import LogReader

    return LogReader(path)


def is_study_or_journal(path: str | Path) -> bool:
    """Whether `path` leads to an existing HDF5 file or journal, which no other output may replace."""
    from hyppo.log.frame import MAGIC

    path = Path(path)
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError:
        return False
    return start.startswith((MAGIC, b"\x89HDF\r\n\x1a\n"))


def check_log(path: str | Path) -> list[str]:
    """Defects of a study file and its journal, a line each; empty if they are sound.

    A frame torn by a crash at the journal's end is sound: it was never acknowledged, and the next run cuts it.
    """
    from hyppo.log.repair import examine

    try:
        return list(examine(path).lost)
    except LogError as error:
        return [str(error)]
