"""Who writes a study, and the lock where a file system has none: a file that only one process can create."""

import json
import os
import socket
import time
import uuid
import weakref
from pathlib import Path

from hyppo.errors import LogError
from hyppo.log import disk

STALE_AFTER = 300.0  # seconds without a touch after which a writer that cannot be looked for counts as gone
YOUNG = 10.0  # seconds in which a process that has created a claim writes into it

Writer = dict[str, str]


def this_writer() -> Writer:
    """This process, so that others can tell whether it lives."""
    return {
        "host": socket.gethostname(),
        "pid": str(os.getpid()),
        "boot": disk.boot_id(),
        "namespace": _namespace(),
        "started": _started(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def may_live(writer: Writer, age: float) -> bool:
    """Whether a process may still write, `age` seconds after it last touched its file.

    Process numbers say something within one process namespace only: two containers may both have a process 7.
    """
    same_kernel = writer["boot"] == disk.boot_id()
    if same_kernel and writer.get("namespace", _namespace()) == _namespace():
        started = _started(int(writer["pid"]))
        return bool(started) and writer.get("started", started) == started
    if not same_kernel and writer["host"] == socket.gethostname():
        return False  # this machine, before it was restarted
    return age < STALE_AFTER


def described(writer: Writer) -> str:
    """A writer, in words."""
    who = f"process {writer['pid']} on {writer['host']} since {writer['since']}"
    if {name: writer.get(name) for name in ("pid", "boot", "namespace")} == {
        name: this_writer()[name] for name in ("pid", "boot", "namespace")
    }:
        who += " (this process: close the other study first)"
    return who


class Claim:
    """A file that says who writes a study; it is there as long as that process does.

    Raises
    ------
    LogError
        Another process has it, and is not known to be gone.
    """

    def __init__(self, path: Path, steal: bool) -> None:
        self.path = path
        # Contents tell claims apart: a file system gives the number of a deleted file to the next one.
        self._text = json.dumps(this_writer() | {"claim": str(uuid.uuid4())}).encode()
        self._create(steal)
        self._forget = weakref.finalize(self, _remove, path, self._text)

    def _create(self, steal: bool) -> None:
        for _ in range(3):
            try:
                fd = disk.open_regular(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                self._put_away(steal)
                continue
            try:
                disk.write(fd, self._text, 0)
                disk.sync(fd)
            finally:
                os.close(fd)
            return
        raise LogError(f"{self.path}: other processes open this study just now; run it in one of them only")

    def _put_away(self, steal: bool) -> None:
        """Delete the claim of a process that is gone."""
        try:
            status = self.path.lstat()
            text = self.path.read_bytes()
        except FileNotFoundError:
            return
        age = time.time() - status.st_mtime
        try:
            told = json.loads(text)
            writer = {name: str(told[name]) for name in ("host", "pid", "boot", "since")} | told
            lives, who = may_live(writer, age), described(writer)
        except (ValueError, TypeError, KeyError):
            lives, who = age < YOUNG, "another process"
        if lives and not steal:
            raise LogError(
                f"{self.path.with_suffix('')}: the study is being written by {who}, last seen {age:.0f} s ago. This "
                f"file system has no locks: if that process is gone, take over with steal=True (`--steal`) or delete "
                f"{self.path}"
            )
        aside = self.path.with_name(f"{self.path.name}.{socket.gethostname()}.{os.getpid()}")
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        if aside.read_bytes() != text:
            os.link(aside, self.path)  # another process was faster, and this is its claim
            aside.unlink()
            raise LogError(f"{self.path}: another process takes this study over just now")
        aside.unlink()

    def held(self) -> bool:
        """Whether the claim is still this one."""
        return _contents(self.path) == self._text

    def touch(self) -> None:
        """Show processes on other hosts that this one is alive."""
        if self.held():
            os.utime(self.path)

    def release(self) -> None:
        """Delete the claim."""
        self._forget()

    def leave(self) -> None:
        """Leave the claim to another process."""
        self._forget.detach()


def _remove(path: Path, text: bytes) -> None:
    if _contents(path) == text:
        path.unlink(missing_ok=True)


def _contents(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process of this namespace began, in the kernel's own ticks; empty if there is none or it has ended."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if status[0] in "ZX" else status[19]  # its parent has not waited for it yet
    except FileNotFoundError:
        return ""
    except OSError:
        return "unknown"
