"""The journal: events since the last checkpoint, and the lock of the one writer.

The first frame says whose study it is and who writes it. Every later one is a group of events, appended by one write
and one sync. An append that fails is cut off again. Only the thread that opened a journal may use it.
"""

import errno
import fcntl
import io
import json
import os
import stat
import threading
import time
import warnings
import weakref
from collections.abc import Iterable
from pathlib import Path

from hyppo.errors import LogError
from hyppo.log import codec, disk, frame
from hyppo.log.claim import STALE_AFTER, Claim, described, may_live, this_writer
from hyppo.log.header import Header
from hyppo.trial import Event

TOUCH_EVERY = 60.0

BUSY = (
    ": wait until it ends, or give this study another file. To train several replicas at a time, let this one process "
    "run(workers=n), or start the script once as ranks of MPI"
)
WRITER = ("host", "pid", "boot", "since")
LARGEST = 4 << 30  # bytes; a checkpoint comes long before

_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


def journal_of(path: Path) -> Path:
    return path.with_name(path.name + ".journal")


def read_journal(path: Path) -> bytes:
    """Contents of the journal beside the study file `path`; empty if there is none.

    Raises
    ------
    LogError
        A link, no regular file, or too large for a journal.
    """
    journal = journal_of(path)
    try:
        fd = disk.open_regular(journal, os.O_RDONLY)
    except FileNotFoundError:
        return b""
    except LogError:
        raise
    except OSError as error:
        raise LogError(f"{journal} cannot be read: {error.strerror}") from error
    try:
        return contents(fd, journal)
    finally:
        os.close(fd)


def contents(fd: int, path: Path) -> bytes:
    """All bytes of an open journal."""
    size = os.fstat(fd).st_size
    if size > LARGEST:
        raise LogError(f"{path} has {size} bytes: that is no journal of a study; move it away")
    data = bytearray()
    while block := os.pread(fd, 1 << 24, len(data)):
        data += block
    return bytes(data)


def header_of(scan: frame.Scan) -> tuple[Header, dict[str, str]] | None:
    """Header of a scanned journal, and who writes it (host, pid, boot, since); None where the journal has none."""
    if not scan.frames or scan.frames[0].kind != frame.HEADER:
        return None
    try:
        told = json.loads(scan.frames[0].payload)
        writer = {name: str(told["writer"][name]) for name in WRITER} | dict(told["writer"])
        int(writer["pid"])
        return Header.from_json(told["header"]), writer
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise LogError(f"the journal's first frame does not say whose it is ({error!r})") from error


def events_after(sequence: int, frames: Iterable[frame.Frame]) -> list[Event] | None:
    """Events of the frames beyond number `sequence`, in order; None where one is missing."""
    events: list[Event] = []
    for f in beyond(sequence, frames):
        last = sequence + len(events)
        if f.sequence > last + 1:
            return None
        decoded = codec.decode(f.payload)
        if len(decoded) != f.count:
            raise LogError(f"the journal's frame {f.sequence} says {f.count} events and holds {len(decoded)}")
        events += decoded[last + 1 - f.sequence :]
    return events


def beyond(sequence: int, frames: Iterable[frame.Frame]) -> list[frame.Frame]:
    """Frames that hold events after number `sequence`.

    The others are already in the study file. After a power cut they may reappear behind newer ones, since emptying the
    journal is not synced separately.
    """
    return [f for f in frames if f.kind == frame.EVENTS and f.sequence + f.count > sequence + 1]


class Journal:
    """An open, locked journal.

    Raises
    ------
    LogError
        Another process has it, or it cannot be created.
    """

    def __init__(self, path: Path, *, steal: bool = False, like: os.stat_result | None = None) -> None:
        self.path = path
        self._like = like
        self.shared = disk.is_shared(path.parent)
        self.size = 0
        self.forked = False
        self._header_size = 0
        self._unusable = ""
        self._rescued = ""
        self._stop_touching = threading.Event()
        self._claim: Claim | None = None
        try:
            self._file = self._locked(steal)
        except BaseException:
            if self._claim is not None:
                self._claim.release()
            raise
        if self.shared or self._claim is not None:
            arguments = weakref.ref(self), self._stop_touching
            threading.Thread(target=_touch, args=arguments, name="hyppo-journal", daemon=True).start()
        _open_journals.add(self)

    # -- the lock -------------------------------------------------------------------------------------------------

    def _locked(self, steal: bool) -> io.FileIO:
        stolen = False
        while True:
            try:
                fd = self._open()
            except LogError:
                raise
            except OSError as error:
                raise LogError(
                    f"{self.path} cannot be written ({error.strerror}): a study needs a folder that it can write to; "
                    "to look at a study only, use hyppo.load or `hyppo show`"
                ) from error
            file = io.FileIO(fd, "r+")  # closes itself should the study be forgotten
            try:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise LogError(self._taken(fd, BUSY)) from None
                except OSError as error:
                    if error.errno not in _NO_LOCKS:
                        raise LogError(
                            f"{self.path} cannot be locked ({error.strerror}): look at the file system, or give this "
                            "study a file on another one"
                        ) from error
                    if self._claim is None:
                        self._claim = Claim(self.path.with_suffix(".lock"), steal)
                        warnings.warn(
                            f"{self.path}: this file system has no locks ({error.strerror}); {self._claim.path.name} "
                            "stands for one",
                            stacklevel=2,
                        )
                    unproven = self._unproven(fd, locked=False)
                else:
                    unproven = self._unproven(fd, locked=True) if self.shared else ""
                if unproven and not steal:
                    raise LogError(unproven)
                if unproven and not stolen:
                    self._take_over(fd)
                    stolen = True
                # The writer before may have deleted it between our open and our lock.
                if os.fstat(fd).st_nlink and os.path.samestat(os.fstat(fd), os.stat(self.path)):
                    disk.sync_directory(self.path.parent)
                    return file
            except FileNotFoundError:
                pass
            except BaseException:
                file.close()
                raise
            file.close()

    def _open(self) -> int:
        try:
            fd = disk.open_regular(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return disk.open_regular(self.path, os.O_RDWR | os.O_CREAT)
        if self._like is not None:  # the journal has the owner, group and mode of the study file
            disk.give(fd, self._like)
            os.fchmod(fd, stat.S_IMODE(self._like.st_mode) | 0o600)
        return fd

    @property
    def mode(self) -> int:
        """Its permissions, which are those of the study file at rest."""
        return stat.S_IMODE(os.fstat(self._file.fileno()).st_mode)

    def _writer(self, fd: int) -> dict[str, str]:
        told = header_of(frame.scan(contents(fd, self.path)))
        return told[1] if told else {}

    def _taken(self, fd: int, advice: str) -> str:
        writer = self._writer(fd)
        if not writer:
            return f"{self.path} is locked by another process; end it, or give this study another file"
        return f"{self.path}: the study is being written by {described(writer)}{advice}"

    def _unproven(self, fd: int, *, locked: bool) -> str:
        """Why the writer of this journal may still live where the lock proves nothing; empty where it does not."""
        writer = self._writer(fd)
        if not writer:
            return ""
        age = time.time() - os.fstat(fd).st_mtime
        if (locked and writer["boot"] == disk.boot_id()) or not may_live(writer, age):
            return ""
        return self._taken(
            fd,
            f", last seen {age:.0f} s ago; locks of this file system prove nothing across hosts: if that process is "
            f"gone, wait {max(0.0, STALE_AFTER - age):.0f} s or take over with steal=True (`--steal`)",
        )

    def _take_over(self, fd: int) -> None:
        """Put a copy in the journal's place: a writer that does live finds its own gone, and stops."""
        copy = keep_aside(self.path, "taken-over", contents(fd, self.path))
        os.replace(copy, self.path)
        disk.sync_directory(self.path.parent)

    def owned(self) -> bool:
        """Whether the name still leads to this journal, and no other process has claimed the study."""
        if self._claim is not None and not self._claim.held():
            return False
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.path))
        except FileNotFoundError:
            return False

    # -- contents -------------------------------------------------------------------------------------------------

    def read(self) -> bytes:
        return contents(self._file.fileno(), self.path)

    def begin(self, header: Header) -> None:
        """Empty the journal, whose events are in the study file, and write who writes it now."""
        payload = json.dumps({"header": header.to_json(), "writer": this_writer()}).encode()
        first = frame.encode(frame.HEADER, 0, 0, payload)
        fd = self._file.fileno()
        os.ftruncate(fd, 0)
        disk.write(fd, first, 0)
        disk.sync(fd)
        self.size = self._header_size = len(first)

    def append(self, data: bytes, *, sync: bool) -> None:
        """One frame at the end, durable when this returns (with `sync`); otherwise the journal is as before."""
        if self._unusable:
            raise LogError(self._unusable)
        self.require_owned()
        fd, size = self._file.fileno(), self.size + len(data)
        written = False
        try:
            disk.write(fd, data, self.size)
            written = True
            if sync:
                disk.sync_data(fd)
        except OSError as error:
            if written:
                # After a failed sync the kernel may have dropped the pages and say yes next time: never ask again.
                self._unusable = f"{self.path}: a sync failed ({error}); check the disk, then run the study again"
            self._cut_back(fd)
            raise LogError(
                self._unusable
                or f"{self.path} cannot take {len(data)} bytes more ({error.strerror}); everything logged before is "
                "safe: free some space and run the same command again"
            ) from error
        except BaseException:  # Ctrl-C
            self._cut_back(fd)
            raise
        self.size = size

    def _cut_back(self, fd: int) -> None:
        try:
            os.ftruncate(fd, self.size)
        except OSError as error:
            self._unusable = f"{self.path}: an append failed and could not be cut off ({error}); run the study again"

    def require_owned(self) -> None:
        """Keep the events of a journal that somebody deleted or replaced under its writer, and raise."""
        if self._file.closed:
            raise LogError(self._unusable)
        if self.owned():
            return
        if not self.path.parent.is_dir():
            self._unusable = f"{self.path.parent} is gone: {self._moved()}"
        elif not self._rescued:
            self._rescued = keep_aside(self.path, "rescued", self.read()).name
            self._unusable = (
                f"{self.path} was deleted or replaced while the study was running; its events are kept in "
                f"{self._rescued}: if no other run has the study, rename that file to {self.path.name} and run the "
                "same command again"
            )
        raise LogError(self._unusable)

    def _moved(self) -> str:
        """Where the journal is after its folder has lost its name."""
        try:
            place = os.readlink(f"/proc/self/fd/{self._file.fileno()}")
        except OSError:
            place = ""
        if not place or place.endswith(" (deleted)"):
            return "it was deleted while the study was running, and nothing more can be logged"
        return (
            f"it was moved while the study was running, and the journal is now {place}; all that was logged is there: "
            "run the study again with its log at the new place"
        )

    def cut(self) -> None:
        """Drop the events, which are in the study file now."""
        self.size = self._header_size
        os.ftruncate(self._file.fileno(), self.size)

    # -- end ------------------------------------------------------------------------------------------------------

    def remove(self) -> None:
        """Delete the journal and release the lock."""
        if self.owned():
            self.path.unlink()
            disk.sync_directory(self.path.parent)
        self.release()

    def release(self) -> None:
        """Release the lock and leave the journal, unless nothing was written to it."""
        self._stop_touching.set()
        if not self._file.closed:
            if os.fstat(self._file.fileno()).st_size == 0 and self.owned():
                self.path.unlink()
            self._file.close()
        if self._claim is not None:
            self._claim.release()

    def leave_to_parent(self) -> None:
        """In a forked child: the parent writes, and the lock must not outlive it here."""
        self.forked = True
        self._unusable = f"{self.path}: a forked process cannot write its parent's study"
        self._file.close()
        if self._claim is not None:
            self._claim.leave()


def keep_aside(path: Path, why: str, data: bytes) -> Path:
    """Write `data` beside `path`, durably and under a new name."""
    stem = f"{path.name}.{why}-{time.strftime('%Y%m%dT%H%M%S')}"
    for name in (stem, *(f"{stem}-{i}" for i in range(1, 1000))):
        try:
            fd = os.open(path.with_name(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            continue
        try:
            disk.write(fd, data, 0)
            disk.sync(fd)
        finally:
            os.close(fd)
        disk.sync_directory(path.parent)
        return path.with_name(name)
    raise LogError(f"{path.parent} holds a thousand files {stem}; look at them before going on")


def _touch(journal: "weakref.ref[Journal]", stop: threading.Event) -> None:
    """Keep a journal young: other hosts judge by its age whether the writer lives, and a training may take hours."""
    while not stop.wait(TOUCH_EVERY):
        alive = journal()
        if alive is None:
            return
        try:
            os.utime(alive._file.fileno())
            if alive._claim is not None:
                alive._claim.touch()
        except (OSError, ValueError):
            return
        del alive


_open_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def _leave_all_to_parent() -> None:
    for journal in list(_open_journals):
        journal.leave_to_parent()


os.register_at_fork(after_in_child=_leave_all_to_parent)
