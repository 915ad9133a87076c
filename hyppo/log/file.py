"""A study's log in a file: the journal takes every event at once, checkpoints carry them over to HDF5."""

import json
import os
import stat
import threading
import time
import warnings
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from hyppo.errors import LogError, StudyError
from hyppo.log import Durability, codec, disk, frame, hdf5, rows
from hyppo.log.checked import check
from hyppo.log.header import Header, changes
from hyppo.log.journal import Journal, beyond, events_after, header_of, journal_of, keep_aside
from hyppo.log.schema import Extent
from hyppo.space import Space
from hyppo.trial import Event, Note, Trial, apply

CHECKPOINT_BYTES = 64 << 20
CHECKPOINT_SECONDS = 10.0
CHECKPOINT_SECONDS_SHARED = 60.0  # network file systems
CHECKPOINT_SHARE = 30.0  # a checkpoint that took a second is followed by thirty without


class FileLog:
    """The one writer of a study file; `open` makes it. Its calls may come from any thread, one at a time."""

    def __init__(self, path: Path, journal: Journal, durability: Durability) -> None:
        self.path = path
        self._journal = journal
        self._sync = durability == "power"
        self._extent = Extent()
        self._pending: list[Event] = []  # in the journal, not in the study file
        self._image_closed = False
        self._header: Header
        self._space: Space
        self._mode = 0
        self._done = False
        self._warned = False
        self._last = time.monotonic()
        self._duration = 0.0
        self._not_before = 0  # pending events; doubles where the disk is full
        self._lock = threading.RLock()
        self._closing = threading.Event()

    # -- opening --------------------------------------------------------------------------------------------------

    @staticmethod
    def open(
        path: str | Path,
        header: Header,
        *,
        steal: bool = False,
        durability: Durability = "power",
        extend: bool = False,
    ) -> tuple["FileLog", Header, tuple[Event, ...]]:
        """See `hyppo.log.open_log`."""
        real = Path(os.path.realpath(path))
        if not real.parent.is_dir():
            raise LogError(f"{real.parent} is no folder; make it, or give another path to the log")
        like = None
        if real.exists():
            hdf5.read_header(real).refuse(header, real, extend=extend)
            like = real.stat()
        journal = Journal(journal_of(real), steal=steal, like=like)
        try:
            log = FileLog(real, journal, durability)
            events = log._begin(header, extend)
        except BaseException as error:
            journal.release()
            if isinstance(error, OSError) and not isinstance(error, LogError):
                raise LogError(f"{real} cannot be opened for writing: {error}") from error
            raise
        arguments = weakref.ref(log), log._closing, log._interval
        threading.Thread(target=_keep_up, args=arguments, name="hyppo-checkpoint", daemon=True).start()
        return log, log._header, tuple(events)

    def _begin(self, header: Header, extend: bool) -> list[Event]:
        _temporary(self.path).unlink(missing_ok=True)
        data = self._journal.read()
        scan = frame.scan(data)
        left = header_of(scan)
        holds_events = any(f.kind == frame.EVENTS for f in (*scan.frames, *scan.stray))
        events: list[Event] = []
        if self.path.exists():
            self._header, events, self._extent, self._image_closed = hdf5.read(self.path)
            if holds_events and left and left[0].uuid != self._header.uuid:
                raise LogError(
                    f"{self._journal.path} belongs to another study than {self.path.name}; put the study file back "
                    "that it was written beside, or move it away"
                )
        else:
            self._header = left[0] if left and holds_events else header
        self._header.refuse(header, self.path, extend=extend)
        self._space = Space.from_json(self._header.space)

        pending = events_after(self._extent.sequence, scan.frames)
        if pending is None:
            first = next(f.sequence for f in scan.frames if f.sequence > self._extent.sequence)
            raise LogError(
                f"{self._journal.path} goes on at event {first}, but {self.path.name} "
                f"{f'ends at event {self._extent.sequence}' if self.path.exists() else 'is missing'}: put the study "
                "file back that it was written beside, or move the journal away to do without its events"
            )
        notes: list[Event] = []
        stray = beyond(self._extent.sequence, scan.stray)
        if scan.unreadable:
            kept = keep_aside(self._journal.path, "damaged", data)
            told = f"{self._journal.path.name} held nothing that can be read; it is kept as {kept.name}"
            notes.append(Note(told, time.time()))
            warnings.warn(f"{self.path}: {told}", stacklevel=4)
        if stray:
            kept = keep_aside(self._journal.path, "damaged", data)
            salvaged, lost = _salvage([*events, *pending], stray)
            pending += salvaged
            told = (
                f"the journal was damaged at byte {scan.end}: {len(salvaged)} events after the damage were taken, "
                f"{lost} could not be; the damaged journal is kept as {kept.name}"
            )
            notes.append(Note(told, time.time()))
            warnings.warn(f"{self.path}: {told}", stacklevel=4)

        if not self.path.exists():
            self._publish_first()
        self._pending = list(pending)
        if self._pending:
            self._publish(closed=False)
        changed = changes(self._header.config, header.config)
        if changed:
            score, wanted = (json.dumps(c.get("score", "mean")) for c in (self._header.config, header.config))
            if score != wanted:
                told = f"the study goes on with another score ({score} -> {wanted}): its trials are ranked anew"
                warnings.warn(f"{self.path}: {told}", stacklevel=4)
            self._header = Header(**{**vars(self._header), "config": header.config})
            notes.append(Note(f"configuration changed: {changed}", time.time()))
        extended = changes(json.loads(self._header.space), json.loads(header.space))
        if extended:
            self._header, self._space = replace(self._header, space=header.space), Space.from_json(header.space)
            notes.append(Note(f"space changed: {extended}", time.time()))
        self._journal.begin(self._header)
        self.append(notes)
        if extended:
            self._publish(closed=False)  # who reads the HDF5 alone sees the new space
        return [*events, *pending, *notes]

    # -- the protocol ---------------------------------------------------------------------------------------------

    def append(self, events: Sequence[Event]) -> None:
        if self._done:
            raise LogError(f"{self.path}: this log is closed; open the study again to go on")
        if self._journal.forked:
            self._journal.require_owned()
        if events:
            with self._lock:
                self._append(events)

    def _append(self, events: Sequence[Event]) -> None:
        # Checkpoints come first: where one is interrupted (Ctrl-C), these events have not happened.
        if self._image_closed:
            self._publish_or_warn(closed=False)  # who reads the HDF5 alone sees that there is more
        elif self._due():
            self.checkpoint()
        before, size = len(self._pending), self._journal.size
        data = frame.encode(frame.EVENTS, self._extent.sequence + before + 1, len(events), codec.encode(events))
        try:
            self._pending.extend(events)
            self._journal.append(data, sync=self._sync)
        except BaseException:
            if self._journal.size == size:
                del self._pending[before:]
            raise

    def checkpoint(self) -> None:
        with self._lock:
            if self._pending and not self._done:
                self._journal.require_owned()
                self._publish_or_warn(closed=False)

    def checkpoint_if_due(self) -> None:
        """Bring the study file up to date if that was last done some time ago."""
        with self._lock:
            if not self._done and self._due():
                self.checkpoint()

    def close(self) -> None:
        if self._done or self._journal.forked:
            return
        self._closing.set()
        with self._lock:
            self._close()

    def _close(self) -> None:
        self._done = True
        if not self._pending and self._image_closed:
            self._journal.remove()
            return
        try:
            self._journal.require_owned()
        except LogError as error:
            warnings.warn(str(error), stacklevel=2)
            self._journal.release()
        else:
            if self._publish_or_warn(closed=True):
                self._journal.remove()
            else:
                self._journal.release()

    # -- checkpoints ----------------------------------------------------------------------------------------------

    @property
    def _interval(self) -> float:
        return CHECKPOINT_SECONDS_SHARED if self._journal.shared else CHECKPOINT_SECONDS

    def _due(self) -> bool:
        if not self._pending or len(self._pending) < self._not_before:
            return False
        if time.monotonic() - self._last > max(self._interval, CHECKPOINT_SHARE * self._duration):
            return True
        return self._journal.size > CHECKPOINT_BYTES and self._journal.size > self.path.stat().st_size / 2

    def _publish_or_warn(self, *, closed: bool) -> bool:
        """A checkpoint that may fail: the events are safe in the journal, and it is tried again later."""
        try:
            self._publish(closed=closed)
        except OSError as error:
            self._last = time.monotonic()
            self._not_before = 2 * len(self._pending)
            if closed or not self._warned:
                self._warned = True
                after = "and the next run goes on from there"
                if not self.path.exists() and self._extent.sequence:
                    after = f"but the {self._extent.sequence} before them were in the file: put it back"
                warnings.warn(
                    f"{self.path} could not be brought up to date ({error}); its last {len(self._pending)} events are "
                    f"safe in {self._journal.path.name}, {after}",
                    stacklevel=4,
                )
            return False
        self._warned = False
        self._not_before = 0
        return True

    def _publish(self, *, closed: bool) -> None:
        """Copy the study file, append the pending events, rename the copy over the file, then empty the journal."""
        started = time.monotonic()
        added = rows.batch(self._extent, self._space, self._pending)
        temporary = _temporary(self.path)
        try:
            with _created(temporary) as target:
                fd = target.fileno()
                with self.path.open("rb") as source:
                    status = os.fstat(source.fileno())
                    disk.reserve(fd, status.st_size + added.growth)
                    disk.copy(source.fileno(), fd, status.st_size)
                hdf5.append(target, self._extent, added, self._header, closed=closed)
                # h5py's mode "w" empties a file before it finds that it may not: no writing beside a live journal.
                self._mode = self._mode or stat.S_IMODE(status.st_mode) | self._journal.mode & 0o222
                disk.give(fd, status)
                os.fchmod(fd, self._mode if closed else self._mode & ~0o222)
                disk.sync(fd)
            self._journal.require_owned()  # nobody took over while this was made
            os.replace(temporary, self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._extent, self._pending, self._image_closed = added.extent, [], closed
        disk.sync_directory(self.path.parent)
        self._journal.cut()
        self._last = time.monotonic()
        self._duration = self._last - started

    def _publish_first(self) -> None:
        temporary = _temporary(self.path)
        try:
            with _created(temporary) as target:
                fd = target.fileno()
                disk.write(fd, hdf5.empty(self._header), 0)
                self._mode = stat.S_IMODE(os.fstat(fd).st_mode)
                os.fchmod(fd, self._mode & ~0o222)
                disk.sync(fd)
            os.replace(temporary, self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise LogError(f"{self.path} cannot be created: {error}") from error
        disk.sync_directory(self.path.parent)


def _keep_up(reference: "weakref.ref[FileLog]", closing: threading.Event, seconds: float) -> None:
    """Checkpoint a study that is idle: its last losses would stay in the journal until the next event."""
    while not closing.wait(max(seconds, 0.01)):
        log = reference()
        if log is None:
            return
        with suppress(LogError):  # the next append tells
            log.checkpoint_if_due()
        del log


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + ".tmp")


@contextmanager
def _created(path: Path) -> Iterator[disk.WholeFile]:
    """A new file, open for reading and writing; another of its name is deleted, and a planted link not followed."""
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with disk.WholeFile(fd, "r+") as stream:  # on a full disk an open file keeps its space after it is deleted
        yield stream


def _salvage(events: Sequence[Event], stray: Iterable[frame.Frame]) -> tuple[list[Event], int]:
    """Events after a damage that follow from the history without those it took, and how many do not."""
    trials: list[Trial] = []
    taken: list[Event] = []
    lost = 0
    for position, event in enumerate(events):
        with suppress(StudyError):  # skipped when the study is read, too
            apply(trials, event, position)
    for f in stray:
        for event in codec.decode(f.payload):
            try:
                check(event)
                apply(trials, event, len(events) + len(taken))
            except StudyError:
                lost += 1
            else:
                taken.append(event)
    return taken, lost
