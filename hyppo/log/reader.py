"""Reading a study file that may be being written: no lock, no file made, and always one consistent state.

The journal is read first, the HDF5 file second: a checkpoint in between only makes the second newer, and events that
both have are taken once. Where events are missing between the two, or a file was just being replaced, look again.
"""

import errno
import os
import time
from contextlib import suppress
from pathlib import Path

from hyppo.errors import LogError
from hyppo.log import disk, frame, hdf5
from hyppo.log.claim import Writer, may_live
from hyppo.log.header import Header
from hyppo.log.journal import beyond, events_after, header_of, journal_of, read_journal
from hyppo.log.schema import Extent
from hyppo.trial import Event

TRIES = 50
PAUSE = 0.01  # seconds
PATIENCE = 2.0  # seconds; after them a file that does not change is read LOOKS times only
LOOKS = 4  # only the last one accepts a file that was not closed and has no journal: its writer may be at work before


class LogReader:
    """Reads a study file repeatedly; each call reads only the rows that were added to the HDF5 file."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(os.path.realpath(path))
        self._identity: tuple[int, int, int] | None = None
        self._header: Header | None = None
        self._events: list[Event] = []
        self._extent = Extent()
        self._closed = False
        self.incomplete = False
        """The study file was not closed, and its journal is not there."""
        self.written = False
        """Whether a journal was there before the last read: without one, that read has all events of the run."""
        self._writer: Writer = {}
        self.left_by: Writer = {}
        """The writer of the journal if it was gone before the last read, which then has all events of its run too."""

    def read(self) -> tuple[Header, tuple[Event, ...]]:
        """Header and all events, as of now; see `hyppo.log.read_log`."""
        problem = ""
        gone = self._writer if self._writer and not self._may_live(self._writer) else {}
        began = time.monotonic()
        for attempt in range(TRIES):
            if attempt >= LOOKS and time.monotonic() - began > PATIENCE:
                break
            if attempt:
                time.sleep(PAUSE)
            self.written = os.path.lexists(journal_of(self.path))
            scan = frame.scan(read_journal(self.path))
            left = header_of(scan)
            try:
                header = self._image()
            except FileNotFoundError:
                problem = f"{self.path} does not exist"
                if left is None:
                    if attempt < LOOKS - 1:  # a study that is just being created has its journal already
                        continue
                    break
                continue
            except LogError:
                raise
            except OSError as error:
                if error.errno != errno.ESTALE:  # NFS: the file was replaced between its opening and its reading
                    raise LogError(f"{self.path} cannot be read: {error.strerror}") from error
                problem = str(error)
                continue
            fresh = events_after(self._extent.sequence, scan.frames)
            if fresh is None:
                problem = f"{journal_of(self.path)} does not continue {self.path.name}: events are missing between them"
            elif left and left[0].uuid != header.uuid and any(f.kind == frame.EVENTS for f in scan.frames):
                problem = f"{journal_of(self.path)} belongs to another study than {self.path.name}"
            elif beyond(self._extent.sequence, scan.stray) or scan.unreadable:
                problem = (
                    f"{journal_of(self.path)} is damaged at byte {scan.end}; the next run of the study, or opening it "
                    "for writing, keeps a copy and recovers the readable part"
                )
            else:
                self.incomplete = not self.written and not self._closed
                if self.incomplete and attempt < LOOKS - 1:  # a writer may have closed it, or opened it, just now
                    continue
                self._writer = left[1] if left else {}
                self.left_by = gone if gone == self._writer else {}
                if left and left[0].uuid == header.uuid:
                    header = left[0]
                return header, (*self._events, *fresh)
        raise LogError(problem)

    def _may_live(self, writer: Writer) -> bool:
        """Whether the writer of the journal may still write; its age counts if a living writer keeps it young."""
        try:
            age = time.time() - journal_of(self.path).lstat().st_mtime
        except FileNotFoundError:
            return False
        aged = disk.is_shared(self.path.parent) or writer["boot"] != disk.boot_id()
        return may_live(writer, age if aged else 0.0)

    def _image(self) -> Header:
        status = self.path.stat()
        identity = (status.st_ino, status.st_mtime_ns, status.st_size)
        if self._header is None or identity != self._identity:
            header, events, extent, self._closed = self._read_on()
            if self._header is None or header.uuid != self._header.uuid:
                self._events = []
            self._events += events
            self._header, self._extent, self._identity = header, extent, identity
        return self._header

    def _read_on(self) -> tuple[Header, list[Event], Extent, bool]:
        """The new events of the file, or all events if another file has replaced it."""
        if self._header is not None:
            # The rows of another file do not continue those of this one, so its tables seem to be damaged.
            with suppress(LogError):
                header, events, extent, closed = hdf5.read(self.path, self._extent)
                if header.uuid == self._header.uuid and extent.sequence >= self._extent.sequence:
                    return header, events, extent, closed
            self._header, self._events = None, []
        return hdf5.read(self.path)
