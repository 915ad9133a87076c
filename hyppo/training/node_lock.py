"""A lock for the trainings of one node: one at a time prepares shared data."""

import fcntl
import getpass
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def node_lock(name: str) -> Iterator[None]:
    """Wait until no other process of this user on this node holds the lock of that name, and hold it.

    The kernel releases the lock when its holder ends, also after a kill.

    Examples
    --------
    >>> with node_lock("an example"):
    ...     pass
    """
    digest = hashlib.blake2b(f"{getpass.getuser()}\0{name}".encode(errors="surrogatepass"), digest_size=8).hexdigest()
    path = os.path.join(tempfile.gettempdir(), f"hyppo-{digest}.lock")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
