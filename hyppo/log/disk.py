"""Operations of the operating system that the study file needs: sync, write, copy, reserve, type of file system."""

import contextlib
import errno
import io
import os
import re
import stat
from pathlib import Path
from typing import Any

from hyppo.errors import LogError

_NO_COPY_IN_KERNEL = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF}
_LOCAL = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "bcachefs", "f2fs", "jfs", "reiserfs", "tmpfs", "ramfs"}
_LOCAL |= {"overlay", "ntfs3", "vfat", "exfat"}


def sync(fd: int) -> None:
    os.fsync(fd)


def sync_data(fd: int) -> None:
    os.fdatasync(fd)


def sync_directory(path: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write(fd: int, data: bytes, offset: int) -> None:
    """All of `data` at `offset`: a full disk may take a part of it before it refuses the rest."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        offset += written
        view = view[written:]


class WholeFile(io.FileIO):
    """A file whose writes are whole or raise: HDF5 does not look how many bytes were taken."""

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        size = len(view)
        while view:
            view = view[super().write(view) :]
        return size


def open_regular(path: str | Path, flags: int, mode: int = 0o666) -> int:
    """Open a regular file without following a link in its last place; a pipe or a device is refused, not waited for.

    Raises
    ------
    LogError
        A link, or no regular file.
    OSError
        As `os.open`.
    """
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise LogError(f"{path} is a symbolic link, which is not followed: delete it") from error
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise LogError(f"{path} is no regular file")
    return fd


def reserve(fd: int, size: int) -> None:
    """Have the first `size` bytes of a file on the disk, or raise OSError (ENOSPC, EFBIG) now."""
    os.posix_fallocate(fd, 0, size)


def copy(source: int, target: int, size: int) -> None:
    """The first `size` bytes of one file to another; without a copy if the file system can share blocks."""
    offset = 0
    in_kernel = True
    while offset < size:
        if in_kernel:
            try:
                copied = os.copy_file_range(source, target, min(size - offset, 1 << 30), offset, offset)
            except OSError as error:
                if error.errno not in _NO_COPY_IN_KERNEL:
                    raise
                copied = 0
            # Some file systems return 0 if they cannot.
            in_kernel = copied > 0
            offset += copied
        else:
            block = os.pread(source, min(size - offset, 1 << 22), offset)
            if not block:
                raise OSError(errno.EIO, f"file ends at byte {offset} of {size}")
            write(target, block, offset)
            offset += len(block)


def give(fd: int, like: os.stat_result) -> None:
    """Give a file the owner and the group that another has, as far as this process may."""
    status = os.fstat(fd)
    if status.st_uid != like.st_uid:
        with contextlib.suppress(PermissionError):
            os.fchown(fd, like.st_uid, -1)
    if status.st_gid != like.st_gid:
        with contextlib.suppress(PermissionError):
            os.fchown(fd, -1, like.st_gid)


def boot_id() -> str:
    """Identity of the running kernel: containers of one machine share it, a restart changes it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def filesystem(path: Path) -> str:
    """Type of the file system that holds `path`; empty if the system does not tell."""
    place, kind = "", ""
    real = os.path.realpath(path)
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    for line in mounts:
        mount, _, source = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), mount.split()[4])
        # The last mount on a point hides those before it.
        if (real + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(place):
            place, kind = point, source.split()[0]
    return kind


def is_shared(path: Path) -> bool:
    """Whether other machines may write there too: all file systems but the well-known local ones."""
    return filesystem(path) not in _LOCAL
